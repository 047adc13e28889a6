"""How far something long is, on stderr: a bar on a terminal, a line for each tenth in a log."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable

from shim.errors import say

WIDTH, NARROWEST = 30, 5
"""Characters of a bar."""
SETTLED_S = 3.0
"""How long a speed is measured before it is shown."""
RECENT_S = 20.0
"""How far back it is measured: what a line did minutes ago says little of how long it will take."""
SLOWEST = 1000.0
"""Bytes in a second below which a line is dead, and a time left would be weeks."""
GB = 1e9
MB = 1e6


class Progress:
    """Shows one thing's progress; `finish` leaves the terminal as a line of text would."""

    def __init__(self, what: str, terminal: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._terminal = terminal
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._last = ""
        self._drawn = False

    def show(self, done: int, total: int) -> None:
        """`done` of `total` bytes; 0 = the total is not known yet."""
        speed = self._speed(done) if total else None
        if self._terminal:
            self._draw(bar(self._what, done, total, speed, _columns()))
        elif (step := tenth(done, total)) != self._last:
            self._last = step
            say(f"{self._what}: {step} of {size(total)}{pace(done, total, speed)}" if total else self._what)

    def finish(self) -> None:
        if self._drawn:
            _write("\r\x1b[K")
            self._drawn = False

    def _speed(self, done: int) -> float | None:
        """Bytes in a second of late; None = too early to say."""
        now = self._clock()
        self._seen.append((now, done))
        while now - self._seen[0][0] > RECENT_S and len(self._seen) > 2:
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now - since >= SETTLED_S else None

    def _draw(self, line: str) -> None:
        if line != self._last:
            _write(f"\r\x1b[K{line}")
            self._last = line
            self._drawn = True


def bar(what: str, done: int, total: int, speed: float | None = None, columns: int = 80) -> str:
    """One line that fits: what, a bar, how much of how much, bytes each second and how long it will take yet."""
    begin = f"claude-local: {what} "
    if not total:
        return (begin + (size(done) if done else "…"))[: columns - 1]
    part = min(1.0, done / total)
    end = f" {part:4.0%} of {size(total)}{pace(done, total, speed)}"
    # A line that is longer than the terminal cannot be drawn over: it would be left behind with each new one.
    width = min(WIDTH, columns - 1 - len(begin) - len(end) - 2)
    if width < NARROWEST:
        room = max(0, columns - 2 - len(end))
        return ((begin.rstrip() if len(begin) <= room else f"{begin[:room]}…") + end)[: columns - 1]
    full = int(part * width)
    return f"{begin}[{'#' * full}{'.' * (width - full)}]{end}"


def pace(done: int, total: int, speed: float | None) -> str:
    """How fast, and how long still; empty while that is not known (None)."""
    if speed is None or done >= total:
        return ""
    if speed < SLOWEST:
        return ", nothing arrives"
    return f", {speed / MB:.{0 if speed >= 10 * MB else 1}f} MB/s, {left(total - done, speed)}"


def left(count: int, speed: float) -> str:
    """How long so many bytes take yet."""
    seconds = round(count / speed)
    if seconds >= 7200:
        return f"{seconds // 3600} h left"
    return f"{seconds // 60} min left" if seconds >= 120 else f"{seconds} s left"


def _columns() -> int:
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def tenth(done: int, total: int) -> str:
    """The tenth that has been reached, as a percentage."""
    return f"{min(10, 10 * done // total) * 10} %" if total else "…"


def size(count: int) -> str:
    return f"{count / GB:.2f} GB" if count >= GB else f"{count / MB:.0f} MB"


def _write(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
