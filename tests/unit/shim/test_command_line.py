"""The command line and the command's environment."""

import json
import os
from pathlib import Path

import pytest

from shim import command_line, user_command
from shim.claude_code import environment, install
from shim.claude_code import settings as claude
from shim.commands import dispatch
from shim.errors import USAGE, Failure
from shim.lease import request, spawn
from shim.terminal import progress
from sidecar.shared.run_directory import RunDirectory


@pytest.mark.parametrize(
    ("arguments", "word", "rest"),
    [
        ([], "", ["claude"]),
        (["--print", "hi"], "", ["claude", "--print", "hi"]),
        (["--version"], "version", []),
        (["--help"], "help", []),
        (["-h"], "help", []),
        (["--help", "x"], "", ["claude", "--help", "x"]),
        (["--model", "x", "--version"], "", ["claude", "--model", "x", "--version"]),
        (["--", "--help"], "", ["--help"]),
        (["claude", "--help"], "", ["claude", "--help"]),
        (["ps"], "", ["ps"]),
        (["-p"], "", ["claude", "-p"]),
        (["ls", "-l"], "", ["ls", "-l"]),
        (["status"], "status", []),
        (["status", "--json"], "status", ["--json"]),
        (["stop", "--now"], "stop", ["--now"]),
        (["help"], "help", []),
        (["version"], "version", []),
        (["--", "status"], "", ["status"]),
        (["--", "ls", "--", "x"], "", ["ls", "--", "x"]),
        (["--"], "", ["claude"]),
        (["statuss"], "", ["statuss"]),
        ([""], "", [""]),
    ],
)
def test_words_of_ours_come_first_and_the_rest_is_a_command(arguments: list, word: str, rest: list) -> None:
    assert command_line.split(arguments) == (word, rest)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("statsu", "did you mean claude-local status?"),
        ("Help", "did you mean claude-local help?"),
        ("versoin", "did you mean claude-local version?"),
        ("list", "claude-local models lists the models"),
        ("login", "claude-local needs no account"),
        ("zsh", ""),
    ],
)
def test_a_command_that_is_not_there_may_be_a_word_of_ours_or_another_programs(word: str, hint: str) -> None:
    assert command_line.hint(word) == hint


def test_a_command_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    (first / "tool").write_text("not executable")
    (second / "tool").write_text("#!/bin/sh\n")
    (second / "tool").chmod(0o755)
    (first / "data").write_text("")
    (first / "folder").mkdir()
    path = f"{first}:{second}"
    assert user_command.find("tool", path) == str(second / "tool")
    assert user_command.find(str(second / "tool"), "") == str(second / "tool")
    assert user_command.find("sh", None).endswith("/sh")
    for name, code in {
        "data": 126,
        "folder": 127,
        str(first): 126,
        str(first / "data"): 126,
        "absent": 127,
        str(first / "absent"): 127,
        "": 127,
    }.items():
        with pytest.raises(Failure) as caught:
            user_command.find(name, path)
        assert caught.value.exit_code == code, name


def test_the_environment_is_the_users_plus_ours() -> None:
    base = {"HOME": "/h", "ANTHROPIC_API_KEY": "sk-secret", "CLAUDE_CODE_USE_BEDROCK": "1"}
    added = environment.ours(4711, "cl-t", "phi", 8192, 1024)
    whole = environment.environment(base, added)
    assert whole["HOME"] == "/h"
    assert whole["ANTHROPIC_API_KEY"] == ""
    assert "CLAUDE_CODE_USE_BEDROCK" not in whole
    assert whole["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:4711"
    assert whole["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "8192"
    assert whole["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "1024"
    assert {name for name in whole if name.endswith("_MODEL")} >= {
        f"ANTHROPIC_DEFAULT_{family}_MODEL" for family in ("OPUS", "SONNET", "HAIKU", "FABLE")
    }
    assert base["ANTHROPIC_API_KEY"] == "sk-secret"


@pytest.mark.parametrize(
    ("base", "upper", "lower"),
    [
        ({}, "127.0.0.1,localhost", "127.0.0.1,localhost"),
        ({"NO_PROXY": "a.org"}, "a.org,127.0.0.1,localhost", "a.org,127.0.0.1,localhost"),
        ({"NO_PROXY": "a", "no_proxy": "b"}, "a,127.0.0.1,localhost", "b,127.0.0.1,localhost"),
        ({"no_proxy": "localhost, b"}, "localhost,b,127.0.0.1", "localhost,b,127.0.0.1"),
        ({"NO_PROXY": "*"}, "*", "*"),
    ],
)
def test_the_proxy_exceptions_are_extended_never_replaced(base: dict, upper: str, lower: str) -> None:
    assert environment.no_proxy(base) == {"NO_PROXY": upper, "no_proxy": lower}


@pytest.mark.parametrize(
    ("arguments", "rest", "given"),
    [
        (["-p", "hi"], ["-p", "hi"], None),
        (["--settings", "a.json", "-p"], ["-p"], "a.json"),
        (["--settings={}", "-p"], ["-p"], "{}"),
        (["--settings", "a", "--settings=b"], [], "b"),
        (["-p", "--", "--settings", "a"], ["-p", "--", "--settings", "a"], None),
        (["--settings"], [], ""),
    ],
)
def test_the_users_settings_are_taken_out_of_the_arguments(arguments: list, rest: list, given: str | None) -> None:
    assert command_line.take_option("--settings", arguments) == (rest, given)


def test_settings_are_merged_and_only_our_names_win() -> None:
    theirs = {"env": {"A": "1", "ANTHROPIC_BASE_URL": "https://elsewhere"}, "permissions": {"allow": ["Read"]}, "x": 1}
    merged = claude.merge(theirs, {"ANTHROPIC_BASE_URL": "http://here"}, auto_mode=False)
    assert merged["env"]["A"] == "1"
    assert merged["env"]["ANTHROPIC_BASE_URL"] == "http://here"
    assert merged["env"]["CLAUDE_CODE_USE_BEDROCK"] == ""
    assert merged["permissions"] == {"allow": ["Read"], "disableAutoMode": "disable"}
    assert merged["x"] == 1
    assert theirs["env"]["ANTHROPIC_BASE_URL"] == "https://elsewhere"


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--permission-mode", "auto"], True),
        (["--permission-mode=auto"], True),
        (["--permission-mode", "plan"], False),
        (["auto"], False),
        ([], False),
    ],
)
def test_auto_mode_stays_when_it_was_asked_for(arguments: list, asked: bool) -> None:
    assert claude.wants_auto_mode(arguments) is asked
    assert ("permissions" not in claude.merge({}, {}, asked)) is asked


def test_auto_mode_in_the_users_settings_counts_as_asked() -> None:
    theirs = {"permissions": {"defaultMode": "auto"}}
    assert claude.merge(theirs, {}, False)["permissions"] == {"defaultMode": "auto"}


@pytest.mark.parametrize(("text", "code"), [("{broken", 64), ("[1]", 64), (None, 66)])
def test_settings_that_cannot_be_used_are_named(tmp_path: Path, text: str | None, code: int) -> None:
    file = tmp_path / "settings.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Failure) as caught:
        claude.read_settings(str(file))
    assert caught.value.exit_code == code
    assert str(file) in caught.value.reason
    assert "\n" not in caught.value.reason


def test_settings_that_are_left_out_are_asked_for() -> None:
    with pytest.raises(Failure, match="needs a file's name"):
        claude.read_settings("")


def test_settings_may_be_the_json_itself() -> None:
    assert claude.read_settings(' {"a": 1}') == {"a": 1}
    assert claude.read_settings('\ufeff{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("data", "table"),
    [
        (b'\xef\xbb\xbf{"a": "b"}', {"a": "b"}),
        ('{"a": "\u00e9"}'.encode("utf-16"), {"a": "\u00e9"}),
        (b'{"a": "\xe9"}', {"a": "\ufffd"}),
        (b"", {}),
        (b" \r\n", {}),
    ],
)
def test_a_settings_file_is_read_however_an_editor_has_written_it(tmp_path: Path, data: bytes, table: dict) -> None:
    """Claude Code alone reads each of these."""
    file = tmp_path / "settings.json"
    file.write_bytes(data)
    assert claude.read_settings(str(file)) == table


def test_a_settings_file_of_ours_that_is_gone_is_nobodys_settings(tmp_path: Path) -> None:
    """It stands in a line that some versions of Claude Code print, and that people copy."""
    gone = tmp_path / "claude-settings-1-abcdef.json"
    settings = claude.Settings(["--settings", str(gone), "--resume", "x"], RunDirectory(tmp_path))
    assert settings.arguments({}, [])[2:] == ["--resume", "x"]
    os.close(settings.held[1])
    for other in (tmp_path / "mine.json", tmp_path / "deep" / gone.name):
        with pytest.raises(Failure, match="No such file"):
            claude.Settings(["--settings", str(other)], RunDirectory(tmp_path))


def test_the_line_that_goes_on_with_a_conversation_names_us_unless_the_user_named_another() -> None:
    assert claude.resumed({}) == {claude.RESUME: "claude-local"}
    assert claude.resumed({claude.RESUME: "mine"}) == {}


def test_a_status_line_of_ours_is_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    for given, ours in (([], True), (["--settings", '{"statusLine": {"type": "command", "command": "date"}}'], False)):
        settings = claude.Settings(given, RunDirectory(tmp_path), str(tmp_path))
        table = json.loads(Path(settings.arguments({}, [])[1]).read_text())
        assert ("line-" in table["statusLine"]["command"]) is settings.has_line is ours
        os.close(settings.held[1])


def test_the_settings_file_is_private_and_swept_only_when_nobody_holds_it(tmp_path: Path) -> None:
    settings = claude.Settings(["--settings", '{"x": 1}', "-p", "hi"], RunDirectory(tmp_path))
    arguments = settings.arguments({"ANTHROPIC_MODEL": "m"}, ["--bare"])
    assert arguments[0] == "--settings"
    assert arguments[2:] == ["--bare", "-p", "hi"]
    file = Path(arguments[1])
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["env"]["ANTHROPIC_MODEL"] == "m"
    os.utime(file, (0, 0))
    claude.sweep(tmp_path)
    assert file.exists()
    os.close(settings.held[1])
    claude.sweep(tmp_path)
    assert not file.exists()


def test_the_sidecar_gets_no_secrets_and_no_relative_places() -> None:
    base = {
        "HOME": "/h",
        "ANTHROPIC_API_KEY": "sk-secret",
        "GITHUB_TOKEN": "x",
        "HF_HOME": "/hf",
        "LC_ALL": "C",
        "https_proxy": "p",
        "PYTHONPATH": "/evil",
        "CLAUDE_LOCAL_LOG_DIR": "logs",
        "CLAUDE_LOCAL_DATA_DIR": "/data",
    }
    assert spawn.environment(base, "/here") == {
        "HOME": "/h",
        "HF_HOME": "/hf",
        "LC_ALL": "C",
        "https_proxy": "p",
        "CLAUDE_LOCAL_LOG_DIR": "/here/logs",
        "CLAUDE_LOCAL_DATA_DIR": "/data",
    }


def test_a_model_is_a_path_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "org/name"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    (tmp_path / "phi-3-mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert request.model_name("mine") == str(tmp_path / "mine")
    assert request.model_name("org/name") == str(tmp_path / "org/name")
    assert request.model_name("./absent") == str(tmp_path / "absent")
    for name in ("phi-3-mini", "org/other", "demo"):
        assert request.model_name(name) == name


def test_progress_is_a_bar_or_a_tenth() -> None:
    assert progress.bar("x", 0, 0) == "claude-local: x …"
    assert progress.bar("x", 500_000_000, 2_000_000_000).endswith("]  25% of 2.00 GB")
    fast = progress.bar("downloading a model", 500_000_000, 2_000_000_000, 10e6)
    assert fast.endswith("]  25% of 2.00 GB, 10 MB/s, 2 min left") and len(fast) < 80
    long = progress.bar("downloading someone/with-a-very-long-name-4bit", 5, 2_000_000_000, 1e6)
    assert long.endswith("-…   0% of 2.00 GB, 1.0 MB/s, 33 min left") and len(long) < 80
    assert all(len(progress.bar("x" * 20, 5, 2_000_000_000, 1e6, columns)) < columns for columns in range(5, 120))
    assert [progress.tenth(done, 100) for done in (0, 9, 10, 99, 100, 120)] == [
        "0 %",
        "0 %",
        "10 %",
        "90 %",
        "100 %",
        "100 %",
    ]


def test_the_end_of_npms_log_is_its_reason_not_its_hint() -> None:
    said = "npm error code ENOTFOUND\nnpm error network x\n\nnpm error A complete log of this run can be found in: y\n"
    assert install.last_lines(said) == "npm error code ENOTFOUND\nnpm error network x"
    assert install.last_lines("") == ""
    assert install.ending(1) == "with status 1"
    assert install.ending(-9) == "by SIGKILL (too little memory?)"


@pytest.mark.parametrize("word", command_line.OURS)
def test_each_word_has_help_with_examples_of_its_own(word: str, capsys: pytest.CaptureFixture) -> None:
    assert dispatch.run("help", [word]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: claude-local {word}")
    for line, purpose in dispatch.verb(word).EXAMPLES:
        assert f"claude-local {word}" in line and line in shown and purpose in shown
    assert all(len(line) <= 80 for line in shown.splitlines()), "a terminal would break it anywhere"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (["status", "--jsn"], "unrecognized arguments: --jsn (did you mean --json?)"),
        (["stop", "now"], "unrecognized arguments: now (did you mean --now?)"),
        (["cache", "claer"], "(did you mean clear?)"),
        (["help", "statsu"], "(did you mean status?)"),
        (["version", "--x"], "unrecognized arguments: --x. See: claude-local version --help"),
    ],
)
def test_a_mistyped_argument_is_one_line_with_the_nearest_right_one(line: list, hint: str) -> None:
    with pytest.raises(Failure) as caught:
        dispatch.run(line[0], line[1:])
    assert caught.value.exit_code == USAGE
    assert hint in caught.value.reason
    assert "\n" not in caught.value.reason
