"""The memory guard: how near the machine is to swapping, and what may still begin.

A state machine fed with samples; the probe and the clock are passed in. A level is
entered at its line and left only above a higher one for a while, so that it cannot flap.
"""

import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

GB = 1e9

log = logging.getLogger(__name__)


class Level(enum.IntEnum):
    SAFE = 0
    CAUTION = 1
    CRITICAL = 2

    @property
    def label(self) -> str:
        return self.name.capitalize()


_ENTER = {Level.CAUTION: (2.0 * GB, 1), Level.CRITICAL: (1.0 * GB, 2)}
"""Level: (enter below so many bytes available, after so many samples in a row)."""
_LEAVE = {Level.CAUTION: (2.5 * GB, 10.0), Level.CRITICAL: (1.75 * GB, 15.0)}
"""Level: (leave above so many bytes available, held for so many seconds)."""


def available_bytes() -> int:
    """Bytes that can be taken without swapping, by the kernel's own estimate."""
    return int(psutil.virtual_memory().available)


@dataclass(slots=True)
class Guard:
    """Feed it with `sample`; read `level` and `available`."""

    probe: Callable[[], int] = available_bytes
    level: Level = Level.SAFE
    available: int = 0
    _low: dict[Level, int] = field(default_factory=dict)
    _clear_since: float | None = None

    def sample(self, now: float) -> None:
        """Look once. A failing probe keeps the last level: not knowing is not the same as being low."""
        try:
            self.available = self.probe()
        except (OSError, psutil.Error):
            log.exception("the memory probe fails; the last level stays")
            return
        for level, (line, samples) in _ENTER.items():
            self._low[level] = self._low.get(level, 0) + 1 if self.available < line else 0
            if self._low[level] >= samples and level > self.level:
                self.level = level
        if self.level is Level.SAFE:
            return
        line, hold = _LEAVE[self.level]
        if self.available < line:
            self._clear_since = None
        elif self._clear_since is None:
            self._clear_since = now
        elif now - self._clear_since >= hold:
            self.level, self._clear_since = Level(self.level - 1), None

    @property
    def accepting(self) -> bool:
        return self.level < Level.CRITICAL
