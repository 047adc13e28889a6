"""When the sidecar leaves and when the engine does, on a virtual clock: hours pass in no time."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sidecar.serve import unload_when_unused, until_leaving
from sidecar.server.leases import FIRST_LEASE_S, Leases
from sidecar.server.lifecycle import Lifecycle
from sidecar.shared.protocol import LeaseRequest

GRACE, UNLOAD = 300.0, 900.0


class StandInEngine:
    """Knows only whether a model is in memory."""

    process: object | None = object()

    def __init__(self) -> None:
        self.unloaded_at: list[float] = []

    async def unload(self) -> None:
        self.unloaded_at.append(trio.current_time())
        self.process = None


class House:
    """A sidecar's life with nothing behind it, and the times at which something happened to it."""

    def __init__(self, grace: float = GRACE, unload: float = UNLOAD) -> None:
        self.leases = Leases(grace, unload, trio.current_time())
        self.lifecycle = Lifecycle(self.leases)
        self.engine = StandInEngine()
        self.began = trio.current_time()
        self.left_after = math.inf

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await until_leaving(self.lifecycle)
                self.left_after = trio.current_time() - self.began

            nursery.start_soon(leave)
            nursery.start_soon(unload_when_unused, self.lifecycle, self.engine)
            yield
            nursery.cancel_scope.cancel()

    @asynccontextmanager
    async def lease(self, strong: bool = True) -> AsyncIterator[Any]:
        request = LeaseRequest("0" * 64, 1, "sh", "/", 1, "demo", strong)
        lease = self.leases.grant(request, trio.current_time())
        self.lifecycle.tell()
        yield lease
        self.leases.release(lease, trio.current_time())
        self.lifecycle.tell()

    async def request(self, seconds: float) -> None:
        self.leases.begin(trio.current_time())
        self.lifecycle.tell()
        await trio.sleep(seconds)
        self.leases.end(trio.current_time())
        self.lifecycle.tell()


async def test_it_leaves_a_grace_period_after_the_last_lease(autojump_clock: MockClock) -> None:
    house = House()
    async with house.open():
        async with house.lease():
            await trio.sleep(10_000)
        await trio.sleep(GRACE - 1)
        async with house.lease():  # somebody came back in time
            await trio.sleep(50)
        await trio.sleep(GRACE + 1)
    assert house.left_after == pytest.approx(10_000 + GRACE - 1 + 50 + GRACE)


async def test_whoever_started_it_has_a_while_to_come_in_even_without_grace(autojump_clock: MockClock) -> None:
    house = House(grace=0)
    async with house.open():
        await trio.sleep(1000)
    assert house.left_after == pytest.approx(FIRST_LEASE_S)


async def test_without_grace_it_leaves_at_once(autojump_clock: MockClock) -> None:
    house = House(grace=0)
    async with house.open():
        async with house.lease():
            await trio.sleep(5)
        await trio.sleep(0.001)
    assert house.left_after == pytest.approx(5)


async def test_a_soft_lease_does_not_hold_it_and_its_requests_do(autojump_clock: MockClock) -> None:
    house = House()
    async with house.open(), house.lease(strong=False):
        for _ in range(10):
            await trio.sleep(GRACE - 10)
            await house.request(seconds=GRACE * 2)  # longer than the grace period
        await trio.sleep(GRACE + 1)
    assert house.left_after == pytest.approx(10 * (GRACE - 10 + 2 * GRACE) + GRACE)


async def test_never_is_never(autojump_clock: MockClock) -> None:
    house = House(grace=math.inf, unload=math.inf)
    async with house.open():
        async with house.lease():
            await trio.sleep(1)
        await trio.sleep(86_000)
    assert house.left_after == math.inf
    assert house.engine.unloaded_at == []


async def test_the_engine_goes_after_silence_although_a_terminal_is_open(autojump_clock: MockClock) -> None:
    house = House()
    async with house.open(), house.lease():
        await trio.sleep(UNLOAD - 1)
        await house.request(seconds=UNLOAD * 2)
        await trio.sleep(UNLOAD + 1)
        assert house.engine.unloaded_at == [pytest.approx(house.began + UNLOAD - 1 + 2 * UNLOAD + UNLOAD)]
        await trio.sleep(10 * UNLOAD)  # nothing to unload, and no endless loop
        house.engine.process = object()
        await house.request(seconds=1)
        await trio.sleep(UNLOAD + 1)
        assert len(house.engine.unloaded_at) == 2
    assert house.left_after == math.inf


async def test_being_told_to_leave_needs_no_deadline(autojump_clock: MockClock) -> None:
    house = House()
    async with house.open(), house.lease():
        await trio.sleep(7)
        house.lifecycle.leave()
        await trio.sleep(0.001)
    assert house.left_after == pytest.approx(7)
