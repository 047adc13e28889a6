"""One engine process with a model: spoken to in frames, watched, ended when it hangs.

When it is loaded and for whom is `engine`'s.
"""

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from signal import SIGKILL
from subprocess import DEVNULL
from typing import Literal, Self

import psutil
import trio

from sidecar.conversation import Frame
from sidecar.errors import Died, InvalidRequest, RequestError, Unavailable
from sidecar.frames import (
    FRAME_LIMIT,
    WRITE_S,
    Accepted,
    Cancel,
    Count,
    Decoder,
    Drop,
    Failed,
    FromEngine,
    Generate,
    Heartbeat,
    Load,
    Prewarm,
    Ready,
    Shed,
    Stop,
    encode,
)
from sidecar.models.library import LocalModel
from sidecar.shared.program import program
from sidecar.supervisor.environment import environment

SILENCE_S = 4.5
"""Without a heartbeat for so long the process is hung: it beats every second from a thread of its own."""
WORKING_S = 15.0
"""The same while it uses a processor: native code may let no other thread run for some seconds."""
IDLE_S, BUSY_S = 2.0, 0.05
"""It uses none when it had less than so many seconds of one for so long."""
LOADING_S = 30.0
"""The same while it loads: a large tokenizer lets no other thread run for seconds."""
START_S = 120.0
"""The same before the first one: importing mlx and mlx-lm from a cold disk comes first."""
STEP_S, SLACK = 30.0, 4.0
"""A single step of the model that takes longer, and so many times longer than it should at the measured pace, never
ends. The scheduler sizes steps to one second, where the machine is not too slow for that."""
STUCK_S, SLOW_S = 3.0, 15.0
"""Silence, and the length of a single step, from which on health calls the engine stuck: before it is killed. Half of
what is left to it where a step should take longer."""
TICK_S = 0.25
"""Between two looks at the watch."""
STOP_S = 2.0
"""How long the engine may take to exit when told to, beside what it writes."""
PATIENCE_S = 3.0
"""How much longer it may write once somebody waits for it to be gone: what is worth most comes first."""

WORKER = program("sidecar.engine.worker")

log = logging.getLogger(__name__)

Events = trio.MemoryReceiveChannel[FromEngine]


class Process:
    """One engine process with a loaded model."""

    def __init__(self, model: LocalModel, process: trio.Process, stream: trio.SocketStream) -> None:
        self.model = model
        self.heartbeat: Heartbeat | None = None
        self.ready: Ready | None = None
        """What the engine said of the model once it was loaded."""
        self.gone = False
        self.epitaph = ""
        """Why we ended it ourselves in the middle of its work, for those who waited for an answer."""
        self._process = process
        self._stream = stream
        self._sending = trio.Lock()
        self._requests: dict[int, trio.MemorySendChannel[FromEngine]] = {}
        self._unprepared: set[int] = set()
        """Requests of which nothing has been heard yet."""
        self._running = 0
        """How many others there were when it died."""
        self._hung: Literal["", "silent", "spinning", "slow"] = ""
        """Why the watchdog has killed it, if it has: it said nothing, and worked all the time or not, or was at one
        step for too long."""
        self._used = 0.0, 0.0
        """When it was last seen to have used a processor, and for how many seconds until then."""
        self._last_id = 0
        self._heard = trio.current_time()
        self._beats = False
        """Whether a heartbeat ever came."""
        self._loaded = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stuck(self) -> bool:
        """Whether it says nothing any more, or is at one step for so long that something must be wrong."""
        slow = self.heartbeat is not None and self.heartbeat.step_s > max(SLOW_S, self._step_limit() / 2)
        return slow or trio.current_time() - self._heard > STUCK_S

    @classmethod
    async def spawn(cls, model: LocalModel) -> Self:
        """A process that has loaded nothing yet; raises Unavailable."""
        ours, theirs = socket.socketpair()
        command = [*WORKER, str(theirs.fileno())]
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

    async def load(
        self, nursery: trio.Nursery, reserve: float, limit: float, disk: tuple[str, int], temperature: float | None
    ) -> None:
        """Load the model; raises Unavailable when it does not load. `reserve`, `limit`, `temperature`: as in `Load`;
        `disk`: the folder of prefixes and the most bytes in it."""
        model = self.model
        try:
            async with self._exchange(0) as answers:
                nursery.start_soon(self._receive)
                nursery.start_soon(self._watch)
                limits = model.limits
                sizes = (limits.context_window, limits.cache_bytes, reserve, limit, limits.kv_bits)
                await self._send(Load(model.files.path, model.name, *sizes, *disk, temperature))
                match await anext(answers, None):
                    case Ready() as ready:
                        self._loaded, self.ready = True, ready
                    case Failed(message=message):
                        raise Unavailable(f"the model {model.name} cannot be loaded: {message}", retry_after=5)
                    case _ if self.epitaph:
                        raise Unavailable(self.epitaph, retry_after=5)
                    case _:
                        raise Died(f"the engine ended while it loaded {model.name}; its log says why", retry_after=5)
        finally:
            if not self._loaded:
                await self.kill()

    async def shed(self, wanted: int) -> None:
        """Have it give back so many bytes."""
        if not self.gone and not self._sending.locked():
            await self._send(Shed(wanted))

    async def drop(self) -> None:
        """Have it forget all prefixes, on disk too."""
        if not self.gone:
            await self._send(Drop())

    async def prewarm(self, place: str) -> None:
        """Have it make ready what prompts of this folder begin with."""
        if not self.gone:
            await self._send(Prewarm(place))

    async def obituary(self, request: int) -> RequestError:
        """What a request is told over which the process has died: why, if it was us."""
        if self.epitaph:
            return Unavailable(f"{self.epitaph}; it comes back by itself when there is room", retry_after=10)
        with trio.move_on_after(STOP_S):
            await self._process.wait()
        suspect = request in self._unprepared
        guilt = self._guilt() if suspect else 0.0
        if not self._hung:
            return Died(f"the engine ended while it worked with {self.model.name}; it starts again by itself", 1, guilt)
        # Whose step did not end, or whose preparation let nobody else run, is not asked again unbidden.
        culprit = suspect if self._hung == "spinning" else not suspect and self._hung == "slow"
        message = f"the engine {self._fault()} and has been ended; it starts again by itself"
        return Died(message, 5, guilt, again=not culprit)

    def _fault(self) -> str:
        """What was wrong with it when the watchdog killed it."""
        if self._hung == "slow" and self.heartbeat:
            expected = f", where about {self.heartbeat.expected_s:.0f} s are usual" * (self.heartbeat.expected_s >= 1)
            return f"was stuck in one step of {self.model.name} for {self.heartbeat.step_s:.0f} s{expected},"
        return "was stuck"

    def _guilt(self) -> float:
        """How sure it is that it died over one of those that it prepared, shared out among them."""
        if self._hung == "slow":
            return 0.0
        # Whoever stops or kills a process from outside leaves the same trace as a request that takes all memory; and
        # what ran beside a request may have crashed as well.
        outside = self._hung == "silent" or (not self._hung and self._process.returncode in (None, -SIGKILL))
        sure = self._hung == "spinning" or not (outside or self._running)
        return (1.0 if sure else 0.4) / len(self._unprepared)

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
                await self._ask(request)
                yield events
            finally:
                if request.id in self._requests and not self.gone:
                    with trio.move_on_after(STOP_S) as scope:
                        scope.shield = True
                        await self._send(Cancel(request.id))

    async def count(self, request: Count) -> FromEngine | None:
        """Counted or Failed; None when the engine died."""
        async with self._exchange(request.id) as answers:
            try:
                await self._ask(request)
                return await anext(answers, None)
            finally:
                if request.id in self._requests and not self.gone:
                    with trio.move_on_after(STOP_S) as scope:
                        scope.shield = True
                        await self._send(Cancel(request.id))

    def new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    async def stop(self, awaited: Callable[[], bool]) -> None:
        """Ask the process to write what it has read and to exit, and see that it does. `awaited`: whether somebody
        waits for it to be gone."""
        with trio.move_on_after(STOP_S) as scope:
            if not self.gone and not self._sending.locked():
                await self._send(Stop())
                scope.deadline += WRITE_S
            while self._process.poll() is None:
                if awaited():
                    scope.deadline = min(scope.deadline, trio.current_time() + PATIENCE_S)
                    await self._process.wait()
                with trio.move_on_after(TICK_S):
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
                if not self.gone:
                    self._unprepared.discard(request)

    async def _ask(self, request: Generate | Count) -> None:
        if not self.gone:
            self._unprepared.add(request.id)
        await self._send(request)

    async def _send(self, frame: Frame) -> None:
        try:
            data = encode(frame)
        except (OverflowError, RecursionError, UnicodeEncodeError) as error:
            raise InvalidRequest(f"the request holds a value that cannot be passed on: {error}") from None
        if len(data) > FRAME_LIMIT:
            raise InvalidRequest("the request holds too many numbers to be passed on")
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
            self._beats = True
            return
        if isinstance(frame, Ready):
            self.heartbeat = None  # the last one measured the load
        request = 0 if isinstance(frame, Ready) else frame.id
        self._unprepared.discard(request)
        if isinstance(frame, Accepted):
            return
        # A request that was cancelled may still have frames on their way.
        if channel := self._requests.get(request):
            channel.send_nowait(frame)
            if type(frame).__name__ in ("Finished", "Failed", "Counted", "Ready"):
                del self._requests[request]
                channel.close()

    async def _watch(self) -> None:
        """Kill a process that hangs."""
        while not self.gone:
            looked = trio.current_time()
            await trio.sleep(TICK_S)
            if (late := trio.current_time() - looked - TICK_S) > TICK_S:
                # Whatever held us up may have held it up as well.
                self._heard = min(self._heard + late, trio.current_time())
            stuck = self._loaded and self.heartbeat is not None and self.heartbeat.step_s > self._step_limit()
            if stuck or trio.current_time() - self._heard > self._patience():
                log.error("the engine is stuck (%s): killing it", self.heartbeat)
                self._hung = "slow" if stuck else "spinning" if self._works() else "silent"
                await self.kill()

    def _step_limit(self) -> float:
        """Seconds that its present step may take."""
        return max(STEP_S, SLACK * self.heartbeat.expected_s) if self.heartbeat else STEP_S

    def _patience(self) -> float:
        """For how long it may be silent."""
        if not self._loaded:
            return LOADING_S if self._beats else START_S
        if trio.current_time() - self._heard < SILENCE_S - IDLE_S:
            return SILENCE_S
        return WORKING_S if self._works() else SILENCE_S

    def _works(self) -> bool:
        """Whether it has used a processor of late. To be called again and again."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.Error:
            return False
        now, used = trio.current_time(), times.user + times.system
        if used > self._used[1] + BUSY_S:
            self._used = now, used
        return now - self._used[0] < IDLE_S

    def _end(self) -> None:
        if not self.gone:
            self._running = len(self._requests.keys() - self._unprepared)
        self.gone = True
        for channel in self._requests.values():
            channel.close()
        self._requests.clear()
