"""The relay: the small process that stays beside a command, owns its port and holds its lease.

It outlives everything behind it: a sidecar that crashes or is replaced is a pause for its clients, not an error. It
ends when the command and whatever inherited the lifeline have ended. It must keep nothing of the terminal: no
descriptor, no folder, no signal.
"""

import _thread
import contextlib
import os
import select
import signal
import socket
import sys
from functools import partial
from pathlib import Path

from shim.lease import spawn
from shim.relay.lease_keeper import Holder, launcher_pipe
from shim.relay.log import logger
from shim.relay.process_exit import Watch
from sidecar.shared.protocol import LeaseRequest
from sidecar.shared.run_directory import RunDirectory


class Relay:
    """What one relay is made of; filled by the launcher, which is the same process until the fork."""

    def __init__(
        self,
        directory: RunDirectory,
        logs: str,
        listener: socket.socket,
        lifeline: int,
        events: int,
        keep: tuple[str, int] | None,
    ) -> None:
        self.directory = directory
        self.logs = logs
        self.log = logger(logs)
        self.listener = listener
        self.lifeline = lifeline
        """Reading end of the pipe whose other end the command and its children inherit."""
        self.events = events
        """Writing end of the pipe on which the launcher waits."""
        self.keep = keep
        """A file or folder to be removed at the end, and its descriptor, whose lock says that it is in use."""

    def run(self, command: int, token: str, request: LeaseRequest) -> None:
        """Serve until process `command` and the lifeline have ended."""
        watch = Watch(command)
        if _is_ended(self.lifeline):
            return  # the launcher is gone already, and its number may be another's
        sys.unraisablehook = lambda error: self.log(f"{error.err_msg or 'in a thread'}: {error.exc_value!r}")
        logs = Path(self.logs)
        start = partial(spawn.start, self.directory, logs, request.folder)
        holder = Holder(self.directory, request, start, self.log)
        _thread.start_new_thread(self._hold, (holder,))
        _thread.start_new_thread(self._serve, (holder, token))
        if watch.fileno() >= 0:
            select.select([watch], [], [])
            if not _is_ended(self.lifeline):
                holder.soften()
        _wait_for_end(self.lifeline)

    def _hold(self, holder: Holder) -> None:
        os.set_blocking(self.events, False)
        try:
            holder.launch(launcher_pipe(self.events))
        finally:
            os.close(self.events)

    def _serve(self, holder: Holder, token: str) -> None:
        # Imported here, while the sidecar answers: nobody connects before the command has started.
        from shim.relay import server

        server.serve(self.listener, holder, server.Post(self.listener.getsockname()[1], token, self.log))


def fork(relay: Relay, token: str, request: LeaseRequest) -> None:
    """Start the relay as nobody's child. Returns in the launcher only, once it has been started."""
    command = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()  # before the second fork: from here on Ctrl-C in the terminal is not for us
        if os.fork() == 0:
            _detach(relay)
            try:
                relay.run(command, token, request)
            except SystemExit:
                pass
            except BaseException:
                import traceback

                relay.log(traceback.format_exc())
            if relay.keep:
                _remove(relay.keep[0])
                with contextlib.suppress(OSError):
                    relay.directory.line(command).unlink()  # of a sidecar that was killed
    finally:
        # No clean-up of the launcher's may run here: what it has opened, registered or buffered is its own.
        os._exit(0)


def _detach(relay: Relay) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a sidecar that we started and that dies leaves no zombie
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    own = {relay.listener.fileno(), relay.lifeline, relay.events}
    _close_inherited(own | {relay.keep[1]} if relay.keep else own)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    if nothing > 2:
        os.close(nothing)
    os.chdir("/")
    os.umask(0o077)


def _close_inherited(keep: set[int]) -> None:
    """Close what the user's shell had open beyond stdio: a pipe held here would never end for its reader."""
    try:
        opened = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        opened = list(range(3, 256))
    for descriptor in opened:
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _remove(path: str) -> None:
    if os.path.isdir(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)


def _is_ended(pipe: int) -> bool:
    return bool(select.select([pipe], [], [], 0)[0]) and os.read(pipe, 4096) == b""


def _wait_for_end(pipe: int) -> None:
    while os.read(pipe, 4096):
        pass  # nobody should write to it, and nothing happens when somebody does
