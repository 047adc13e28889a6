"""The engine as the sidecar sees it: started on demand and where memory allows, gone when told or broken.

Whatever goes wrong in it ends it; the requests under way get an error that clients retry, and the next request
starts a new one.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import trio

from sidecar.errors import Unavailable
from sidecar.memory.guard import Level
from sidecar.memory.monitor import Memory
from sidecar.models.library import LocalModel
from sidecar.models.sizing import load_refusal
from sidecar.supervisor.process import Process

RETRY_S = 10.0
"""When to ask again after a refusal for want of memory: closing a program takes about so long."""
BACKOFF_S, LONGEST_BACKOFF_S, CALM_S = 5.0, 300.0, 600.0
"""After an evacuation: the first wait until the model may come back, the longest one (each is twice the last), and
how long after one all is forgotten."""
LINGER_S = 5.0
"""How long a load goes on for which nobody waits any more: after a short command there is often another one, which
would begin it anew."""

STOPPING = "claude-local is being stopped; it starts again by itself"

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


@dataclass(eq=False, slots=True)
class Loading:
    """A load under way. It belongs to nobody: who waits for it may go, and another one come."""

    model: LocalModel
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    failure: Exception | None = None

    @property
    def is_awaited(self) -> bool:
        return self.scope.deadline == float("inf")

    async def wait(self) -> bool:
        """Until the model is in memory; False when the load was given up just before we came. Raises its failure."""
        self.scope.deadline = float("inf")
        try:
            await self.done.wait()
        finally:
            if not self.done.is_set():
                self.scope.deadline = trio.current_time() + LINGER_S
        if self.failure is not None:
            raise self.failure
        return not self.scope.cancelled_caught

    async def give_up(self) -> None:
        """Returns when the process is gone."""
        self.scope.cancel()
        with trio.CancelScope(shield=True):
            await self.done.wait()


class Engine:
    """At most one engine process, with at most one model in it."""

    def __init__(
        self,
        nursery: trio.Nursery,
        memory: Memory,
        limit: float = 0.0,
        disk: tuple[str, int] = ("", 0),
        temperature: float | None = None,
    ) -> None:
        """`limit`: bytes that all our processes may hold together, 0 = what there is; `disk`: the folder of prefixes,
        empty for none, and the most bytes in it; `temperature`: as in `Load`."""
        self._nursery = nursery
        self._memory = memory
        self._limit = limit
        self._disk = disk
        self._temperature = temperature
        self._process: Process | None = None
        self._loading: Loading | None = None
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
        process, loading = self._process, self._loading
        if process is not None and loading is not None and not loading.is_awaited:
            process.end_now("memory became low while it loaded, and nobody waited for it any more")
            return True
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
                raise Unavailable(STOPPING)
            if self._failure and self._failure[0] >= arrived and self._failure[1] == model:
                # A model that cannot be loaded is tried once for all who wait.
                raise type(self._failure[2])(str(self._failure[2]), retry_after=5)
            process = await self._loaded(model)
            self._users += 1
            self._unused = trio.Event()
        try:
            yield process
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def _loaded(self, model: LocalModel) -> Process:
        """The process with this model in memory, whoever has asked for it first."""
        while True:
            if self._loading is not None and self._loading.model != model:
                await self._loading.give_up()
            process = self._process
            # A load that has begun may have no process yet: starting one takes a moment.
            if self._loading is None and (process is None or process.gone or process.model != model):
                self.check_room(model)
                while self._users:
                    await self._unused.wait()
                self.check_room(model)
                await self._stop(lambda: True)
                self._loading = Loading(model)
                self._state = "loading"
                self._nursery.start_soon(self._load, self._loading)
            if self._loading is None or await self._loading.wait():
                assert self._process is not None
                return self._process

    def check_room(self, model: LocalModel) -> None:
        """Raise Unavailable when the model is not in memory and must not be loaded now."""
        process, view = self._process, self._memory.view
        if process is not None and not process.gone and process.model == model:
            return
        available = view.sample.available + self.held_bytes()
        wait = self._backoff.until - time.monotonic()
        reason = load_refusal(model.name, model.files.memory_bytes, available, view.lines.caution, view.advice)
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
                await self._stop(lambda: self._starting.statistics().tasks_waiting > 0)

    async def drop(self) -> None:
        """Have it forget all prefixes, on disk too."""
        if self._process is not None:
            await self._process.drop()

    async def close(self, awaited: Callable[[], bool]) -> None:
        """End the process once it has written what it has read, and start no other; `awaited` as for `Process.stop`.
        May be cancelled: `kill` does the rest."""
        await self._end_load()
        if self._process is not None:
            await self._process.stop(awaited)

    async def kill(self) -> None:
        """End the process at once, whoever uses it, and start no other."""
        await self._end_load()
        if self._process is not None:
            await self._process.kill()
        self._process, self._state = None, "absent"

    async def _end_load(self) -> None:
        self._closed = True
        if self._loading is not None:
            self._loading.failure = Unavailable(STOPPING)
            await self._loading.give_up()

    async def _load(self, loading: Loading) -> None:
        model, began = loading.model, trio.current_time()
        state: State = "absent"
        try:
            with loading.scope:
                # Known before it has loaded, so that it can be evacuated while it does.
                self._process = process = await Process.spawn(model)
                how = (self._memory.view.lines.critical, self._limit, self._disk, self._temperature)
                await process.load(self._nursery, *how)
                state = "ready"
                log.info("engine %d has loaded %s in %.1f s", process.pid, model.name, trio.current_time() - began)
        except Unavailable as error:
            loading.failure = error
            if loading.is_awaited:
                state, self._failure = "failed", (trio.current_time(), model, error)
        except Exception as error:  # it is for whoever waits, not the end of the sidecar
            log.exception("loading %s fails", model.name)
            loading.failure = error
        finally:
            if loading.scope.cancelled_caught:
                log.info("nobody waits for %s any more: its load is given up", model.name)
            self._state, self._loading = state, None
            loading.done.set()

    async def _stop(self, awaited: Callable[[], bool]) -> None:
        # Not left half way when whoever asked for another model goes: an engine that has been told to end, and whose
        # state still reads ready, would be called dead.
        if self._loading is not None:
            await self._loading.give_up()
        with trio.CancelScope(shield=True):
            if self._process is not None:
                await self._process.stop(awaited)
            self._process, self._state = None, "absent"
