"""When an engine that died comes back although nobody asks for anything, on the virtual clock."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from sidecar.supervisor.engine import BACKOFF_S, CALM_S, Engine

Clock = trio.testing.MockClock


class Dying(Engine):
    """An engine whose processes are dead as soon as they have loaded."""

    def __init__(self) -> None:
        self._process: Any = None
        super().__init__(*(None,) * 2)  # type: ignore[arg-type]  # neither nursery nor memory is asked for
        self.loads: list[float] = []
        self.die()

    def die(self, epitaph: str = "") -> None:
        self._process = SimpleNamespace(gone=True, epitaph=epitaph, model=None)
        self._state = "ready"

    @asynccontextmanager
    async def use(self, model: Any) -> AsyncIterator[Any]:
        self.loads.append(trio.current_time())
        self.die()
        yield None

    async def run(self, seconds: float) -> list[float]:
        """Asked every second, as the sidecar does; returns when it has loaded."""
        began, self.loads = trio.current_time(), []
        while trio.current_time() < began + seconds:
            await self.bring_back()
            await trio.sleep(1)
        return [round(at - began) for at in self.loads]


async def test_one_that_keeps_dying_comes_back_ever_more_rarely(autojump_clock: Clock) -> None:
    engine = Dying()
    assert await engine.run(70) == pytest.approx(
        [BACKOFF_S, 3 * BACKOFF_S, 7 * BACKOFF_S], abs=2
    )  # it is asked every second
    await trio.sleep(2 * CALM_S)
    engine.die()
    assert await engine.run(BACKOFF_S + 1) == [BACKOFF_S]


async def test_one_that_was_given_up_for_want_of_memory_comes_back_as_soon_as_there_is_room(
    autojump_clock: Clock,
) -> None:
    engine = Dying()
    engine.die("memory ran out")
    await engine.bring_back()
    assert len(engine.loads) == 1


async def test_one_that_nobody_has_needed_yet_or_that_cannot_load_stays_away(autojump_clock: Clock) -> None:
    engine = Dying()
    engine._state = "failed"
    assert await engine.run(60) == []
    engine._process = None
    assert await engine.run(60) == []


async def test_one_that_is_replaced_for_somebody_who_goes_meanwhile_is_absent_not_dead(autojump_clock: Clock) -> None:
    """A terminal that is closed at once, while the model before its own is being ended."""
    engine = Dying()

    async def stop(awaited: Any) -> None:
        engine._process.gone = True
        await trio.sleep(1)

    engine._process = SimpleNamespace(gone=False, epitaph="", stuck=False, stop=stop)
    with trio.move_on_after(0.5):
        await engine._stop(lambda: False)
    assert engine.process is None and engine.state == "absent"
