"""What one step of the engine does: how much of which prompt is read beside the running streams. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

from sidecar.engine.chunking import PLAIN, Manner
from sidecar.engine.memory_costs import CHUNK, SHORTEST_CHUNK, STEP
from sidecar.engine.scheduling.policy import Rank

SLICE_S, ALONE_S = 0.15, 1.0
"""Seconds that a piece of a prompt takes, about: beside streams (their longest gap is 250 ms then, as measured), alone
(how late a cancel is seen). Pieces of 0.05 s are read a third more slowly, with 0.3 s the gap is 400 ms."""
SHARE = 0.25
"""Part of the time that running streams get while a prompt is read: they keep nearly so much of their speed, and the
prompt takes about 1 / (1 - SHARE) of its time.

Measured (25 million parameters in fp32, two cores, 12,000 tokens, medians of two): 0.1 keeps 9 % and takes 1.13 times
as long, 0.2: 16 % and 1.24, 0.25: 21 % and 1.34, 0.33: 27 % and 1.48, 0.5: 43 % and 1.94. What one gains the other
loses: MLX's CPU backend holds the thread for 99 % of a pass given to a stream of its own.
"""
MOST_DECODES = 32
"""Decode steps in a row, so that a new request is soon seen."""


LONGEST_S = 30.0
"""Seconds that a piece may take, whatever would be read well."""


@dataclass(slots=True)
class Pace:
    """Measured speeds."""

    rate: float = 32.0
    """Prompt tokens read in a second."""
    step_s: float = 0.0
    """Seconds of a decode step of the present batch; 0 = not known yet."""
    row_s: float = 0.0
    """Seconds between two streams that end and make room, while all places are taken."""
    manner: Manner = PLAIN

    def read(self, tokens: int, seconds: float) -> None:
        # Tiny slices measure overhead, not speed.
        if tokens >= 16 and seconds > 0:
            self.rate = 0.5 * self.rate + 0.5 * tokens / seconds

    def decoded(self, seconds: float) -> None:
        self.step_s = 0.8 * (self.step_s or seconds) + 0.2 * seconds

    def beside(self, decoding: bool) -> float:
        """Prompt tokens read in a second, when streams are decoded as well or not."""
        return self.rate * (1 - SHARE) if decoding else self.rate

    def seconds(self, todo: "Plan") -> float:
        """How long a step should take, at the most; the last few tokens of a prompt may be read as if they were
        written."""
        return todo.tokens / self.rate + (todo.decodes + min(todo.tokens, self.manner.few) + 1) * self.step_s

    def made_room(self, seconds: float) -> None:
        self.row_s = 0.8 * (self.row_s or seconds) + 0.2 * seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does: read `tokens` tokens of the prompt at index `reader` (if any), then decode."""

    reader: int | None
    tokens: int
    decodes: int


def schedule(reading: Sequence[tuple[Rank, int]], decoding: bool, pace: Pace) -> Plan:
    """`reading`: of each prompt being read, whose turn it is (the lowest first) and how many tokens are left."""
    if not reading:
        return Plan(None, 0, 1 if decoding else 0)
    reader = min(range(len(reading)), key=reading.__getitem__)
    tokens = min(reading[reader][1], piece(decoding, pace))
    return Plan(reader, tokens, decodes(tokens / pace.rate, pace) if decoding else 0)


def decodes(seconds: float, pace: Pace) -> int:
    """How many decode steps are owed for so many seconds of reading."""
    owed = seconds * SHARE / (1 - SHARE)
    return max(1, min(MOST_DECODES, round(owed / pace.step_s))) if pace.step_s else 1


def piece(decoding: bool, pace: Pace) -> int:
    """How many tokens are read at once, beside running streams or alone: whole steps of a cache or an even part of one,
    whichever is next to what the time allows. Else there would be a scrap to read before each step's end."""
    well = min(pace.manner.piece // 4 if decoding else pace.manner.piece, pace.rate * LONGEST_S)
    tokens = max(SHORTEST_CHUNK, well, pace.rate * (SLICE_S if decoding else ALONE_S))
    if tokens < STEP:
        return SHORTEST_CHUNK << round(log2(tokens / SHORTEST_CHUNK))
    return min(CHUNK, round(tokens / STEP) * STEP)
