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

from sidecar.memory.guard import GB, Lines
from sidecar.memory.monitor import Memory
from sidecar.memory.probe import Probe
from sidecar.models.library import Library
from sidecar.server.app import App
from sidecar.server.leases import Leases
from sidecar.server.lifecycle import Lifecycle
from sidecar.server.listener import Door, StartError, hold_life_lock, publish
from sidecar.server.loop_clock import LoopClock
from sidecar.server.status_line import Ticker
from sidecar.shared import log_files, run_directory
from sidecar.shared.config import Config, ConfigError, load
from sidecar.shared.pauses import OWN
from sidecar.supervisor.engine import Engine

DRAIN_S = 600.0
"""How long running requests may go on after a stop."""

DESCRIPTORS = 4096
"""What we raise a lower limit to: each terminal and each request takes one, and macOS starts programs with 256."""
BRING_BACK_S = 1.0
"""Between two attempts to load a model again that was given up for want of memory."""
LOG_CHECK_S = 60.0

log = logging.getLogger(__name__)


def main() -> None:
    options = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    ready = os.fdopen(int(options["--ready-fd"]), "w")
    os.set_inheritable(ready.fileno(), False)
    detach(ready.fileno())
    try:
        config = load()
        log_files.begin(config.log_level, "%(asctime)s %(name)s %(message)s")
        raise_descriptor_limit()
        directory = run_directory.run_directory(options["--run-dir"])
        life = hold_life_lock(directory)
        if life is None:
            say(ready, "ready")
            return
        listener = publish(directory)
    except (ConfigError, run_directory.RunDirectoryError, StartError) as error:
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


async def serve(
    config: Config, directory: run_directory.RunDirectory, listener: socket.socket, life: int, ready: TextIO
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
        lifecycle = Lifecycle(leases)
        app = App(lifecycle, library, engine, memory)
        door = Door(directory, listener, life, app, relays)
        memory.start(engine.shed, engine.evacuate)
        nursery.start_soon(door.run)
        nursery.start_soon(_rotate_logs, config)
        nursery.start_soon(_signals, lifecycle)
        nursery.start_soon(unload_when_unused, lifecycle, engine)
        nursery.start_soon(_bring_back, lifecycle, engine)
        nursery.start_soon(Ticker(directory).run, app.report.lines, lambda: lifecycle.changed)
        say(ready, "ready")
        log.info("sidecar %d serves at %s", os.getpid(), directory.socket)
        await until_leaving(lifecycle)
        door.close()
        if not lifecycle.now_please:
            with trio.move_on_after(DRAIN_S):
                while leases.running and not lifecycle.now_please:
                    await lifecycle.changed.wait()
            await write_what_was_read(lifecycle, engine, directory)
        await engine.kill()
        log.info("sidecar %d leaves", os.getpid())
        nursery.cancel_scope.cancel()


async def write_what_was_read(lifecycle: Lifecycle, engine: Engine, directory: run_directory.RunDirectory) -> None:
    """Give the engine the time for it, unless somebody wants us to go now. A sidecar that is started meanwhile waits
    for our lock, and not for long."""
    async with trio.open_nursery() as nursery:

        async def cut() -> None:
            while not lifecycle.now_please:
                await lifecycle.changed.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(cut)
        await engine.close(lambda: is_one_started(directory))
        nursery.cancel_scope.cancel()


def is_one_started(directory: run_directory.RunDirectory) -> bool:
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


async def until_leaving(lifecycle: Lifecycle) -> None:
    while not lifecycle.leaving:
        changed = lifecycle.changed
        with trio.move_on_after(max(0.0, lifecycle.leases.exit_at - trio.current_time())):
            await changed.wait()
        if trio.current_time() >= lifecycle.leases.exit_at:
            lifecycle.leaving = True


async def unload_when_unused(lifecycle: Lifecycle, engine: Engine) -> None:
    while True:
        changed = lifecycle.changed
        with trio.move_on_after(max(0.0, lifecycle.leases.unload_at - trio.current_time())):
            await changed.wait()
        if trio.current_time() >= lifecycle.leases.unload_at and engine.process is not None:
            log.info("no request for long: the engine is unloaded")
            await engine.unload()
        if trio.current_time() >= lifecycle.leases.unload_at:
            await changed.wait()


async def _bring_back(lifecycle: Lifecycle, engine: Engine) -> None:
    """After an evacuation, for terminals that are still open: their next request should not have to wait for it."""
    while True:
        await trio.sleep(BRING_BACK_S)
        if any(lease.request.strong for lease in lifecycle.leases):
            await engine.bring_back()


async def _rotate_logs(config: Config) -> None:
    while True:
        log_files.rotate(config.logs)
        await trio.sleep(LOG_CHECK_S)


async def _signals(lifecycle: Lifecycle) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            lifecycle.leave(now=lifecycle.leaving)  # the second one means it


if __name__ == "__main__":
    main()
