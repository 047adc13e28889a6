"""`program("shim.global_mode", FOLDER, [READY])`: the relay of global mode, started by systemd, launchd or ourselves.

It serves one port for all terminals, takes a lease with the first request, and never keeps a model in memory by itself:
its lease is a soft one. Where the port is held for it, it ends when nobody has asked for the grace period; else it
lets go of everything but the port.
"""

import fcntl
import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType

from shim.errors import INTERNAL, Failure
from shim.global_mode import socket_activation
from shim.global_mode.state import Folder, State
from shim.lease import spawn, token
from shim.lease.request import model_name
from shim.relay import log as relay_log
from shim.relay import server
from shim.relay.lease_keeper import Holder
from shim.relay.port import BACKLOG
from shim.relay.server import Post
from sidecar.shared import config, protocol, run_directory
from sidecar.shared.protocol import LeaseRequest

LEAST = 15.0
"""Seconds that it stays at least: launchd holds back what ends within ten and is wanted again, systemd after five times
within ten."""


def main(folder: str, ready: str = "") -> int:
    """Serve until nobody has asked for long; returns the exit code."""
    place = Folder(Path(folder))
    try:
        serve(place, int(ready) if ready else -1)
    except (Failure, config.ConfigError, run_directory.RunDirectoryError) as error:
        tell(ready, f"error {error}")
        return error.exit_code if isinstance(error, Failure) else INTERNAL
    except OSError as error:
        tell(ready, f"{error.filename or 'the port of global mode'}: {error.strerror}")
        return INTERNAL
    return 0


def tell(ready: str, text: str) -> None:
    """To whoever started us, if anybody waits."""
    if ready:
        os.write(int(ready), f"{text}\n".encode())


def serve(folder: Folder, ready: int) -> None:
    """Everything that can go wrong goes wrong before `ready`; raises Failure and OSError."""
    state, secret = State.load(folder), folder.read_token()
    if state is None:
        raise Failure("global mode is off")
    os.environ.update(state.environment)
    settings = config.load()
    directory = run_directory.run_directory(settings.run_dir)
    passed = socket_activation.listener()
    hold(folder)
    listener = passed or socket.create_server(("127.0.0.1", state.port), backlog=BACKLOG)
    apart()
    if ready >= 0:
        os.write(ready, b"ready\n")
        os.close(ready)
    request = LeaseRequest(
        token_sha256=token.digest(secret),
        pid=os.getpid(),
        command=protocol.GLOBAL,
        folder="",
        port=listener.getsockname()[1],
        model=model_name(state.model),
        strong=False,
    )
    log = relay_log.logger(str(settings.logs))

    def outdated(reason: str) -> None:
        log(reason)
        if passed:
            os._exit(0)  # whoever holds the port for us starts what is installed now, with the next request

    start = partial(spawn.start, directory, settings.logs, "/")
    holder = Holder(directory, request, start, outdated, "claude-local global on")
    idle = max(settings.grace, LEAST) if passed else config.NEVER
    server.serve(listener, holder, Post(state.port, secret, log, idle, at_rest=True))


def hold(folder: Folder) -> None:
    """Keep the life lock until we end; our number in it is for who wants us to."""
    lock = os.open(folder.life_lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())


def apart() -> None:
    """Nothing of the terminal's is ours; a sidecar that we started and that dies leaves no zombie."""

    def end(_: int, __: FrameType | None) -> None:
        os._exit(0)  # requests under way are cut: whoever ends us wants the port to be gone

    signal.signal(signal.SIGTERM, end)
    for name in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(name, signal.SIG_IGN)
    os.umask(0o077)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
