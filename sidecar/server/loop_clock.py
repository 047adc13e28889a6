"""Trio's clock with the pauses left out: no deadline of the event loop comes nearer while the sidecar is stopped."""

import trio

from sidecar.shared.pauses import Clock


class LoopClock(trio.abc.Clock):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._clock.now()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()
