"""A terminal with a program in it, driven as a person would: keys go in, the screen is read. tmux does the work."""

import itertools
import json
import os
import subprocess
import time
from pathlib import Path
from threading import Event
from typing import Self

from tests.support.home import Home

COLUMNS, LINES = 120, 50
READY = "local: "
"""On Claude Code's screen once it listens: the status line that it is given."""
NUMBERS = itertools.count()


def trust(home: Home) -> None:
    """A user who has been here before: the wizard of the first run is not ours to test."""
    trusted = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    table = {"hasCompletedOnboarding": True, "theme": "dark", "projects": {str(home.project): trusted}}
    (home.folder / ".claude.json").write_text(json.dumps(table))


class Screen:
    """One command in a tmux server of its own."""

    def __init__(self, home: Home, *command: str, columns: int = COLUMNS, lines: int = LINES) -> None:
        self._home = home
        self._closed = False
        # A server that has just been told to end may still answer at its old name.
        self._socket = home.machine.folder / f"tmux-{next(NUMBERS)}"
        # remain-on-exit: the last screen and the exit status are evidence.
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), "sleep 600")
        self._tmux("set-option", "-g", "remain-on-exit", "on")
        self._tmux("respawn-pane", "-k", *command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def colours(self) -> str:
        """The screen with its escape sequences for colours and weights."""
        return self._tmux("capture-pane", "-p", "-e")

    def resize(self, columns: int, lines: int = LINES) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: Enter, Escape, C-c."""
        self._tmux("send-keys", *keys)

    def accept(self, question: str) -> None:
        """Press Enter until the question is gone: a dialog may be on the screen before it listens."""
        self.wait_for(question)
        limit = time.monotonic() + 30
        while question in self.text():
            assert time.monotonic() < limit, f"the question stays:\n{self.text()}"
            self.press("Enter")
            Event().wait(0.3)

    def submit(self, text: str) -> None:
        """Type a line, see it arrive, press Enter."""
        self.type(text)
        self.wait_for(text)
        self.press("Enter")

    def wait_for(self, *texts: str, seconds: float = 180.0) -> str:
        """The screen, once all the texts are on it."""
        limit = time.monotonic() + seconds
        while not all(text in (screen := self.text()) for text in texts):
            assert time.monotonic() < limit, f"no {texts} on the screen:\n{screen}"
            assert self.exit_code() is None, f"the program ended, and no {texts} on the screen:\n{screen}"
            Event().wait(0.05)
        return screen

    def wait_for_end(self, seconds: float = 30.0) -> int:
        """The program's exit code."""
        limit = time.monotonic() + seconds
        while (code := self.exit_code()) is None:
            assert time.monotonic() < limit, f"the program did not end:\n{self.text()}"
            Event().wait(0.05)
        return code

    def exit_code(self) -> int | None:
        # The terminal closes a moment before tmux hears of the exit, so an empty status is no status yet.
        form = "#{pane_dead_status},#{pane_dead_signal},#{pane_pid}"
        code, number, pid = self._tmux("display-message", "-p", form).strip().split(",")
        if code:
            return int(code)
        return -int(number) if number else _zombie_code(pid)

    def close(self) -> None:
        if not self._closed:
            self._tmux("kill-server")
        self._closed = True

    def _tmux(self, *words: str) -> str:
        environment = {**self._home.environment, "TERM": "xterm-256color", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        result = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *words],
            cwd=self._home.project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout


def _zombie_code(pid: str) -> int | None:
    """The exit code of a process that has ended and that tmux, which is seen to miss that now and then, still keeps."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return os.waitstatus_to_exitcode(int(fields[-1])) if fields[0] == "Z" else None
