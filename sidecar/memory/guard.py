"""The memory guard: how near the machine is to swapping. Pure: samples and the time go in, a level comes out.

A level is entered at its line and left only above a higher one for a while, so that it cannot flap. Who looks and who
acts is `monitor`'s; this file knows neither processes nor clocks.
"""

import enum
from dataclasses import dataclass, field

GB = 1e9

FLAP_S = 60.0
"""A level that rises again so soon after it fell stays for as long: what swings is told at most once a minute."""


class Level(enum.IntEnum):
    SAFE = 0
    CAUTION = 1
    """Give back what is only kept for speed."""
    CRITICAL = 2
    """Begin nothing new."""
    EMERGENCY = 3
    """End what runs and give everything back."""

    @property
    def label(self) -> str:
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at memory. Sizes in bytes."""

    available: int
    """What can be taken without swapping: the least of what the machine, its control groups and our own limit leave."""
    total: int = 0
    """The most that could ever be available: the least of the same three."""
    footprint: int = 0
    """Held by our own processes together."""
    pressure: Level = Level.SAFE
    """The kernel's own opinion, which bytes alone do not show; never more than Critical."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Bytes available below which each level begins. Set by CLAUDE_LOCAL_MEMORY_*; the defaults are the design's."""

    caution: float = 2.0 * GB
    critical: float = 1.0 * GB
    emergency: float = 0.5 * GB

    @property
    def comfort(self) -> float:
        """Above this Caution ends: what shedding aims at."""
        return 1.25 * self.caution

    @property
    def acceptance(self) -> float:
        """Above this Critical ends."""
        return 1.75 * self.critical


@dataclass(slots=True)
class _Latch:
    """One level: on below `enter` for `samples` samples and `span` seconds, off above `leave` for `hold` seconds."""

    level: Level
    enter: float
    samples: int
    span: float
    leave: float
    hold: float
    on: bool = False
    _low: int = 0
    _low_since: float = 0.0
    _clear_since: float | None = None

    def feed(self, sample: Sample, now: float, may_leave: bool) -> None:
        pressed = sample.pressure >= self.level
        if pressed or sample.available < self.enter:
            self._low_since = self._low_since if self._low else now
            self._low += 1
            self.on = self.on or (self._low >= self.samples and now - self._low_since >= self.span)
        else:
            self._low = 0
        if pressed or sample.available < self.leave:
            self._clear_since = None
        elif self._clear_since is None:
            self._clear_since = now
        elif may_leave and now - self._clear_since >= self.hold:
            self.on = False


@dataclass(slots=True)
class Guard:
    """Feed it with samples; `level` is the worst level that is on."""

    lines: Lines = Lines()
    level: Level = Level.SAFE
    _latches: list[_Latch] = field(default_factory=list)
    _fell: float = float("-inf")
    _stays_until: float = float("-inf")

    def __post_init__(self) -> None:
        lines = self.lines
        self._latches = [
            _Latch(Level.CAUTION, lines.caution, 1, 0.0, lines.comfort, 10.0),
            _Latch(Level.CRITICAL, lines.critical, 2, 0.0, lines.acceptance, 15.0),
            _Latch(Level.EMERGENCY, lines.emergency, 3, 0.5, 2 * lines.emergency, 5.0),
        ]

    def feed(self, sample: Sample | None, now: float) -> Level:
        """The level after this sample. None, a look that failed, changes nothing: not knowing is not being low."""
        if sample is None:
            return self.level
        for latch in self._latches:
            latch.feed(sample, now, now >= self._stays_until)
        before = self.level
        self.level = max((latch.level for latch in self._latches if latch.on), default=Level.SAFE)
        if self.level < before:
            self._fell = now
        elif self.level > before:
            if now - self._fell < FLAP_S:
                self._stays_until = now + FLAP_S
            self._fell = float("-inf")
        return self.level

    @property
    def accepting(self) -> bool:
        return self.level < Level.CRITICAL


def pause(level: Level, sample: Sample | None, lines: Lines) -> float:
    """Seconds until the next look: the nearer the lines the shorter, since three looks must see an emergency come.

    A program that fills memory as fast as it can takes some 2 GB a second: from far above, and from what is near but
    still Safe, the next look comes before it has gone through the Caution line to the Emergency one.
    """
    if level > Level.SAFE or sample is None:
        return 0.25
    return 0.5 if sample.available < 2 * lines.caution else 1.0
