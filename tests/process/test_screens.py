"""What each word looks like: in a terminal of 80 and of 200 columns, with and without colour, and in a pipe.

The screens are kept as text in `screens/`. What differs from run to run (pids, ports, times, sizes) is replaced by
marks first. A changed screen is looked at, then kept: run this file once with CLAUDE_LOCAL_TEST_SCREENS=update.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.client.conftest import machine
from tests.support.home import SHIM, Home
from tests.support.screen import Screen
from tests.support.waiting import wait_until

KEPT = Path(__file__).parent / "screens"
UPDATE = os.environ.get("CLAUDE_LOCAL_TEST_SCREENS") == "update"
LINES = 100
WIDTHS = (80, 200)


class Word(NamedTuple):
    """A command line of ours. Its screens are kept under its words, put together by hyphens."""

    words: str
    where: str = "quiet"
    """Which of the fixtures below it is said in."""

    @property
    def name(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self.words} {self.where.removeprefix('quiet')}".lower()).strip("-")


WORDS = [
    Word("help"),
    Word("help status"),
    Word("version"),
    Word("list"),
    Word("statsu"),
    Word("status"),
    Word("status", "busy"),
    Word("status --watch --json"),
    Word("status --jsn"),
    Word("doctor --help"),
    Word("doctor run-directory stale sidecar port"),
    Word("doctor modle"),
    Word("models"),
    Word("models --help"),
    Word("models show phi-3-mini"),
    Word("run --help"),
    Word("models pull"),
    Word("models use phi-3-mni"),
    Word("config"),
    Word("config --help"),
    Word("config set grace soon"),
    Word("stop"),
    Word("cache"),
    Word("run --max-tokens 3 Hello in 5 words", "used"),
    Word("run --modle demo hello"),
    Word("bench --help"),
    Word("bench", "used"),
    Word("logs"),
    Word("logs sidcar"),
    Word("logs -n 0", "used"),
    Word("global"),
    Word("global --help"),
    Word("global off"),
    Word("global on --port 80"),
    Word("serve --help"),
    Word("uninstall --help"),
    Word("uninstall --dry-run"),
]

MARKS = [
    (r"/tmp/cl-\w{8}", "/tmp/cl-xxxxxxxx"),
    (r"\bpid \d+", "pid N"),
    (r"\bport \d+", "port N"),
    (r"\b\d{4,7}\b", "N"),
    (r"\b\d[\d.,]*( of \d[\d.,]*)? (GB|MB)\b( of \d[\d.,]* GB)?", "N GB"),
    (r"\b\d[\d.]* (s|ms|min|h|d)( \d+ (s|min|h))?\b", "T"),
    (r"\b\d[\d.,]* (tokens|tokens/s|%)(?= |,|$)", r"N \1"),
    (r"\b\d+k(, \d-bit)?(?= |$)", "Nk"),
    (r"[━─]{5,}", "BAR"),
    (r"BAR  (safe|caution|critical),", "BAR  LEVEL,"),
]
"""What differs from run to run, and what stands for it."""
HEADING = re.compile(r" *(terminal|request|last prompt|prompt|streams)  .*")


def settled(text: str) -> str:
    """A screen without what differs from run to run; where there was some, columns have no width any more."""
    return "".join(f"{_settled(line.rstrip())}\n" for line in text.rstrip().splitlines())


def _settled(line: str) -> str:
    marked = line
    for pattern, mark in MARKS:
        marked = re.sub(pattern, mark, marked)
    # A table's columns are as wide as what is in them.
    return line if marked == line and not HEADING.fullmatch(line) else re.sub(r" {2,}", "  ", marked).strip()


def compare(name: str, text: str) -> None:
    """Hold a screen against the one that is kept, or keep it."""
    file = KEPT / f"{name}.txt"
    if UPDATE:
        file.write_text(text)
    assert text == (file.read_text() if file.exists() else ""), f"{file} differs: see this module's first lines"


def screen_of(home: Home, words: str, columns: int, **environment: str) -> tuple[str, str]:
    """The screen once the word is done, as text and with its colours. The last line is the exit code."""
    settings = [f"{name}={value}" for name, value in environment.items()]
    line = f'{" ".join(SHIM)} {words}; echo "exit code $?"; exec sleep 600'
    with Screen(home, "env", *settings, "sh", "-c", line, columns=columns, lines=LINES) as screen:
        screen.wait_for("exit code")
        return screen.text(), screen.colours()


@contextmanager
def few_cores() -> Iterator[None]:
    """What is started meanwhile sees two of them at most; no such thing on macOS, where a GPU counts."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def quiet() -> Iterator[Home]:
    """A user for whom nothing runs, with as much memory and as few cores as small machines have, so that the same
    models fit."""
    with few_cores(), machine(grace=2, CLAUDE_LOCAL_MEMORY_LIMIT_GB="8") as place:
        yield Home("home", place, fresh=True)


@pytest.fixture(scope="module")
def busy() -> Iterator[Home]:
    """A user with a terminal open and a model in memory that has answered once. Nothing more is asked of it."""
    with machine(grace=600) as place:
        home = Home("home", place)
        terminal = home.start("sh", "-c", "echo open; read line")
        assert terminal.stdout is not None and terminal.stdout.readline() == b"open\n"
        assert home.call("run", "Hello in 5 words").returncode == 0
        yield home
        home.close()


@pytest.fixture(scope="module")
def used() -> Iterator[Home]:
    """A user whose model has a small window and is asked things."""
    with machine(grace=600, CLAUDE_LOCAL_CONTEXT="2048") as place:
        yield Home("home", place)


@pytest.fixture(params=WORDS, ids=lambda word: word.name)
def shown(request: pytest.FixtureRequest) -> tuple[Word, Home]:
    word: Word = request.param
    return word, request.getfixturevalue(word.where)


@pytest.mark.parametrize("columns", [WIDTHS[0], pytest.param(WIDTHS[1], marks=pytest.mark.full)])
def test_a_word_on_a_terminal(shown: tuple[Word, Home], columns: int) -> None:
    word, home = shown
    text, _ = screen_of(home, word.words, columns)
    compare(f"{word.name}-{columns}", settled(text))


@pytest.mark.full
def test_a_word_without_colour_says_the_same(shown: tuple[Word, Home]) -> None:
    """Colour repeats what the words say."""
    word, home = shown
    text, colours = screen_of(home, word.words, WIDTHS[0], NO_COLOR="1")
    compare(f"{word.name}-{WIDTHS[0]}", settled(text))
    assert not re.findall(r"\x1b\[[\d;]*\b[349][0-8]\b[\d;]*m", colours)


def test_a_word_in_a_pipe(shown: tuple[Word, Home]) -> None:
    word, home = shown
    result = home.call(*word.words.split())
    assert "\x1b" not in result.stdout + result.stderr
    compare(f"{word.name}-piped", settled(result.stdout + result.stderr))


def watching(home: Home, columns: int) -> Screen:
    """The live screen, drawn for the first time. A shell around it says how it ended, and whether keys show again."""
    line = f'trap : INT; {" ".join(SHIM)} status --watch; echo "exit code $?"; stty -a; exec sleep 600'
    screen = Screen(home, "sh", "-c", line, columns=columns, lines=30)
    screen.wait_for("q leaves")
    return screen


def test_the_live_screen_is_stopped_and_goes_on(quiet: Home) -> None:
    """As a shell with job control does it."""
    line = f'set -m; {" ".join(SHIM)} status --watch; stty -a; read line; fg; echo "exit code $?"; exec sleep 600'
    with Screen(quiet, "sh", "-c", line, columns=WIDTHS[0], lines=30) as screen:
        screen.wait_for("q leaves")
        screen.press("C-z")
        screen.wait_for("speed", " echo ")
        screen.press("Enter")
        screen.wait_for("q leaves")
        screen.press("q")
        screen.wait_for("exit code 0")


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_live_screen_and_its_end(busy: Home, columns: int) -> None:
    with watching(busy, columns) as screen:
        compare(f"status-watch-{columns}", settled(screen.wait_for("terminal  ")))
        screen.press("q")
        screen.wait_for("exit code 0", "speed", " echo ")


def test_the_live_screen_on_a_terminal_that_is_resized(busy: Home) -> None:
    with watching(busy, WIDTHS[1]) as screen:
        for columns in (WIDTHS[0], 20, WIDTHS[1]):
            screen.resize(columns, 30)
            if columns in WIDTHS:
                kept = (KEPT / f"status-watch-{columns}.txt").read_text()
                wait_until(lambda: settled(screen.text()) == kept)  # noqa: B023  # called at once
        screen.press("C-c")
        screen.wait_for("exit code 0", "speed", " echo ")


def test_the_live_screen_waits_for_a_sidecar_and_says_when_it_is_gone() -> None:
    with machine(grace=0) as place:
        home = Home("home", place)
        with watching(home, WIDTHS[0]) as screen:
            screen.wait_for("nothing runs")
            home.start("sh", "-c", "read line")
            screen.wait_for("terminal  ", "~/project")
            home.close()
            screen.wait_for("nothing runs")


def test_the_live_screen_needs_a_terminal(quiet: Home) -> None:
    result = quiet.call("status", "--watch")
    assert (result.returncode, result.stdout) == (64, "")
    assert "needs a terminal" in result.stderr
