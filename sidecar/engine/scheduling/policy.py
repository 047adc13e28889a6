"""Whose turn it is: which prompt is read next, which request may begin, how long the others wait. Pure.

Sessions share the reading time evenly; within one the main conversation comes first, and among equals whoever would be
done first had all begun alone when they came. That last rule lets a title pass a book, yet only those pass a book that
come before it should have been done, so nobody waits for ever.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sidecar.conversation import Priority

MAX_ROWS = 16
"""Streams begun at once; more wait. Batch memory is rows times the longest row."""
MAX_PER_SESSION = 12
"""Of these for one session: a crowd of subagents leaves room for another terminal."""
MAX_READING = 4
"""Prompts being read at once, but for those whose turn comes before all of these: each holds a cache of its own."""
TOLERANCE_S = 2.0
"""Reading time that one session may have beyond another before the other goes first: short prompts need no more, and
reading two long ones in turns finishes both late."""
PROMOTED_S = 60.0
"""Who has waited so long is as urgent as a main conversation."""


class Want(NamedTuple):
    """One request, as far as turns are concerned."""

    session: str
    priority: Priority
    unread: int
    """Tokens of its prompt."""
    waited: float
    """Seconds since it came."""


class Shares:
    """How many seconds of reading each session has had beyond the one that had least, among those that want some.

    What is had while nobody else wants any is not counted, so nothing grows with past requests: nobody is further
    ahead than the tolerance and a slice, and that is forgotten as the others catch up.
    """

    def __init__(self, ahead: Mapping[str, float] | None = None) -> None:
        self._ahead = dict(ahead or {})

    def __len__(self) -> int:
        return len(self._ahead)

    def ahead(self, session: str) -> float:
        return self._ahead.get(session, 0.0)

    def charge(self, session: str, seconds: float, wanting: Collection[str]) -> None:
        """`session` was read to for so long while `wanting`, itself among them, had something to be read."""
        self._ahead[session] = self.ahead(session) + seconds
        least = min(map(self.ahead, wanting))
        self._ahead = {each: ahead - least for each, ahead in self._ahead.items() if ahead > least}


Rank = tuple[bool, int, Priority, float]


def rank(want: Want, ahead: float, rate: float) -> Rank:
    """The lowest goes first. `ahead`: its session's, by Shares; `rate`: tokens read in a second."""
    urgency = Priority.MAIN if want.waited > PROMOTED_S else want.priority
    nobody_waits = want.priority is Priority.PREWARM
    return nobody_waits, int(ahead / TOLERANCE_S), urgency, want.unread / rate - want.waited


def has_place(want: Want, rows: Mapping[str, int]) -> bool:
    """Whether one more stream may begin. `rows`: how many each session has begun."""
    begun = sum(rows.values())
    urgent = want.priority is not Priority.PREWARM
    return begun < MAX_ROWS and rows.get(want.session, 0) < MAX_PER_SESSION and (urgent or not begun)


def entrants(waiting: Sequence[Rank], reading: Sequence[Rank]) -> list[int]:
    """Which of those that have a place may begin now, the first in turn first."""
    best = min(reading, default=None)
    return [
        index
        for index in sorted(range(len(waiting)), key=waiting.__getitem__)
        if best is None or len(reading) < MAX_READING or waiting[index] < best
    ]


def waits(
    waiting: Iterable[tuple[Rank, int]], reading: Iterable[tuple[Rank, int]], rate: float, free: int, row_s: float
) -> list[float]:
    """Seconds until each of `waiting`, in the order of their ranks, is expected to be read.

    Each with its unread tokens. `rate`: tokens read in a second beside what runs now; `free`: streams that may still
    begin; `row_s`: how long one of those that run takes until it makes room for the next.
    """
    line, under_way, seconds = sorted(waiting), sorted(reading), []
    for place, (turn, _) in enumerate(line):
        before = sum(unread for other, unread in under_way if other < turn) + sum(unread for _, unread in line[:place])
        seconds.append(max(before / rate, (place + 1 - free) * row_s))
    return seconds
