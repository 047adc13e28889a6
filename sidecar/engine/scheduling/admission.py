"""Whether memory allows a request to begin: asked by prediction, so that nothing has been taken yet when it does not.

The arithmetic is `memory_costs`'; here are the measured values that go into it. Whose turn it is, is not known here.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mlx.core as mx

from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.memory_costs import Demand, Verdict, admit, longest_prompt, peak
from sidecar.engine.model import Model
from sidecar.engine.scheduling.stream import Stream
from sidecar.frames import Failed
from sidecar.memory.guard import GB

log = logging.getLogger(__name__)

MEASURED = 256
"""Prompt tokens from which on a pass says what passes take: smaller ones measure fixed costs."""
SLACK = 1.25
"""How much more than expected a pass may take before it has to wait: without it no pass could show that it needs more,
and the expectation would sink until every pass waits."""


class Room(NamedTuple):
    """Bytes that the engine may still take now, and the most that it could ever hold."""

    free: int
    ceiling: int


class Admission:
    """What requests take and what there is. Used on the mlx thread."""

    def __init__(self, model: Model, prefixes: PrefixCache, room: Callable[[], Room], context_window: int) -> None:
        self.costs = model.costs
        self.predicted = 0
        """Bytes that the engine was expected to hold at most, when a request was last let in."""
        self.peak = 0
        """The most that it held before the present pass: each pass is measured by itself."""
        self._prefixes = prefixes
        self._room = room
        self._context_window = context_window
        self._weights = mx.get_active_memory()
        self._memory_limit = mx.set_memory_limit(1 << 40)
        mx.set_memory_limit(self._memory_limit)

    def ask(self, stream: Stream, running: Sequence[Demand]) -> Verdict:
        """Whether `stream` may begin beside `running`."""
        mx.clear_cache()  # what the pool holds is free as well
        new, kept, limit = self._demand(stream), self._prefixes.nbytes, self._prefixes.budget
        verdict = self._verdict(new, running)
        streams = [*running, new]
        kept -= verdict.evict
        most = peak(self.costs, streams, kept, limit) if verdict.keep else kept + peak(self.costs, streams, 0, 0)
        self.predicted = self._weights + most
        return verdict

    def leaves_room_for(self, awaited: Stream, others: Sequence[Demand], stream: Stream) -> bool:
        """Whether `awaited` could begin beside `others` and `stream`, once everybody else is gone."""
        return self._verdict(self._demand(awaited), [*others, self._demand(stream)]).act == "begin"

    def refusal(self, stream: Stream, verdict: Verdict) -> Failed:
        """What a request is told that may not even wait."""
        room = self._room()
        if verdict.act == "never":
            most = longest_prompt(self.costs, self._weights, room.ceiling, self._context_window)
            log.info("request %d would need %.2f GB of at most %.2f", stream.id, verdict.need / GB, room.ceiling / GB)
            return Failed(stream.id, "too_long", f"{stream.prompt_length} {most}")
        free = mx.get_active_memory() - self._weights + room.free
        return Failed(
            stream.id,
            "overloaded",
            f"this request would take {(verdict.need - self._weights) / GB:.1f} GB of memory beside the model, and "
            f"{max(0, free) / GB:.1f} GB can be had: close something, or send less, and try again",
        )

    def run(self, stream: Stream, tokens: int, read: Callable[[], None]) -> None:
        """Have `read` do a pass over the next `tokens` of a prompt, and learn what it takes.

        MLX has to wait for its own threads before it takes more than the pass is expected to: it would otherwise
        allocate ahead of them, on a busy machine twice as much as the pass needs.
        """
        mx.clear_cache()
        self.peak = max(self.peak, mx.get_peak_memory())
        mx.reset_peak_memory()
        before, end = mx.get_active_memory(), stream.read + tokens
        grown = max(0, self.costs.row(end, tokens) - self.costs.row(stream.read))
        mx.set_memory_limit(int(before + grown + SLACK * self.costs.transient(tokens, end)))
        read()
        mx.set_memory_limit(self._memory_limit)
        after = mx.get_active_memory()
        taken = mx.get_peak_memory() - max(before, after)
        mx.clear_cache()
        if tokens >= MEASURED:
            self.costs = self.costs.seen(tokens, end, taken, after > before)

    def _demand(self, stream: Stream) -> Demand:
        return stream.demand(self.costs, self._prefixes.match(stream.tokens))

    def _verdict(self, new: Demand, running: Sequence[Demand]) -> Verdict:
        room, held = self._room(), mx.get_active_memory()
        kept, limit = self._prefixes.nbytes, self._prefixes.budget
        return admit(self.costs, new, running, self._weights, kept, limit, held + room.free, room.ceiling)
