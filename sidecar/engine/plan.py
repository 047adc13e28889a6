"""What one step of the engine does: how much of which prompt is read beside the running streams. Pure."""

from dataclasses import dataclass

from sidecar.fit import CHUNK

SLICE_S, ALONE_S = 0.15, 1.0
"""Seconds that a piece of a prompt may take: beside streams (their longest gap), alone (how late a cancel is seen)."""
DECODES_PER_SLICE = 4
"""Decode steps between two slices: with 4 a stream's median gap stays undisturbed, with 1 it is the slice's length."""


@dataclass(slots=True)
class Pace:
    """Measured reading speed, in tokens per second."""

    rate: float = 32.0

    def observe(self, tokens: int, seconds: float) -> None:
        # Tiny slices measure overhead, not speed.
        if tokens >= 16 and seconds > 0:
            self.rate = 0.5 * self.rate + 0.5 * tokens / seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does: read `tokens` tokens of the prompt at index `reader` (if any), then decode."""

    reader: int | None
    tokens: int
    decodes: int


def plan(unread: list[int], decoding: bool, rate: float) -> Plan:
    """`unread`: what is left of each prompt being read. The shortest goes first: a title need not wait for a book."""
    if not unread:
        return Plan(None, 0, 1 if decoding else 0)
    reader = min(range(len(unread)), key=unread.__getitem__)
    budget = int(rate * (SLICE_S if decoding else ALONE_S))
    size = max(32, min(CHUNK, budget // 32 * 32))
    return Plan(reader, min(unread[reader], size), DECODES_PER_SLICE if decoding else 0)
