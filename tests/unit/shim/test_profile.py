"""How much of its prompt Claude Code sends: as much as window and speed can bear, or as its user says."""

import pytest

from shim.claude_code import profile
from shim.claude_code.profile import PATIENCE_S, PROFILES
from shim.errors import Failure


@pytest.mark.parametrize(
    ("window", "speed", "chosen"),
    [
        (131_072, 0, "full"),
        (24_576, 0, "full"),
        (23_000, 0, "lean"),
        (9_000, 0, "lean"),
        (8_000, 0, "bare"),
        (4_096, 0, "bare"),
        (131_072, 200, "full"),
        (131_072, 199, "lean"),
        (131_072, 75, "lean"),
        (131_072, 74, "bare"),
        (131_072, 1, "bare"),
        (9_000, 5_000, "lean"),
        (0, 0, "full"),
    ],
)
def test_the_largest_that_window_and_speed_bear_is_chosen(window: int, speed: int, chosen: str) -> None:
    assert profile.choose("auto", window, speed) == chosen


@pytest.mark.parametrize("name", PROFILES)
def test_what_the_user_says_is_done_whatever_it_takes(name: str) -> None:
    assert profile.choose(name, 4096, 1) == name


def test_the_reason_and_the_way_back_are_said_in_one_line() -> None:
    assert "the window has 8,000 tokens" in profile.explained("bare", 8_000, 0)
    slow = profile.explained("lean", 131_072, int(12_000 / PATIENCE_S) - 1)
    assert "199 tokens a second" in slow and "--local-profile full" in slow and "\n" not in slow


@pytest.mark.parametrize(
    ("given", "rest", "name"),
    [
        (["-p", "hi"], ["-p", "hi"], "auto"),
        (["--local-profile", "lean", "-p", "hi"], ["-p", "hi"], "lean"),
        (["-p", "--local-profile=bare", "hi"], ["-p", "hi"], "bare"),
        (["--local-profile", "lean", "--local-profile=full"], [], "full"),
        (["--", "--local-profile", "lean"], ["--", "--local-profile", "lean"], "auto"),
    ],
)
def test_the_option_may_stand_anywhere_before_a_double_dash(given: list[str], rest: list[str], name: str) -> None:
    assert profile.take(given, "auto") == (rest, name)


def test_a_profile_that_cannot_fit_is_said_before_the_client_says_so() -> None:
    assert "12,000 tokens and the window has 8,192" in profile.remark("full", "full", 8_192, 0)
    assert "longer window" in profile.remark("auto", "bare", 900, 0)
    assert profile.remark("full", "full", 131_072, 0) == profile.remark("auto", "full", 131_072, 0) == ""
    assert profile.remark("auto", "bare", 8_000, 0) == profile.explained("bare", 8_000, 0)


@pytest.mark.parametrize("given", [["--local-profile"], ["--local-profile", "lena"], ["--local-profile="]])
def test_another_name_is_refused_with_those_there_are(given: list[str]) -> None:
    with pytest.raises(Failure, match="auto, full, lean, bare"):
        profile.take(given, "auto")


def test_the_users_own_choice_of_tools_is_not_overridden() -> None:
    assert profile.arguments("lean", ["-p", "hi"]) == ["--tools=Bash,Read,Edit,Write,Grep,Glob"]
    assert profile.arguments("lean", ["--tools", "Read", "hi"]) == []
    assert profile.arguments("lean", ["--tools=Read"]) == []
    assert profile.arguments("bare", ["--bare"]) == []
    assert profile.arguments("full", []) == []


def test_variables_that_the_user_has_set_stay() -> None:
    name = "CLAUDE_CODE_DISABLE_AUTO_MEMORY"
    assert profile.variables("lean", {})[name] == "1"
    assert name not in profile.variables("lean", {name: "0"})
