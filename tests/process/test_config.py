"""`claude-local config`: what counts, who said so, and what is misspelt."""

import json
from collections.abc import Iterator

import pytest

from tests.client.conftest import machine
from tests.support.home import Home


@pytest.fixture
def user() -> Iterator[Home]:
    with machine(grace=2) as place:
        yield Home("home", place)


def write(user: Home, text: str) -> None:
    file = user.folder / ".config" / "claude-local" / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_each_setting_says_where_it_comes_from(user: Home) -> None:
    write(user, "unload = 60  # mine\nmodel = 'phi-3-mini'\n")
    table = json.loads(user.call("config", "--json").stdout)
    assert table["file"] == str(user.folder / ".config/claude-local/config.toml")
    found = table["settings"]
    assert found["unload"] == {"value": 60, "from": table["file"]}
    assert found["model"] == {"value": "demo", "from": "CLAUDE_LOCAL_MODEL"}
    assert found["context"] == {"value": 0, "from": "default"}
    shown = user.call("config").stdout.splitlines()
    assert any(line.split() == ["unload", "60", "config.toml"] for line in shown)
    user.environment.pop("CLAUDE_LOCAL_DATA_DIR")
    usual = ["data_dir", str(user.folder / ".local/share/claude-local"), "default"]
    assert any(line.split() == usual for line in user.call("config").stdout.splitlines())


def test_set_and_unset_change_one_line_and_nothing_else(user: Home) -> None:
    text = "# my settings\nunload = 60  # mine\n"
    write(user, text)
    file = user.folder / ".config" / "claude-local" / "config.toml"
    assert user.call("config", "set", "profile", "lean").returncode == 0
    assert file.read_text() == f'{text}profile = "lean"\n'
    assert user.call("config", "set", "unload", "never").stdout == "unload = never\n"
    assert user.call("config", "unset", "profile").returncode == 0
    assert file.read_text() == text.replace("60", '"never"')
    wins = user.call("config", "set", "grace", "9")
    assert "CLAUDE_LOCAL_GRACE is set in this shell, and wins" in wins.stderr


@pytest.mark.parametrize(
    ("text", "variables", "code", "says"),
    [
        ("modle = 'x'\n", {}, 78, "unknown key 'modle': did you mean model?"),
        ("banana = 1\n", {}, 78, "unknown key 'banana': take it out"),
        (
            "",
            {"CLAUDE_LOCAL_MODLE": "x"},
            0,
            "CLAUDE_LOCAL_MODLE is no variable of ours: did you mean CLAUDE_LOCAL_MODEL?",
        ),
        ("", {"CLAUDE_LOCAL_BANANA": "x"}, 0, "CLAUDE_LOCAL_BANANA is no variable of ours: it is ignored"),
        ("grace = 'soon'\n", {}, 78, "grace: 'soon' is not a number of seconds"),
        ("grace = \n", {}, 78, "config.toml"),
        ("", {"CLAUDE_LOCAL_PROFILE": "thin"}, 78, "profile: 'thin' is none of auto, full, lean, bare"),
    ],
)
def test_what_is_wrong_is_named(user: Home, text: str, variables: dict[str, str], code: int, says: str) -> None:
    write(user, text)
    user.environment |= variables
    user.environment.pop("CLAUDE_LOCAL_GRACE")
    result = user.call("config")
    assert result.returncode == code and says in result.stderr, result
    assert result.stderr.count("\n") == 1


def test_a_misspelt_variable_is_named_where_a_command_is_started(user: Home) -> None:
    """Not one that only begins like ours: it may be a program's of the user's own."""
    user.environment |= {"CLAUDE_LOCAL_CONTXT": "5000", "CLAUDE_LOCAL_BANANA": "x"}
    result = user.call("true")
    assert result.returncode == 0
    assert result.stderr == "claude-local: CLAUDE_LOCAL_CONTXT means nothing: did you mean CLAUDE_LOCAL_CONTEXT?\n"


def test_a_misspelt_key_stops_every_command_with_the_right_one(user: Home) -> None:
    write(user, "modle = 'x'\n")
    for words in (["true"], ["status"], ["models"]):
        result = user.call(*words)
        assert result.returncode == 78 and "unknown key 'modle'; did you mean model?" in result.stderr
