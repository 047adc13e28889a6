"""The sidecar process: one per user, published before the model loads, gone when idle.

Started by the shim under its spawn lock, with `--run-dir DIR --ready-fd N`. The life lock is held from before the
socket appears until the engine and then the process are gone: two can never serve at once.
"""

import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import TextIO

import trio

from sidecar import control, logs
from sidecar.config import Config, ConfigError, load
from sidecar.engine_client import Engine
from sidecar.guard import GB, Lines
from sidecar.http import serve_connection
from sidecar.lease import Leases
from sidecar.library import Library
from sidecar.loopclock import LoopClock
from sidecar.memory import Memory
from sidecar.pauses import OWN
from sidecar.probe import Probe
from sidecar.routes import App
from sidecar.ticker import Ticker

LOCK_WAIT_S = 20.0
"""How long a new sidecar waits for the old one to be gone; the shim gives up after 30."""
DRAIN_S = 600.0
"""How long running requests may go on after a stop."""
NAMES_CHECK_S = 5.0
"""Between two looks whether socket and lock still have their names; each takes microseconds."""
DESCRIPTORS = 4096
"""What we raise a lower limit to: each terminal and each request takes one, and macOS starts programs with 256."""
BRING_BACK_S = 1.0
"""Between two attempts to load a model again that was given up for want of memory."""
LOG_CHECK_S = 60.0

log = logging.getLogger(__name__)


class StartError(Exception):
    """The sidecar cannot start; the text is shown to the user."""


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    ready = os.fdopen(int(options["--ready-fd"]), "w")
    os.set_inheritable(ready.fileno(), False)
    detach(ready.fileno())
    try:
        config = load()
        logs.begin(config.log_level, "%(asctime)s %(name)s %(message)s")
        raise_descriptor_limit()
        directory = control.run_directory(options["--run-dir"])
        life = hold_life_lock(directory)
        if life is None:
            say(ready, "ready")
            return
        listener = publish(directory)
    except (ConfigError, control.RunDirectoryError, StartError) as error:
        say(ready, f"error 70 {error}")
        sys.exit(70)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        say(ready, f"error 71 the sidecar cannot start: {place}{error.strerror or error}")
        sys.exit(71)
    with OWN.kept():
        trio.run(serve, config, directory, listener, life, ready, clock=LoopClock(OWN))


def detach(keep: int) -> None:
    """Keep nothing of whoever started us: no folder, no umask, no pipe, of which its reader would never see the end."""
    os.chdir("/")
    os.umask(0o077)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) != keep:
            with suppress(OSError):
                os.close(int(name))


def say(ready: TextIO, line: str) -> None:
    """Tell whoever started us. That nobody waits any more changes nothing: the next one will find us."""
    with suppress(BrokenPipeError), ready:
        ready.write(f"{line}\n")


def raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def hold_life_lock(directory: control.RunDirectory) -> int | None:
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


def try_life_lock(directory: control.RunDirectory) -> int | None:
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


def is_served(directory: control.RunDirectory) -> bool:
    """Whether somebody listens at the socket: one that leaves has closed it first."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(directory.socket))
        except OSError:
            return False
    return True


def is_held(directory: control.RunDirectory, lock: int) -> bool:
    """Whether the lock file still has its name: a lock on a file without one keeps nobody out."""
    try:
        return os.stat(directory.life_lock).st_ino == os.fstat(lock).st_ino
    except OSError:
        return False


def publish(directory: control.RunDirectory) -> socket.socket:
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


async def serve(
    config: Config, directory: control.RunDirectory, listener: socket.socket, life: int, ready: TextIO
) -> None:
    """Serve until idle or told to stop; returns when everything is released."""
    async with trio.open_nursery() as nursery:
        leases = Leases(config.grace, config.unload, trio.current_time())
        relays: dict[int, int] = {}

        def ours() -> list[int]:
            """Our processes: this one, the relays, the engine, downloads. Also called on the memory thread."""
            fetching = [fetch.pid for fetch in list(library.fetches.values()) if fetch.pid]
            return [os.getpid(), *list(relays), *([engine.process.pid] if engine.process else []), *fetching]

        limit = config.memory_limit_gb * GB
        memory = Memory(Probe(limit, ours), memory_lines(config), ours)
        disk = (str(config.prefixes or ""), int(min(config.disk_cache_gb * GB, 1 << 62)))
        engine = Engine(nursery, memory, limit, disk, config.own_temperature)
        library = Library(config, lambda: memory.view.sample.available + engine.held_bytes())
        memory.look(time.monotonic())
        app = App(leases, library, engine, memory)
        door = Door(directory, listener, life, app, relays)
        memory.start(engine.shed, engine.evacuate)
        nursery.start_soon(door.run)
        nursery.start_soon(_rotate_logs, config)
        nursery.start_soon(_signals, app)
        nursery.start_soon(unload_when_unused, app, engine)
        nursery.start_soon(_bring_back, app, engine)
        nursery.start_soon(Ticker(directory).run, app.lines, lambda: app.changed)
        say(ready, "ready")
        log.info("sidecar %d serves at %s", os.getpid(), directory.socket)
        await until_leaving(app)
        door.close()
        if not app.now_please:
            with trio.move_on_after(DRAIN_S):
                while leases.running and not app.now_please:
                    await app.changed.wait()
            await write_what_was_read(app, engine, directory)
        await engine.kill()
        log.info("sidecar %d leaves", os.getpid())
        nursery.cancel_scope.cancel()


async def write_what_was_read(app: App, engine: Engine, directory: control.RunDirectory) -> None:
    """Give the engine the time for it, unless somebody wants us to go now. A sidecar that is started meanwhile waits
    for our lock, and not for long."""
    async with trio.open_nursery() as nursery:

        async def cut() -> None:
            while not app.now_please:
                await app.changed.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(cut)
        await engine.close(lambda: is_one_started(directory))
        nursery.cancel_scope.cancel()


def is_one_started(directory: control.RunDirectory) -> bool:
    """Whether a client is starting a sidecar: it holds its lock meanwhile."""
    with suppress(OSError):
        lock = os.open(directory.spawn_lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
    return False


def memory_lines(config: Config) -> Lines:
    """The guard's lines in bytes."""
    lines = (config.memory_caution_gb, config.memory_critical_gb, config.memory_emergency_gb)
    return Lines(*(line * GB for line in lines))


class Door:
    """The listening socket and the connections that came through it."""

    def __init__(
        self, directory: control.RunDirectory, listener: socket.socket, life: int, app: App, relays: dict[int, int]
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
            self._app.leave()
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
            control.run_directory(str(self._directory.path))
            lock = try_life_lock(self._directory)
        except (OSError, control.RunDirectoryError) as error:
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
            peer = control.peer_uid(stream.socket)  # type: ignore[arg-type]  # trio's socket has getsockopt too
            relay = control.peer_pid(stream.socket)  # type: ignore[arg-type]
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


async def until_leaving(app: App) -> None:
    while not app.leaving:
        changed = app.changed
        with trio.move_on_after(max(0.0, app.leases.exit_at - trio.current_time())):
            await changed.wait()
        if trio.current_time() >= app.leases.exit_at:
            app.leaving = True


async def unload_when_unused(app: App, engine: Engine) -> None:
    while True:
        changed = app.changed
        with trio.move_on_after(max(0.0, app.leases.unload_at - trio.current_time())):
            await changed.wait()
        if trio.current_time() >= app.leases.unload_at and engine.process is not None:
            log.info("no request for long: the engine is unloaded")
            await engine.unload()
        if trio.current_time() >= app.leases.unload_at:
            await changed.wait()


async def _bring_back(app: App, engine: Engine) -> None:
    """After an evacuation, for terminals that are still open: their next request should not have to wait for it."""
    while True:
        await trio.sleep(BRING_BACK_S)
        if any(lease.request.strong for lease in app.leases):
            await engine.bring_back()


async def _rotate_logs(config: Config) -> None:
    while True:
        logs.rotate(config.logs)
        await trio.sleep(LOG_CHECK_S)


async def _signals(app: App) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            app.leave(now=app.leaving)  # the second one means it


if __name__ == "__main__":
    main()
