"""Claude Code as people use it: its own screen, in a terminal, from the greeting to /exit."""

from collections.abc import Iterator

import pytest

from tests.client.conftest import GRACE
from tests.client.home import SHIM, Home
from tests.client.screen import Screen, trust
from tests.client.test_claude_code import OTHER_WORDS


@pytest.fixture
def screen(lonely: Home) -> Iterator[Screen]:
    trust(lonely)
    with Screen(lonely, *SHIM, "claude") as screen:
        yield screen


def test_a_session_greets_asks_before_it_runs_shows_its_context_and_leaves_nothing(
    lonely: Home, screen: Screen
) -> None:
    screen.wait_for("? for shortcuts")
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
    screen.wait_for("Estimated usage by category", "System tools:", "Free space:")

    screen.submit("/exit")
    assert screen.wait_for_end() == 0
    screen.close()
    lonely.machine.wait_until_empty(GRACE + 10)
