"""claude-local stop: the sidecar ends, after the running answers and with all that was read on disk, or at once."""

import contextlib
import os
import signal
import time

from shim.commands.parsing import Parser
from shim.errors import say
from shim.lease import attach
from shim.lease.control_client import SECONDS, ask, directory
from sidecar.shared import protocol
from sidecar.shared.run_directory import RunDirectory

EXAMPLES = (
    ("claude-local stop", "running answers are finished first"),
    ("claude-local stop --now", "running answers are cut off"),
)

SAY_S = 1.0
"""How long it may take without a word."""
WRITE_S = 40.0
"""For all that may have to be written, and a little more than the sidecar itself allows."""


def parser() -> Parser:
    made = Parser("stop", EXAMPLES)
    made.add_argument("--now", action="store_true", help="cut running answers off")
    return made


def run(arguments: list[str]) -> int:
    """Ask the sidecar to end, and wait until it has let go of its socket."""
    now = parser().parse_args(arguments).now
    place = directory()
    pid = attach.holder(place)
    said = ask("POST", protocol.STOP_PATH, {"now": now})
    if said is None:
        _stop_leaving(place, now)
        return 0
    if pid is not None and said.get("running") == 0:
        return _until_gone(place, pid)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        connection = attach.connect(place, deadline)
        if connection is None:
            print("stopped" if now else "stopping: running answers are finished first")
            return 0
        connection.close()
        time.sleep(0.02)
    print("stopping")
    return 0


def _until_gone(place: RunDirectory, pid: int) -> int:
    """Nothing is answered any more: what is left to do is to write what has been read."""
    began, told = time.monotonic(), False
    while attach.holder(place) == pid and (waited := time.monotonic() - began) < WRITE_S:
        if waited > SAY_S and not told:
            say("writing what has been read to disk … (claude-local stop --now skips it)")
            told = True
        time.sleep(0.02)
    print("stopped" if attach.holder(place) != pid else "stopping")
    return 0


def _stop_leaving(place: RunDirectory, now: bool) -> None:
    """A sidecar that finishes its answers has no socket any more; its life lock names it."""
    pid = attach.holder(place)
    if pid is None:
        print("nothing was running")
        return
    if not now:
        print(f"stopping: sidecar {pid} finishes its answers and writes what it has read first (--now cuts it off)")
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)  # its second request to stop: that means now
    deadline = time.monotonic() + SECONDS
    while attach.holder(place) == pid and time.monotonic() < deadline:
        time.sleep(0.02)
    print("stopped" if attach.holder(place) != pid else f"sidecar {pid} does not end: kill -9 {pid}")
