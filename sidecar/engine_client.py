"""The engine process as the sidecar sees it: started on demand, spoken to in frames, gone when told or broken.

Whatever goes wrong in it ends it; the requests under way get an error that clients retry, and the next request
starts a new one.
"""

import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Literal, Self

import trio

from sidecar.errors import InvalidRequest, Unavailable
from sidecar.frames import (
    Cancel,
    Count,
    Decoder,
    Failed,
    Frame,
    FromEngine,
    Generate,
    Heartbeat,
    Load,
    Ready,
    Stop,
    encode,
)
from sidecar.library import LocalModel

SILENCE_S = 10.0
"""Without a heartbeat for so long the process is hung: it beats every second from a thread of its own."""
START_S = 120.0
"""The same before the first one: importing mlx and mlx-lm from a cold disk comes first."""
STEP_S = 60.0
"""A single step of the model that takes longer never ends: the scheduler sizes steps to one second."""
STOP_S = 2.0
"""How long the engine may take to exit when told to."""

log = logging.getLogger(__name__)

State = Literal["absent", "loading", "ready", "failed"]

Events = trio.MemoryReceiveChannel[FromEngine]


class Engine:
    """At most one engine process, with at most one model in it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._process: Process | None = None
        self._starting = trio.Lock()
        self._users = 0
        self._unused = trio.Event()
        self._state: State = "absent"

    @property
    def state(self) -> "State":
        """A process that ended by itself counts as absent: the next request starts a new one."""
        return "absent" if self._state == "ready" and (self._process is None or self._process.gone) else self._state

    @property
    def process(self) -> "Process | None":
        return self._process

    def held_bytes(self) -> int:
        """Memory that the process has now."""
        process = self._process
        return process.heartbeat.active_bytes if process and not process.gone and process.heartbeat else 0

    @asynccontextmanager
    async def use(self, model: LocalModel) -> AsyncIterator["Process"]:
        """The process with this model loaded; it is not unloaded while in use. Raises Unavailable.

        Another model is replaced once nobody uses it: two never are in memory at once.
        """
        async with self._starting:
            if self._process is None or self._process.gone or self._process.model != model:
                while self._users:
                    await self._unused.wait()
                await self._stop()
                await self._start(model)
            process = self._process
            assert process is not None
            self._users += 1
            self._unused = trio.Event()
        try:
            yield process
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def unload(self) -> None:
        """Give the memory back, unless somebody is using the model right now."""
        async with self._starting:
            if not self._users:
                await self._stop()

    async def kill(self) -> None:
        """End the process at once, whoever uses it."""
        if self._process is not None:
            await self._process.kill()
        self._process, self._state = None, "absent"

    async def _start(self, model: LocalModel) -> None:
        self._state = "loading"
        began = trio.current_time()
        try:
            self._process = await Process.start(model, self._nursery)
            self._state = "ready"
            log.info("engine %d has loaded %s in %.1f s", self._process.pid, model.name, trio.current_time() - began)
        except Unavailable:
            self._state = "failed"
            raise
        except BaseException:
            self._state = "absent"
            raise

    async def _stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
        self._process, self._state = None, "absent"


class Process:
    """One engine process with a loaded model."""

    def __init__(self, model: LocalModel, process: trio.Process, stream: trio.SocketStream) -> None:
        self.model = model
        self.heartbeat: Heartbeat | None = None
        self.gone = False
        self._process = process
        self._stream = stream
        self._sending = trio.Lock()
        self._requests: dict[int, trio.MemorySendChannel[FromEngine]] = {}
        self._last_id = 0
        self._heard = trio.current_time()
        self._patience = START_S
        self._loaded = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, model: LocalModel, nursery: trio.Nursery) -> Self:
        """Spawn and load; raises Unavailable when the model does not load."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-I", "-m", "sidecar.engine.worker", str(theirs.fileno())]
        with theirs:
            try:
                process = await trio.lowlevel.open_process(
                    command, stdin=DEVNULL, pass_fds=[theirs.fileno()], env=environment()
                )
            except OSError as error:
                ours.close()
                raise Unavailable(f"the engine cannot be started: {error.strerror}", retry_after=5) from None
        ours.setblocking(False)
        self = cls(model, process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        try:
            async with self._exchange(0) as answers:
                nursery.start_soon(self._receive)
                nursery.start_soon(self._watch)
                limits = model.limits
                await self._send(Load(model.files.path, model.name, limits.context_window, limits.cache_bytes))
                match await anext(answers, None):
                    case Ready():
                        self._loaded = True
                        return self
                    case Failed(message=message):
                        raise Unavailable(f"the model {model.name} cannot be loaded: {message}", retry_after=5)
                    case _:
                        raise Unavailable(
                            f"the engine ended while it loaded {model.name}; its log says why", retry_after=5
                        )
        finally:
            if not self._loaded:
                await self.kill()

    @asynccontextmanager
    async def generate(self, request: Generate) -> AsyncIterator[Events]:
        """The events of one request, until Finished or Failed. The channel ends early when the engine dies; leaving
        early cancels the request."""
        async with self._exchange(request.id) as events:
            try:
                await self._send(request)
                yield events
            finally:
                if request.id in self._requests and not self.gone:
                    with trio.move_on_after(STOP_S) as scope:
                        scope.shield = True
                        await self._send(Cancel(request.id))

    async def count(self, request: Count) -> FromEngine | None:
        """Counted or Failed; None when the engine died."""
        async with self._exchange(request.id) as answers:
            await self._send(request)
            return await anext(answers, None)

    def new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    async def stop(self) -> None:
        """Ask the process to exit, and see that it does."""
        with trio.move_on_after(STOP_S):
            if not self.gone and not self._sending.locked():
                await self._send(Stop())
            await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        with trio.CancelScope(shield=True):
            if self._process.poll() is None:
                self._process.kill()
            await self._process.wait()
            self._end()
            await self._stream.aclose()

    @asynccontextmanager
    async def _exchange(self, request: int) -> AsyncIterator[Events]:
        # Unbounded, since a slow reader must not stop the others; an answer is bounded by max_tokens.
        send, receive = trio.open_memory_channel[FromEngine](float("inf"))
        self._requests[request] = send
        if self.gone:
            send.close()
        with receive:
            try:
                yield receive
            finally:
                self._requests.pop(request, None)

    async def _send(self, frame: Frame) -> None:
        try:
            data = encode(frame)
        except (OverflowError, RecursionError) as error:
            raise InvalidRequest(f"the request holds a value that cannot be passed on: {error}") from None
        async with self._sending:
            try:
                # Whole or not at all: half a frame would swallow the next ones. The watchdog ends a peer that hangs.
                with trio.CancelScope(shield=True):
                    await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._end()

    async def _receive(self) -> None:
        decoder = Decoder(FromEngine)
        try:
            async for data in self._stream:
                for frame in decoder.feed(data):
                    self._dispatch(frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ValueError) as error:
            log.warning("the engine's frames end: %s", error)
        await self.kill()
        log.info("engine %d ended with status %s", self.pid, self._process.returncode)

    def _dispatch(self, frame: FromEngine) -> None:
        self._heard = trio.current_time()
        if isinstance(frame, Heartbeat):
            self.heartbeat = frame
            self._patience = SILENCE_S
            return
        if isinstance(frame, Ready):
            self.heartbeat = None  # the last one measured the load
        request = 0 if isinstance(frame, Ready) else frame.id
        # A request that was cancelled may still have frames on their way.
        if channel := self._requests.get(request):
            channel.send_nowait(frame)
            if type(frame).__name__ in ("Finished", "Failed", "Counted", "Ready"):
                del self._requests[request]
                channel.close()

    async def _watch(self) -> None:
        """Kill a process that hangs."""
        while not self.gone:
            await trio.sleep(1.0)
            stuck = self._loaded and self.heartbeat is not None and self.heartbeat.step_s > STEP_S
            if stuck or trio.current_time() - self._heard > self._patience:
                log.error("the engine is stuck (%s): killing it", self.heartbeat)
                await self.kill()

    def _end(self) -> None:
        self.gone = True
        for channel in self._requests.values():
            channel.close()
        self._requests.clear()


def environment(platform: str = sys.platform) -> dict[str, str]:
    """The engine's environment: on Linux with a real BLAS where the system has one.

    MLX's CPU build for Linux carries a reference BLAS; OpenBLAS reads prompts 4 to 6 times faster.
    """
    inherited = dict(os.environ)
    if platform == "linux" and "LD_PRELOAD" not in inherited:
        for library in sorted(Path("/usr/lib").glob("*-linux-gnu/libopenblas.so.0")):
            inherited["LD_PRELOAD"] = str(library)
    return inherited
