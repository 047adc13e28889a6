"""Time that passes only while this process may run.

A process that is stopped (SIGSTOP, a container that is frozen) does not hang, and whoever it waits for was most likely
stopped with it: such a pause must use up nobody's limit. While the machine itself sleeps, the system's own clock stands
still as well. Standard library alone, since the shim uses it too.
"""

import _thread
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TICK_S = 0.25
"""Between two looks at the clock of the thread that does nothing else."""
LATE_S = 1.0
"""Such a look comes so much too late only if the process was stopped, or the machine had no time for it."""
BUSY = 0.1
"""Part of a pause that may have been spent computing. More: the thread was late because another one let it not run."""


class Clock:
    """Seconds without the pauses, on any thread. Until it is `kept` it knows of none, and is the system's clock."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, computing: Callable[[], float] = time.process_time
    ) -> None:
        """`computing`: seconds that all threads of this process together have computed."""
        self._clock = clock
        self._computing = computing
        self._lock = _thread.allocate_lock()
        self._kept = 0
        self._paused = 0.0
        self._seen, self._computed = clock(), computing()

    def now(self) -> float:
        """The time, pauses left out: also one that has just ended, of which nobody else knows yet."""
        with self._lock:
            now = self._clock()
            if self._kept and now - self._seen > TICK_S + LATE_S:
                self._look(now)
            return now - self._paused

    def tick(self) -> None:
        """Somebody could run just now."""
        with self._lock:
            self._look(self._clock())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Look for pauses meanwhile, on a thread of its own."""
        with self._lock:
            self._kept += 1
            self._seen, self._computed = self._clock(), self._computing()
        wanted = [True]
        _thread.start_new_thread(self._keep, (wanted,))
        try:
            yield
        finally:
            wanted.clear()
            with self._lock:
                self._kept -= 1

    def _keep(self, wanted: list[bool]) -> None:
        while wanted:
            self.tick()
            time.sleep(TICK_S)

    def _look(self, now: float) -> None:
        late, computing = now - self._seen - TICK_S, self._computing()
        idle = computing - self._computed <= BUSY * late + TICK_S * (os.cpu_count() or 1)
        if late > LATE_S and idle:
            self._paused += late
        self._seen, self._computed = now, computing


OWN = Clock()
"""This process's."""
