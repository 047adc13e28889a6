"""Global mode with the real Claude Code: a plain `claude`, without the prefix."""

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.home import Bait, Home
from tests.support.processes import find_relay, free_port


@pytest.fixture
def bait() -> Iterator[Bait]:
    bait = Bait()
    yield bait
    bait.close()


@pytest.fixture
def port(home: Home) -> Iterator[int]:
    """The port of global mode, which is on, for a user whose settings say something else."""
    port = free_port()
    yield port
    assert home.call("global", "off").returncode == 0


def settings(home: Home, bait: Bait) -> str:
    file = home.folder / ".claude" / "settings.json"
    file.parent.mkdir()
    env = {"ANTHROPIC_BASE_URL": bait.address, "ANTHROPIC_AUTH_TOKEN": "theirs"}
    file.write_text(json.dumps({"env": env, "theme": "light"}, indent=4))
    return file.read_text()


def turn_on(home: Home, port: int) -> None:
    result = home.call("global", "on", "--detached", "--port", str(port))
    assert result.returncode == 0, result


def test_every_terminal_is_served_and_afterwards_none(home: Home, bait: Bait, port: int) -> None:
    """Whatever the user's settings and shell said before; and off brings it back."""
    before = settings(home, bait)
    turn_on(home, port)
    elsewhere = {"ANTHROPIC_BASE_URL": bait.address, "ANTHROPIC_API_KEY": "sk-shell", "ANTHROPIC_AUTH_TOKEN": "shell"}
    result = home.run("claude", "--print", "Hello in 5 words", env={**home.environment, **elsewhere})
    assert len(result.stdout.split()) == 5, result
    assert not bait.was_taken()
    (lease,) = home.status()["leases"]
    assert (lease["port"], lease["strong"]) == (port, False)

    assert home.call("global", "off").returncode == 0
    assert (home.folder / ".claude" / "settings.json").read_text() == before
    bait.wait_for_claude(home, home.environment)


def test_the_prefix_wins_over_global_mode(home: Home, port: int) -> None:
    """It does not use the fixed port at all: here nobody listens there any more."""
    turn_on(home, port)
    os.kill(find_relay(port), signal.SIGTERM)
    result = home.call("--print", "Hello in 5 words")
    assert len(result.stdout.split()) == 5, result


def test_a_conversation_goes_on_in_a_plain_claude(home: Home, port: int) -> None:
    turn_on(home, port)
    (home.project / "notes.txt").write_text("green apples on a table\n")
    result = home.run("claude", "--print", "Read notes.txt", "--allowedTools", "Read")
    assert "green apples on a table" in result.stdout, result
