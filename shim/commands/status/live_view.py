"""The live screen of `status --watch`: drawn on the terminal's other screen, once a second and when its size changes.

What it shows is `status_view`'s. It asks the sidecar anew each time, so it outlives one and finds the next.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from shim.commands.status.status_view import fitting
from shim.errors import Failure
from shim.lease.control_client import ask
from shim.terminal import console as screen
from sidecar.shared import protocol

HEAD = 2
"""Lines above the overview."""
EVERY_S = 1.0
"""As often as the engine says something new."""
LEAVE = b"qQ\x1b\x03"
"""q, Escape, and Ctrl-C where the terminal does not make a signal of it."""


def run(home: str) -> int:
    """Until a key or Ctrl-C says to leave; returns the exit code. `home`: the folder that is shown as ~."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # they say what the size was once
    with _wakeups() as wakeups, suppress(KeyboardInterrupt):
        while _drawn(home, wakeups) == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)  # the terminal is the shell's, until `fg`
    return 0


def _drawn(home: str, wakeups: int) -> Literal["leave", "stop"]:
    """Draw until somebody wants something else; the terminal is then as it was."""
    with _unbuffered(), Live(console=screen.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_frame(home, live.console), refresh=True)
            if wish := _wish(time.monotonic() + EVERY_S, wakeups):
                return wish


def _frame(home: str, console: Console) -> RenderableType:
    try:
        table = ask("GET", protocol.STATUS_PATH)
        room = console.height - HEAD
        shown: RenderableType = fitting(table, home, console, room) if table else Text("nothing runs", style="bold")
    except Failure as failure:
        shown = Text(failure.reason, style="red")
    return Group(Text.assemble(("q", "bold"), (" leaves", "dim")), "", shown)


def _wish(until: float, wakeups: int) -> Literal["leave", "stop"] | None:
    """Wait for the next frame's time, or for a resized terminal, or for somebody who wants to leave or presses
    Ctrl-Z."""
    while (seconds := until - time.monotonic()) > 0:
        readable, _, _ = select.select([0, wakeups], [], [], seconds)
        if 0 in readable:
            keys = os.read(0, 64)
            if not keys or any(key in LEAVE for key in keys):
                return "leave"  # nothing to read: the terminal is gone
        if wakeups in readable:
            return "stop" if signal.SIGTSTP in os.read(wakeups, 64) else None
    return None


@contextmanager
def _wakeups() -> Iterator[int]:
    """A descriptor from which the signals are read that wake us: a resized terminal's, and Ctrl-Z's. A SIGTERM leaves
    as Ctrl-C does."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGWINCH, signal.SIGTSTP):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


@contextmanager
def _unbuffered() -> Iterator[None]:
    """Keys come at once and are not shown."""
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
