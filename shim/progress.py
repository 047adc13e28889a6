"""How far something long is, on stderr: a bar on a terminal, a line for each tenth in a log."""

import contextlib
import os

from shim.failure import say

WIDTH = 30
GB = 1e9
MB = 1e6


class Progress:
    """Shows one thing's progress; `finish` leaves the terminal as a line of text would."""

    def __init__(self, what: str, terminal: bool) -> None:
        self._what = what
        self._terminal = terminal
        self._last = ""
        self._drawn = False

    def show(self, done: int, total: int) -> None:
        """`done` of `total` bytes; 0 = the total is not known yet."""
        if self._terminal:
            self._draw(bar(self._what, done, total))
        elif (step := tenth(done, total)) != self._last:
            self._last = step
            say(f"{self._what}: {step} of {size(total)}" if total else self._what)

    def finish(self) -> None:
        if self._drawn:
            _write("\r\x1b[K")
            self._drawn = False

    def _draw(self, line: str) -> None:
        if line != self._last:
            _write(f"\r\x1b[K{line}")
            self._last = line
            self._drawn = True


def bar(what: str, done: int, total: int) -> str:
    """One line: what, a bar, how much of how much."""
    if not total:
        return f"claude-local: {what} {size(done)}" if done else f"claude-local: {what} …"
    part = min(1.0, done / total)
    full = int(part * WIDTH)
    return f"claude-local: {what} [{'#' * full}{'.' * (WIDTH - full)}] {part:4.0%} of {size(total)}"


def tenth(done: int, total: int) -> str:
    """The tenth that has been reached, as a percentage."""
    return f"{min(10, 10 * done // total) * 10} %" if total else "…"


def size(count: int) -> str:
    return f"{count / GB:.2f} GB" if count >= GB else f"{count / MB:.0f} MB"


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
