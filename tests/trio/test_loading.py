"""Who waits for a load, and what becomes of one that nobody waits for any more; on the virtual clock."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.errors import Unavailable
from sidecar.memory.guard import Lines, Sample
from sidecar.memory.monitor import Memory
from sidecar.supervisor import engine as supervisor
from sidecar.supervisor.engine import LINGER_S, Engine

SPAWN_S, LOAD_S = 1.0, 60.0


class StandIn:
    """A process that takes its time to load, and notes when it began and how it ended."""

    started: list["StandIn"]

    def __init__(self, model: Any) -> None:
        self.model, self.pid = model, len(self.started) + 1
        self.gone, self.epitaph, self.heartbeat, self.ready, self.stuck = False, "", None, None, False
        self.began = trio.current_time()
        self.ended = math.inf
        self._ended = trio.Event()
        self.started.append(self)

    @classmethod
    async def spawn(cls, model: Any) -> "StandIn":
        started = cls(model)
        await trio.sleep(SPAWN_S)
        return started

    async def load(self, *how: object) -> None:
        try:
            with trio.move_on_after(LOAD_S):
                await self._ended.wait()
                raise Unavailable(self.epitaph)
        except BaseException:
            await self.kill()
            raise

    def end_now(self, why: str) -> None:
        self.epitaph = why
        self._ended.set()

    async def kill(self) -> None:
        self.gone, self.ended = True, min(self.ended, trio.current_time())

    async def stop(self, awaited: Callable[[], bool]) -> None:
        await self.kill()


def model(name: str) -> Any:
    return SimpleNamespace(name=name, files=SimpleNamespace(memory_bytes=1))


@asynccontextmanager
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Engine, list[StandIn]]]:
    StandIn.started = []
    monkeypatch.setattr(supervisor, "Process", StandIn)
    async with trio.open_nursery() as nursery:
        memory = Memory(lambda: Sample(1 << 40, 1 << 40), Lines(), list)
        yield Engine(nursery, memory), StandIn.started
        nursery.cancel_scope.cancel()


async def want(engine: Engine, wanted: Any, seconds: float = math.inf) -> bool:
    """Whether the model came while somebody waited for it for so long."""
    with trio.move_on_after(seconds):
        async with engine.use(wanted):
            return True
    return False


async def test_who_comes_while_the_process_is_only_being_started_waits_for_the_same_load(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with running(monkeypatch) as (engine, started):
        wanted = model("one")
        assert not await want(engine, wanted, SPAWN_S / 4)
        assert not await want(engine, wanted, SPAWN_S / 4)
        assert await want(engine, wanted)
        assert len(started) == 1


async def test_a_load_goes_on_for_the_next_who_wants_the_same(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = model("a")
    async with running(monkeypatch) as (engine, started):
        for _ in range(8):
            assert not await want(engine, a, 2)
            await trio.sleep(LINGER_S - 1)
        assert await want(engine, a)
        assert len(started) == 1 and trio.current_time() - started[0].began == pytest.approx(SPAWN_S + LOAD_S)
        assert engine.state == "ready"


async def test_a_load_that_nobody_waits_for_ends_after_a_while_and_was_no_failure(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = model("a")
    async with running(monkeypatch) as (engine, started):
        assert not await want(engine, a, 2)
        await trio.sleep(2 * LINGER_S)
        assert started[0].ended - started[0].began == pytest.approx(2 + LINGER_S)
        assert engine.state == "absent"
        assert await want(engine, a) and len(started) == 2


async def test_another_model_does_not_wait_for_a_load_that_nobody_waits_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = model("a"), model("b")
    async with running(monkeypatch) as (engine, started):
        assert not await want(engine, a, 2)
        assert await want(engine, b)
        assert [each.model for each in started] == [a, b]
        assert started[0].ended <= started[1].began == pytest.approx(started[0].began + 2)


async def test_a_crowd_of_two_models_loads_each_of_them_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as somebody waits for a load, nobody else ends it."""
    a, b = model("a"), model("b")
    async with running(monkeypatch) as (engine, started), trio.open_nursery() as crowd:
        for wanted in (a, a, b, a, b):
            crowd.start_soon(want, engine, wanted)
            await trio.sleep(1)
    assert len(started) <= 4 and all(each.ended - each.began >= LOAD_S for each in started)


async def test_memory_that_becomes_low_ends_a_load_that_nobody_waits_for_and_no_other(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = model("a")
    async with running(monkeypatch) as (engine, started):
        assert not await want(engine, a, 2)
        assert engine.shed(1)
        await trio.testing.wait_all_tasks_blocked()
        assert started[0].gone and engine.state == "absent"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(want, engine, a)
            await trio.sleep(2)
            assert not engine.shed(1), "somebody waits for this one"
        assert not started[1].gone


@pytest.mark.parametrize("gently", [True, False])
async def test_a_stop_ends_a_load_at_once_and_tells_who_waited(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, gently: bool
) -> None:
    a = model("a")
    async with running(monkeypatch) as (engine, started):
        refused = []

        async def ask() -> None:
            try:
                await want(engine, a)
            except Unavailable as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(2)
            if gently:
                await engine.close(lambda: False)
            await engine.kill()
        assert started[0].ended - started[0].began == pytest.approx(2)
        assert len(refused) == 1 and "being stopped" in refused[0]


async def test_what_goes_wrong_in_a_load_is_told_to_who_waits_and_ends_nobody_else(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: StandIn, *how: object) -> None:
        await trio.sleep(1)
        raise RuntimeError("a bug")

    monkeypatch.setattr(StandIn, "load", broken)
    async with running(monkeypatch) as (engine, _):
        with pytest.raises(RuntimeError):
            await want(engine, model("a"))
        assert engine.state == "absent"
