"""The live screen of `status --watch`: drawn on the terminal's other screen, once a second and when its size changes.

What it shows is `overview`'s. It asks the sidecar anew each time, so it outlives one and finds the next.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from shim.failure import Failure
from shim.verbs import screen
from shim.verbs.asking import ask
from shim.verbs.overview import overview
from sidecar import control

EVERY_S = 1.0
"""As often as the engine says something new."""
LEAVE = b"qQ\x1b\x03"
"""q, Escape, and Ctrl-C where the terminal does not make a signal of it."""


def run(home: str) -> int:
    """Until a key or Ctrl-C says to leave; returns the exit code. `home`: the folder that is shown as ~."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)  # they say what the size was once
    console = screen.console()
    with _wakeups() as wakeups, _unbuffered(), Live(console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                live.update(_frame(home), refresh=True)
                if _left(time.monotonic() + EVERY_S, wakeups):
                    return 0
        except KeyboardInterrupt:
            return 0


def _frame(home: str) -> RenderableType:
    try:
        table = ask("GET", control.STATUS_PATH)
        shown: RenderableType = overview(table, home) if table else Text("nothing runs", style="bold")
    except Failure as failure:
        shown = Text(failure.reason, style="red")
    return Group(Text.assemble(("q", "bold"), (" leaves", "dim")), "", shown)


def _left(until: float, wakeups: int) -> bool:
    """Wait for the next frame's time, or for a resized terminal; True when somebody wants to leave."""
    while (seconds := until - time.monotonic()) > 0:
        readable, _, _ = select.select([0, wakeups], [], [], seconds)
        if 0 in readable:
            keys = os.read(0, 64)
            if not keys or any(key in LEAVE for key in keys):
                return True  # nothing to read: the terminal is gone
        if wakeups in readable:
            os.read(wakeups, 64)
            return False
    return False


@contextmanager
def _wakeups() -> Iterator[int]:
    """A descriptor that becomes readable when the terminal is resized. A SIGTERM leaves as Ctrl-C does."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGWINCH, lambda *_: None)
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
