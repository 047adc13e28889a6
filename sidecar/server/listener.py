"""The socket at which the sidecar is found, and the lock that it holds for life."""

import fcntl
import logging
import os
import socket
import time
from contextlib import suppress

import trio

from sidecar.http.connection import serve_connection
from sidecar.server.app import App
from sidecar.shared import run_directory

log = logging.getLogger(__name__)

LOCK_WAIT_S = 20.0
"""How long a new sidecar waits for the old one to be gone; the shim gives up after 30."""

NAMES_CHECK_S = 5.0
"""Between two looks whether socket and lock still have their names; each takes microseconds."""


class StartError(Exception):
    """The sidecar cannot start; the text is shown to the user."""


def hold_life_lock(directory: run_directory.RunDirectory) -> int | None:
    """Take the life lock, waiting for a predecessor that is leaving; returns its descriptor, held until exit. None when
    one serves that does not leave: whoever started it was killed before it did."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while (lock := try_life_lock(directory)) is None:
        if is_served(directory):
            return None
        if time.monotonic() > deadline:
            pid = directory.life_lock.read_text() or "?"
            raise StartError(
                f"sidecar {pid} is still finishing its answers: try again, or `kill {pid}` to cut them off"
            )
        time.sleep(0.02)
    return lock


def try_life_lock(directory: run_directory.RunDirectory) -> int | None:
    """The life lock's descriptor, or None while another process has it."""
    lock = os.open(directory.life_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_held(directory, lock):
            with suppress(OSError):  # a full disk: our number is a help for people, the lock is what counts
                os.truncate(lock, 0)
                os.write(lock, str(os.getpid()).encode())
            return lock
    except BlockingIOError:
        pass
    os.close(lock)
    return None


def is_served(directory: run_directory.RunDirectory) -> bool:
    """Whether somebody listens at the socket: one that leaves has closed it first."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(directory.socket))
        except OSError:
            return False
    return True


def is_held(directory: run_directory.RunDirectory, lock: int) -> bool:
    """Whether the lock file still has its name: a lock on a file without one keeps nobody out."""
    try:
        return os.stat(directory.life_lock).st_ino == os.fstat(lock).st_ino
    except OSError:
        return False


def publish(directory: run_directory.RunDirectory) -> socket.socket:
    """Listen on the socket: bound under a private name and renamed into place, so nobody meets a half-open door."""
    for stale in directory.path.glob("socket.*"):
        stale.unlink()  # of one that was killed right here: we hold the life lock, so nobody else is at this point
    private = directory.path / f"socket.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(private))
    private.chmod(0o600)
    listener.listen(512)
    private.rename(directory.socket)
    return listener


class Door:
    """The listening socket and the connections that came through it."""

    def __init__(
        self,
        directory: run_directory.RunDirectory,
        listener: socket.socket,
        life: int,
        app: App,
        relays: dict[int, int],
    ) -> None:
        """`relays`: filled with the processes at the other ends, and how many connections each has."""
        self._relays = relays
        self._directory = directory
        self._life = life
        self._app = app
        self._scope = trio.CancelScope()
        self._listener = listener
        self._identity = directory.socket.stat().st_ino

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            with self._scope:
                while True:
                    await self._accept(nursery)

    async def _accept(self, connections: trio.Nursery) -> None:
        """Accept until the socket's name is gone from the file system, then publish it again."""
        self._listener.setblocking(False)
        stream_listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        async with trio.open_nursery() as nursery:

            async def check() -> None:
                # As long as both names are there, or the lock's can be had again, nobody is disturbed.
                while self._holds_lock() and self._is_published():  # noqa: ASYNC110  # no event of ours
                    await trio.sleep(NAMES_CHECK_S)
                nursery.cancel_scope.cancel()

            nursery.start_soon(check)
            await trio.serve_listeners(self._serve, [stream_listener], handler_nursery=connections)
        if not self._publish_again():
            # Another sidecar has begun under this name: two must not fight over the socket, nor hold two models.
            log.warning("the run directory was taken away: leaving")
            self._identity = -1  # whatever gets that number now is not ours to remove
            self._app.lifecycle.leave()
            await trio.sleep_forever()

    def _publish_again(self) -> bool:
        try:
            if not self._holds_lock():
                return False
            self._listener = publish(self._directory)
            self._identity = self._directory.socket.stat().st_ino
        except OSError as error:
            log.warning("%s", error)
            return False
        log.warning("the socket's name was gone: it is published again")
        return True

    def _holds_lock(self) -> bool:
        """Whether the life lock is ours under its name; where the name was gone, it is made again if nobody has it."""
        if is_held(self._directory, self._life):
            return True
        try:
            run_directory.run_directory(str(self._directory.path))
            lock = try_life_lock(self._directory)
        except (OSError, run_directory.RunDirectoryError) as error:
            log.warning("%s", error)
            return False
        if lock is None:
            return False
        log.warning("the life lock's name was gone: it is there again")
        os.close(self._life)
        self._life = lock
        return True

    async def _serve(self, stream: trio.SocketStream) -> None:
        try:
            peer = run_directory.peer_uid(stream.socket)  # type: ignore[arg-type]  # trio's socket has getsockopt too
            relay = run_directory.peer_pid(stream.socket)  # type: ignore[arg-type]
        except OSError:
            peer = -1
        if peer != os.geteuid():
            log.warning("a connection of user %d is refused", peer)
            await stream.aclose()
            return
        self._relays[relay] = self._relays.get(relay, 0) + 1
        try:
            await serve_connection(stream, self._app.handle, self._app.fail)
        finally:
            self._relays[relay] -= 1
            if not self._relays[relay]:
                del self._relays[relay]

    def close(self) -> None:
        """Let nobody in any more; connections inside go on."""
        if self._is_published():
            self._directory.socket.unlink()
        self._scope.cancel()

    def _is_published(self) -> bool:
        try:
            return self._directory.socket.stat().st_ino == self._identity
        except OSError:
            return False
