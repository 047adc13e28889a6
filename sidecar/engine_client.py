"""The engine process as the sidecar sees it: started on demand, spoken to in frames, gone when told or broken.

Whatever goes wrong in it ends it; the requests under way get an error that clients retry, and the next request
starts a new one.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL
from typing import Literal, Self

import trio

from sidecar.errors import InvalidRequest, Unavailable
from sidecar.fit import load_refusal
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
    Shed,
    Stop,
    encode,
)
from sidecar.guard import Level
from sidecar.library import LocalModel
from sidecar.memory import Memory

SILENCE_S = 10.0
"""Without a heartbeat for so long the process is hung: it beats every second from a thread of its own."""
START_S = 120.0
"""The same before the first one: importing mlx and mlx-lm from a cold disk comes first."""
STEP_S = 60.0
"""A single step of the model that takes longer never ends: the scheduler sizes steps to one second."""
STUCK_S, SLOW_S = 3.0, 30.0
"""Silence, and the length of a single step, from which on health calls the engine stuck: well before it is killed."""
RETRY_S = 10.0
"""When to ask again after a refusal for want of memory: closing a program takes about so long."""
STOP_S = 2.0
"""How long the engine may take to exit when told to."""
BACKOFF_S, LONGEST_BACKOFF_S, CALM_S = 5.0, 300.0, 600.0
"""After an evacuation: the first wait until the model may come back, the longest one (each is twice the last), and
how long after one all is forgotten."""

MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""glibc gives freed memory back to the machine: without these it keeps the holes between what is still used."""

log = logging.getLogger(__name__)

State = Literal["absent", "loading", "ready", "stuck", "dead", "failed", "refused", "evacuated"]
"""absent: nobody needed it yet, or nobody any more. stuck, dead, failed (to load): broken, until it is replaced.
refused, evacuated: kept out by the lack of memory."""

Events = trio.MemoryReceiveChannel[FromEngine]


@dataclass(slots=True)
class Backoff:
    """When an engine that had to go may come back. Seconds on one clock."""

    until: float = float("-inf")
    _delay: float = 0.0
    _last: float = float("-inf")

    def push(self, now: float) -> None:
        """It had to go."""
        self._delay = BACKOFF_S if now - self._last > CALM_S else min(2 * self._delay, LONGEST_BACKOFF_S)
        self._last, self.until = now, now + self._delay


class Engine:
    """At most one engine process, with at most one model in it."""

    def __init__(self, nursery: trio.Nursery, memory: Memory, limit: float = 0.0) -> None:
        """`limit`: bytes that all our processes may hold together, 0 = what there is."""
        self._nursery = nursery
        self._memory = memory
        self._limit = limit
        self._process: Process | None = None
        self._starting = trio.Lock()
        self._users = 0
        self._unused = trio.Event()
        self._state: State = "absent"
        self._backoff = Backoff()
        self._refused_until = float("-inf")
        self._token = trio.lowlevel.current_trio_token()

    @property
    def state(self) -> "State":
        process, now = self._process, time.monotonic()
        if process is not None and not process.gone:
            return "stuck" if self._state == "ready" and process.stuck else self._state
        if now < self._backoff.until:
            return "evacuated"
        if now < self._refused_until:
            return "refused"
        if process is not None and process.epitaph:
            return "absent"
        return "dead" if self._state == "ready" else self._state

    @property
    def process(self) -> "Process | None":
        return self._process

    def held_bytes(self) -> int:
        """Memory that the process has now."""
        beat = self._process.heartbeat if self._process and not self._process.gone else None
        return beat.active_bytes + beat.pool_bytes if beat else 0

    # For the memory thread: these are called on it, and wait for nothing

    def shed(self, wanted: int) -> bool:
        """Have the engine give back so many bytes; False when it has nothing but the model."""
        process = self._process
        beat = process.heartbeat if process and not process.gone else None
        if process is None or beat is None or not beat.cache_bytes + beat.pool_bytes:
            return False
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._nursery.start_soon, process.shed, wanted)
        return True

    def evacuate(self, why: str) -> bool:
        """End the process now, whatever it does; False when there is none."""
        process = self._process
        if process is None or process.gone or process.epitaph:
            return False
        self._backoff.push(time.monotonic())
        process.end_now(why)
        return True

    @asynccontextmanager
    async def use(self, model: LocalModel) -> AsyncIterator["Process"]:
        """The process with this model loaded; it is not unloaded while in use. Raises Unavailable.

        Another model is replaced once nobody uses it: two never are in memory at once.
        """
        async with self._starting:
            if self._process is None or self._process.gone or self._process.model != model:
                self.check_room(model)
                while self._users:
                    await self._unused.wait()
                self.check_room(model)
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

    def check_room(self, model: LocalModel) -> None:
        """Raise Unavailable when the model is not in memory and must not be loaded now."""
        process, view = self._process, self._memory.view
        if process is not None and not process.gone and process.model == model:
            return
        available = view.sample.available + self.held_bytes()
        wait = self._backoff.until - time.monotonic()
        reason = load_refusal(model.name, model.files.weights_bytes, available, view.lines.caution, view.advice)
        if view.level is Level.EMERGENCY or view.sample.available < view.lines.acceptance:
            reason = reason or view.refusal()  # else only the hold is left: it may load while requests still wait
        if reason is None and wait > 0:
            reason = "memory ran out a moment ago: the model comes back by itself when there is room"
        if reason is not None:
            retry_after = max(RETRY_S, wait)
            self._refused_until = time.monotonic() + retry_after
            raise Unavailable(reason, retry_after=round(retry_after))

    async def bring_back(self) -> None:
        """Load an evacuated model again if there is room by now."""
        process = self._process
        if process is not None and process.gone and process.epitaph:
            with suppress(Unavailable):
                async with self.use(process.model):
                    pass

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
            # Known before it has loaded, so that it can be evacuated while it does.
            self._process = process = await Process.spawn(model)
            await process.load(self._nursery, self._memory.view.lines.critical, self._limit)
            self._state = "ready"
            log.info("engine %d has loaded %s in %.1f s", process.pid, model.name, trio.current_time() - began)
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
        self.epitaph = ""
        """Why we ended it ourselves in the middle of its work, for those who waited for an answer."""
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

    @property
    def stuck(self) -> bool:
        """Whether it says nothing any more, or is at one step for so long that something must be wrong."""
        slow = self.heartbeat is not None and self.heartbeat.step_s > SLOW_S
        return slow or trio.current_time() - self._heard > STUCK_S

    @classmethod
    async def spawn(cls, model: LocalModel) -> Self:
        """A process that has loaded nothing yet; raises Unavailable."""
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
        return cls(model, process, trio.SocketStream(trio.socket.from_stdlib_socket(ours)))

    async def load(self, nursery: trio.Nursery, reserve: float, limit: float) -> None:
        """Load the model; raises Unavailable when it does not load. `reserve`, `limit`: as in `Load`, in bytes."""
        model = self.model
        try:
            async with self._exchange(0) as answers:
                nursery.start_soon(self._receive)
                nursery.start_soon(self._watch)
                limits = model.limits
                await self._send(
                    Load(model.files.path, model.name, limits.context_window, limits.cache_bytes, reserve, limit)
                )
                match await anext(answers, None):
                    case Ready():
                        self._loaded = True
                    case Failed(message=message):
                        raise Unavailable(f"the model {model.name} cannot be loaded: {message}", retry_after=5)
                    case _:
                        reason = self.epitaph or f"the engine ended while it loaded {model.name}; its log says why"
                        raise Unavailable(reason, retry_after=5)
        finally:
            if not self._loaded:
                await self.kill()

    async def shed(self, wanted: int) -> None:
        """Have it give back so many bytes."""
        if not self.gone and not self._sending.locked():
            await self._send(Shed(wanted))

    def end_now(self, why: str) -> None:
        """Kill it from any thread; the event loop sees its frames end, and answers whoever waited with `why`."""
        self.epitaph = why
        self._process.kill()

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
    if platform == "linux":
        inherited = MALLOC | inherited
    if platform == "linux" and "LD_PRELOAD" not in inherited:
        for library in sorted(Path("/usr/lib").glob("*-linux-gnu/libopenblas.so.0")):
            inherited["LD_PRELOAD"] = str(library)
    return inherited
