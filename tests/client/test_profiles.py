"""What the real Claude Code sends with each profile, and that it still works. The sizes are those that README names."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.models.read_speeds import Speeds
from tests.client.conftest import machine
from tests.client.recorder import Recorder
from tests.support.home import MODEL, SHIM, Home
from tests.support.screen import Screen, trust

FILE_TEXT = "green apples on a table"
BASE = {"Bash", "Edit", "Read"}
SIX = BASE | {"Write", "Grep", "Glob"}

EACH = pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [
        pytest.param("full", 42_000, 56_000, marks=pytest.mark.full),
        pytest.param("lean", 14_000, 21_000, marks=pytest.mark.full),
        ("bare", 3_000, 6_000),
    ],
)
"""Bytes of the first request. The client's next version may send a little more or less; not another order."""


@pytest.fixture
def recorder(home: Home, claude: Path) -> Iterator[Recorder]:
    with Recorder(home, claude) as recorder:
        yield recorder


def tools(body: dict[str, object]) -> set[str]:
    listed = body["tools"]
    assert isinstance(listed, list)
    return {tool["name"] for tool in listed} - {"DeferredToolPlaceholder"}


@EACH
def test_a_profile_sends_what_it_says_and_tools_still_work(
    home: Home, recorder: Recorder, name: str, smallest: int, largest: int
) -> None:
    (home.project / "notes.txt").write_text(f"{FILE_TEXT}\n")
    result = home.call("--local-profile", name, "--print", "Read notes.txt", "--allowedTools", "Read")
    assert result.returncode == 0 and FILE_TEXT in result.stdout, result
    assert "claude-local:" not in result.stderr  # who asks for it need not be told
    (size, first), (_, second), *_ = recorder.messages()
    assert smallest <= size <= largest
    assert ("Agent" in tools(first)) if name == "full" else (tools(first) == {"lean": SIX, "bare": BASE}[name])
    assert FILE_TEXT in json.dumps(second["messages"])


def test_it_may_be_said_by_a_variable_and_among_the_arguments(home: Home, recorder: Recorder) -> None:
    home.environment["CLAUDE_LOCAL_PROFILE"] = "bare"
    assert home.call("--print", "Hello in 5 words").returncode == 0
    assert home.call("--print", "Hello in 5 words", "--local-profile=lean").returncode == 0
    (bare, _), (lean, _) = recorder.messages()
    assert bare < 6_000 < lean < 21_000


@pytest.mark.full
def test_the_users_own_tools_are_the_ones_that_are_sent(home: Home, recorder: Recorder) -> None:
    result = home.call("--local-profile", "lean", "--tools", "Read", "--print", "Hello in 5 words")
    assert result.returncode == 0
    [(_, body)] = recorder.messages()
    assert tools(body) == {"Read"}


def test_words_of_claude_codes_own_are_not_disturbed(home: Home) -> None:
    for name in ("full", "lean", "bare"):
        result = home.call("--local-profile", name, "mcp", "list")
        assert result.returncode == 0 and "No MCP servers" in result.stdout, result


def test_the_barest_one_works_on_a_terminal_too(home: Home) -> None:
    trust(home)
    with Screen(home, *SHIM, "--local-profile", "bare") as screen:
        screen.wait_for("\u276f")
        screen.submit("run echo river stone lamp")
        screen.wait_for("The command printed: river stone lamp")


def test_a_short_window_chooses_a_smaller_prompt_and_says_so_once(claude: Path, read: Path) -> None:
    surroundings = {
        "CLAUDE_LOCAL_CONTEXT": "16000",
        "CLAUDE_LOCAL_PROFILE": "auto",
        "CLAUDE_LOCAL_DISK_CACHE": str(read),
    }
    with machine(grace=600, **surroundings) as place:
        home = Home("home", place, claude)
        with Recorder(home, claude) as recorder:
            result = home.call("--print", "Hello in 5 words")
            [(size, _)] = recorder.messages()
        assert result.returncode == 0 and size < 21_000
        said = [line for line in result.stderr.splitlines() if line.startswith("claude-local:")]
        assert said == [
            "claude-local: lean prompts (six tools; no subagents, skills or memory of its own), since the window has "
            "16,000 tokens; all of it: --local-profile full, or CLAUDE_LOCAL_PROFILE=full"
        ]
        home.close()


@pytest.mark.full
def test_the_speed_is_measured_and_a_slow_one_is_remembered(lonely: Home) -> None:
    """Measured by the sidecar on a whole first prompt; then made slow by hand, as no machine of the tests' is."""
    lonely.environment |= {"CLAUDE_LOCAL_PROFILE": "auto", "CLAUDE_LOCAL_DISK_CACHE": "off"}
    assert "claude-local:" not in lonely.call("--print", "Hello in 5 words").stderr
    speeds = Speeds(lonely.machine.folder / "data" / "speeds.json")
    assert speeds.best(MODEL) > 0
    (lonely.machine.folder / "data" / "speeds.json").write_text(json.dumps({MODEL: 100}))
    said = lonely.call("--print", "Hello in 5 words").stderr
    assert "lean prompts" in said and "this machine reads 100 tokens a second" in said
