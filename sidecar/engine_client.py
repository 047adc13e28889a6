"""The engine as the sidecar sees it: started on demand and where memory allows, gone when told or broken.

Whatever goes wrong in it ends it; the requests under way get an error that clients retry, and the next request
starts a new one.
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import trio

from sidecar.engine_process import Process
from sidecar.errors import Unavailable
from sidecar.fit import load_refusal
from sidecar.guard import Level
from sidecar.library import LocalModel
from sidecar.memory import Memory

RETRY_S = 10.0
"""When to ask again after a refusal for want of memory: closing a program takes about so long."""
BACKOFF_S, LONGEST_BACKOFF_S, CALM_S = 5.0, 300.0, 600.0
"""After an evacuation: the first wait until the model may come back, the longest one (each is twice the last), and
how long after one all is forgotten."""

log = logging.getLogger(__name__)

State = Literal["absent", "loading", "ready", "stuck", "dead", "failed", "refused", "evacuated"]
"""absent: nobody needed it yet, or nobody any more. stuck, dead, failed (to load): broken, until it is replaced.
refused, evacuated: kept out by the lack of memory."""


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

    def __init__(
        self, nursery: trio.Nursery, memory: Memory, limit: float = 0.0, disk: tuple[str, int] = ("", 0)
    ) -> None:
        """`limit`: bytes that all our processes may hold together, 0 = what there is; `disk`: the folder of prefixes,
        empty for none, and the most bytes in it."""
        self._nursery = nursery
        self._memory = memory
        self._limit = limit
        self._disk = disk
        self._process: Process | None = None
        self._starting = trio.Lock()
        self._users = 0
        self._unused = trio.Event()
        self._state: State = "absent"
        self._backoff = Backoff()
        self._revival = Backoff()
        self._mourned: Process | None = None
        """The last one whose death was seen while nobody asked for anything."""
        self._refused_until = float("-inf")
        self._failure: tuple[float, LocalModel, Unavailable] | None = None
        """The last load that failed: when it did, what, and why."""
        self._closed = False
        self._token = trio.lowlevel.current_trio_token()

    @property
    def state(self) -> State:
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
    def process(self) -> Process | None:
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
            self._token.run_sync_soon(self._shed_soon, process, wanted)
        return True

    def _shed_soon(self, process: Process, wanted: int) -> None:
        with suppress(RuntimeError):  # the nursery is closed: the sidecar is about to leave
            self._nursery.start_soon(process.shed, wanted)

    def evacuate(self, why: str) -> bool:
        """End the process now, whatever it does; False when there is none."""
        process = self._process
        if process is None or process.gone or process.epitaph:
            return False
        self._backoff.push(time.monotonic())
        process.end_now(why)
        return True

    @asynccontextmanager
    async def use(self, model: LocalModel) -> AsyncIterator[Process]:
        """The process with this model loaded; it is not unloaded while in use. Raises Unavailable.

        Another model is replaced once nobody uses it: two never are in memory at once.
        """
        arrived = trio.current_time()
        async with self._starting:
            if self._closed:
                raise Unavailable("claude-local is being stopped; it starts again by itself")
            if self._failure and self._failure[0] >= arrived and self._failure[1] == model:
                # A model that cannot be loaded is tried once for all who wait.
                raise type(self._failure[2])(str(self._failure[2]), retry_after=5)
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
        """Load the model of an engine that was given up, or that died, if there is room by now."""
        process, now = self._process, trio.current_time()
        if process is None or not process.gone:
            return
        if not process.epitaph:
            if self._state != "ready":
                return
            if self._mourned is not process:
                self._mourned = process
                self._revival.push(now)
            if now < self._revival.until:
                return
        with suppress(Unavailable):
            async with self.use(process.model):
                pass

    async def unload(self) -> None:
        """Give the memory back, unless somebody is using the model right now."""
        async with self._starting:
            if not self._users:
                await self._stop()

    async def drop(self) -> None:
        """Have it forget all prefixes, on disk too."""
        if self._process is not None:
            await self._process.drop()

    async def kill(self, gently: bool = False) -> None:
        """End the process at once, whoever uses it, and start no other. `gently`: it may write what it has read."""
        self._closed = True
        if self._process is not None:
            await (self._process.stop() if gently else self._process.kill())
        self._process, self._state = None, "absent"

    async def _start(self, model: LocalModel) -> None:
        self._state = "loading"
        began = trio.current_time()
        try:
            # Known before it has loaded, so that it can be evacuated while it does.
            self._process = process = await Process.spawn(model)
            await process.load(self._nursery, self._memory.view.lines.critical, self._limit, self._disk)
            self._state = "ready"
            log.info("engine %d has loaded %s in %.1f s", process.pid, model.name, trio.current_time() - began)
        except Unavailable as error:
            self._state, self._failure = "failed", (trio.current_time(), model, error)
            raise
        except BaseException:
            self._state = "absent"
            raise

    async def _stop(self) -> None:
        # Not left half way when whoever asked for another model goes: an engine that has been told to end, and whose
        # state still reads ready, would be called dead. It takes two seconds at most.
        with trio.CancelScope(shield=True):
            if self._process is not None:
                await self._process.stop()
            self._process, self._state = None, "absent"
