"""Claude Code as people use it: its own screen, in a terminal, from the greeting to /exit, and on from there."""

import re
from collections.abc import Iterator

import pytest

from tests.client.conftest import GRACE
from tests.client.test_claude_code import OTHER_WORDS
from tests.support.home import SHIM, Home
from tests.support.screen import READY, Screen, trust


@pytest.fixture
def screen(lonely: Home) -> Iterator[Screen]:
    trust(lonely)
    lonely.environment["CLAUDE_LOCAL_PROFILE"] = "lean"  # 4,500 tokens to read instead of 21,000
    with Screen(lonely, *SHIM, "claude") as screen:
        yield screen


def test_a_session_greets_asks_before_it_runs_shows_its_context_and_leaves_nothing(
    lonely: Home, screen: Screen
) -> None:
    screen.wait_for(READY)
    screen.submit("Hello in 5 words")
    screen.wait_for("Hello! How are you today?")

    (lonely.project / "show.sh").write_text(f"touch ran; echo {OTHER_WORDS}\n")
    screen.submit("run sh show.sh")
    screen.wait_for("Do you want to proceed?", "1. Yes")
    assert not (lonely.project / "ran").exists()
    screen.accept("Do you want to proceed?")
    screen.wait_for(f"The command printed: {OTHER_WORDS}")
    assert (lonely.project / "ran").exists()

    screen.submit("/context")
    screen.wait_for("by category", "System tools:", "Free space:")

    screen.submit("/exit")
    assert screen.wait_for_end() == 0
    last = screen.text()
    screen.close()
    lonely.machine.wait_until_empty(GRACE + 10)
    goes_on_as_printed(lonely, last)


def goes_on_as_printed(home: Home, last: str) -> None:
    """The line that people copy from the end of a session is run as it stands."""
    found = re.search(r"Resume this session with:\n(claude-local --resume \S+)\n", last)
    assert found, last
    folder = home.folder / "bin"
    folder.mkdir()
    (folder / "claude-local").write_text(f'#!/bin/sh\nexec {" ".join(SHIM)} "$@"\n')
    (folder / "claude-local").chmod(0o755)
    home.environment["PATH"] = f"{folder}:{home.environment['PATH']}"
    with Screen(home, "sh", "-c", found[1]) as screen:
        screen.wait_for("Hello! How are you today?", READY)
        screen.submit("/exit")
        assert screen.wait_for_end() == 0
