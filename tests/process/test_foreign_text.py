"""Text of others' that reaches a terminal or a log, and a Ctrl-C that comes very early."""

import signal
import sys
from collections.abc import Iterator

import pytest

from shim import errors
from tests.client.conftest import machine
from tests.conftest import FULL
from tests.support.home import SHIM, Home
from tests.support.screen import Screen
from tests.support.waiting import wait_until

NASTY = "a\x1b[2Jb\nc\x1b]0;title\x07"
"""A folder's name: it clears the screen, begins a line, and names the window."""


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with machine(grace=600) as place:
        home = Home("home", place)
        yield home
        home.close()


def test_a_folders_name_is_shown_and_logged_without_what_a_terminal_obeys(home: Home) -> None:
    folder = home.project / NASTY
    folder.mkdir()
    home.project, before = folder, home.project
    terminal = home.start("sh", "-c", "echo open; read line")
    assert terminal.stdout is not None and terminal.stdout.readline() == b"open\n"
    home.project = before
    for words in (["status"], ["doctor", "sidecar"], ["models"], ["models", "use", f"./{NASTY}"], ["config"], ["logs"]):
        said = home.call(*words)
        assert not set(said.stdout + said.stderr) & {"\x1b", "\x07"}, words
    assert "a?[2Jb?c?]0;title?" in home.call("status").stdout
    assert not set(home.machine.logged()) & {"\x1b", "\x07"}


def test_lines_on_a_terminal_are_folded_between_words(home: Home) -> None:
    with Screen(home, "sh", "-c", f"{' '.join(SHIM)} models pull; exec sleep 100", columns=80) as screen:
        shown = screen.wait_for("--help")
    words = "the name of a model: an alias, a hub id (owner/name), or a folder."
    assert set(words.split()) <= set(shown.split()), shown
    assert errors.folded("a b " * 99, -1) == "a b " * 99  # no terminal: one line stays one


INTERRUPTED = """
import os, signal, sys
class Finder:
    left = int(sys.argv[1])
    def find_spec(self, *_):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGINT)
del sys.argv[:2]
with open(sys.argv[0]) as file:
    code = compile(file.read(), sys.argv[0], "exec")
sys.meta_path.insert(0, Finder())
exec(code, {"__name__": "__main__", "__file__": sys.argv[0]})
"""
"""Runs the shim, and sends it a Ctrl-C when it imports its Nth module. What comes before that is the interpreter's."""


@pytest.mark.parametrize("word", ["status", pytest.param("true", marks=pytest.mark.full)])
def test_a_ctrl_c_at_any_moment_of_the_start_is_no_traceback(home: Home, word: str) -> None:
    for number in range(1, 400, 1 if FULL else 40):
        result = home.run(sys.executable, "-IS", "-c", INTERRUPTED, str(number), SHIM[-1], word)
        assert "Traceback" not in result.stderr and "KeyboardInterrupt" not in result.stderr, (number, result)
        assert result.returncode in (0, -signal.SIGINT)
        if result.returncode == 0:
            break  # it imports no more than that
    assert number > 40
    wait_until(lambda: len(home.status().get("leases") or []) <= 1)


def test_a_program_of_anothers_name_is_run_and_ours_is_hinted_at(home: Home) -> None:
    """On a terminal, where somebody reads it; a script gets the program's words alone."""
    piped = home.call("ps")
    assert piped.returncode == 0 and "PID" in piped.stdout and piped.stderr == ""
    with Screen(home, "sh", "-c", f"{' '.join(SHIM)} ps; exec sleep 100", columns=120) as screen:
        screen.wait_for("this is the program", "claude-local status shows what is in memory", "PID")
    missing = home.call("pull", "qwen3-4b")
    assert missing.returncode == 127 and "claude-local models pull NAME fetches a model" in missing.stderr
