"""Agents by name: refused or set up before anything is started. Stand-ins for the agents, a fake sidecar."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from shim.agents.table import ROWS
from tests.support.fake_sidecar import LIMITS
from tests.support.place import Place, relays
from tests.support.waiting import wait_until

SHOW = """#!/bin/sh
printf '%s\\n' "$ANTHROPIC_API_KEY" "$ANTHROPIC_AUTH_TOKEN" "$@"
"""
REFUSED = [name for name, row in ROWS.items() if row.refusal]


@pytest.fixture
def programs(place: Place) -> Path:
    """A folder on PATH with a stand-in for each agent, which shows what it was given."""
    folder = place.folder / "programs"
    folder.mkdir()
    for name in (*ROWS, "claude", "npx", "sudo"):
        (folder / name).write_text(SHOW)
        (folder / name).chmod(0o755)
    place.environment["PATH"] = f"{folder}:{place.environment['PATH']}"
    return folder


def shown(done: "subprocess.CompletedProcess[str]") -> tuple[str, str, list[str]]:
    """The key, the token, and the arguments."""
    assert done.returncode == 0, done.stderr
    key, token, *arguments = done.stdout.splitlines()
    return key, token, arguments


@pytest.mark.parametrize("name", REFUSED)
def test_an_agent_that_cannot_come_here_is_refused_in_a_line_and_starts_nothing(
    name: str, place: Place, programs: Path
) -> None:
    done = place.call(name, "exec", "hi")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (69, "", 1)
    assert f"claude-local: {name} " in done.stderr and f"claude-local --local-anyway {name}" in done.stderr
    assert not place.starts()


def test_an_agent_behind_launchers_is_refused_alike(place: Place, programs: Path) -> None:
    for words in (["npx", "-y", "@openai/codex@latest"], ["env", "A=b", "codex"], ["nice", "timeout", "5", "codex"]):
        assert place.call(*words).returncode == 69
    os.symlink(programs / "codex", programs / "mine")
    assert place.call("mine").returncode == 69
    assert not place.starts()


def test_an_agent_that_would_lose_our_variables_is_refused_with_what_to_do(place: Place, programs: Path) -> None:
    for words in (["sudo", "-u", "bob", "opencode"], ["env", "-i", "opencode"], ["sudo", "claude"]):
        done = place.call(*words)
        assert (done.returncode, done.stderr.count("\n")) == (69, 1)
        assert f"{words[0]} … claude-local {words[-1]}" in done.stderr
    assert not place.starts()
    assert place.call("env", "-i", "/bin/true").returncode == 0
    assert shown(place.call("env", "-u", "EDITOR", "claude", "--print"))[2][0] == "--settings"


def test_anyway_runs_an_agent_as_it_is_and_says_so(place: Place, programs: Path) -> None:
    for name in ("codex", "opencode", "pi"):
        done = place.call("--local-anyway", name, "hi", "--model", "x")
        key, token, arguments = shown(done)
        assert (key, arguments) == ("", ["hi", "--model", "x"]) and token
        assert done.stderr.count("\n") == 1 and "not the model on this machine" in done.stderr


def test_anyway_before_another_command_means_nothing(place: Place) -> None:
    done = place.call("--local-anyway", "--", "echo", "--local-anyway")
    assert (done.returncode, done.stdout, done.stderr) == (0, "--local-anyway\n", "")


def test_an_agents_arguments_stand_before_the_users_wherever_its_name_stands(place: Place, programs: Path) -> None:
    for words in (["pi"], ["env", "A=b", "pi"], ["nice", "pi"]):
        key, token, arguments = shown(place.call(*words, "-p", "hi"))
        assert key == token
        assert (arguments[0], arguments[2:]) == ("-e", ["--model", f"claude-local/{LIMITS['model']}", "-p", "hi"])
        assert not any(token in word for word in arguments)
    _, _, arguments = shown(place.call("npx", "@earendil-works/pi-coding-agent", "-p", "hi"))
    assert (arguments[0], arguments[-2:]) == ("@earendil-works/pi-coding-agent", ["-p", "hi"])


def test_an_agents_words_that_ask_no_model_run_as_they_are(place: Place, programs: Path) -> None:
    assert shown(place.call("pi", "install", "x"))[2] == ["install", "x"]


def test_claude_code_is_known_behind_launchers_and_links(place: Place, programs: Path) -> None:
    os.symlink(programs / "claude", programs / "cc")
    for words in (["claude"], ["env", "A=b", "claude"], ["cc"]):
        key, _, arguments = shown(place.call(*words, "--print", "hi"))
        assert (key, arguments[0], arguments[-2:]) == ("", "--settings", ["--print", "hi"])
    _, _, arguments = shown(place.call("npx", "-y", "@anthropic-ai/claude-code@latest", "--print", "hi"))
    assert arguments[:3] == ["-y", "@anthropic-ai/claude-code@latest", "--settings"]


def test_the_key_is_the_token_but_in_shells_that_somebody_may_type_into(place: Place) -> None:
    show = 'printf "%s\\n" "$ANTHROPIC_API_KEY" "$ANTHROPIC_AUTH_TOKEN"'
    for words, has_key in ((["sh", "-c", show], True), (["sh"], False), (["sh", "-c", f"{show} # claude"], False)):
        key, token = place.call(*words, input=show).stdout.splitlines()
        assert (key == token) is has_key and token
        assert has_key or key == ""
    place.environment["ANTHROPIC_API_KEY"] = "sk-paid"
    assert place.call("sh", input=show).stdout.startswith("\n")


def test_an_agents_folder_stays_as_long_as_what_it_has_started_and_no_longer(place: Place, programs: Path) -> None:
    (programs / "pi").write_text('#!/bin/sh\ncat "$2"; sleep 60 >/dev/null 2>&1 & echo $!\n')
    done = place.call("pi", "hi")
    *lines, child = done.stdout.splitlines()
    assert "registerProvider" in "".join(lines)
    assert list(place.run.glob("agent-*")) and relays(place)
    os.kill(int(child), signal.SIGKILL)
    wait_until(lambda: not list(place.run.glob("agent-*")))


def test_an_agents_folder_goes_when_the_model_cannot_be_had(place: Place, programs: Path) -> None:
    place.ways(first="refused", code=69)
    assert place.call("pi", "hi").returncode == 69
    wait_until(lambda: not list(place.run.glob("agent-*")))


def test_what_a_user_has_set_for_opencode_is_kept_beneath_ours(place: Place, programs: Path) -> None:
    (programs / "opencode").write_text('#!/bin/sh\nprintf %s "$OPENCODE_CONFIG_CONTENT"\n')
    place.environment["OPENCODE_CONFIG_CONTENT"] = '{"theme": "dark", "model": "openai/big"}'
    done = place.call("opencode", "run", "hi")
    whole = json.loads(done.stdout)
    assert (whole["theme"], whole["model"]) == ("dark", f"claude-local/{LIMITS['model']}")
    assert done.stderr.count("\n") == 1 and "OPENCODE_CONFIG_CONTENT" in done.stderr
