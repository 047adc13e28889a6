"""Long sessions in a terminal: a plan and its approval, an answer broken off, a conversation made shorter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import machine
from tests.client.test_tool_loops import WORDS
from tests.conftest import FULL
from tests.support.home import SHIM, Home
from tests.support.screen import READY, Screen, trust
from tests.support.waiting import wait_until


def is_running(home: Home) -> bool:
    return bool(home.status()["requests"]["running"])


@pytest.fixture
def few() -> tuple[str, ...]:
    """Few tools, so that there is less to read; plan mode's own among them, which is otherwise found by a search."""
    return (*SHIM, "claude", "--tools", "Read,Bash,ExitPlanMode")


def test_escape_ends_an_answer_at_once_and_the_next_turn_works(home: Home) -> None:
    trust(home)
    with Screen(home, *SHIM, "--local-profile", "bare") as screen:
        screen.wait_for(READY)
        screen.submit("say river stone forever")
        screen.wait_for("river stone " * 5, "local: writing", "tokens/s")
        assert is_running(home)
        screen.press("Escape")
        wait_until(lambda: not is_running(home), 1.0 if FULL else 5.0)
        screen.wait_for("Interrupted")
        screen.submit("Hello in 5 words")
        screen.wait_for("Hello! How are you today?")


@pytest.mark.full
def test_a_plan_is_shown_for_approval_and_carried_out_afterwards(home: Home, few: tuple[str, ...]) -> None:
    trust(home)
    (home.project / "one.txt").write_text(f"{WORDS}\n")
    with Screen(home, *few, "--permission-mode", "plan") as screen:
        screen.wait_for("plan mode on")
        screen.submit("plan to read one.txt")
        screen.wait_for("My plan: read one.txt", "Exit plan mode?", "1. Yes")
        assert WORDS not in screen.text()
        screen.accept("Exit plan mode?")
        screen.wait_for(f"The file says: {WORDS}")
        assert "plan mode on" not in screen.text()


@pytest.fixture
def narrow(claude: Path) -> Iterator[Home]:
    """A home on a machine with a window so small that the client offers to make the conversation shorter at once."""
    with machine(grace=600, CLAUDE_LOCAL_CONTEXT="28000") as place:
        home = Home("home", place, claude)
        yield home
        home.close()


@pytest.mark.full
def test_a_conversation_near_the_window_is_made_shorter_and_goes_on(narrow: Home, few: tuple[str, ...]) -> None:
    trust(narrow)
    with Screen(narrow, *few) as screen:
        screen.wait_for(READY)
        screen.submit(f"say {WORDS}")
        screen.wait_for(f"● {WORDS}", "auto-compact")
        screen.submit("/compact")
        screen.wait_for("Compacted")
        screen.submit("Hello in 5 words")
        screen.wait_for("Hello! How are you today?")
