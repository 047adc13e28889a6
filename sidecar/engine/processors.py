"""Logits processors: what one row may sample next.

They never raise: in mlx-lm's batch that would corrupt the other rows. mlx-lm calls them once for each token, one step
ahead of what it hands out, with all tokens so far.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask


class Recorder:
    """A row's sampler that remembers what it sampled.

    Processors are handed the tokens as well, but as the end of a longer array, and to cut it off is work of its own for
    MLX, which must be begun and waited for. This token is there already.
    """

    def __init__(self, sampler: Callable[[mx.array], mx.array]) -> None:
        self._sampler = sampler
        self._last: mx.array | None = None

    def __call__(self, logprobs: mx.array) -> mx.array:
        self._last = self._sampler(logprobs)
        return self._last

    @property
    def last(self) -> int | None:
        """None before the first one."""
        return None if self._last is None else int(self._last.item())  # type: ignore[arg-type]  # an integer array


class GrammarProcessor:
    """Keeps one row inside its grammar. A matcher that fails lets the row end."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, end: int, recorder: Recorder) -> None:
        self._matcher = matcher
        self._recorder = recorder
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._end = np.zeros(vocabulary, dtype=bool)
        self._end[end] = True

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        if (sampled := self._recorder.last) is not None and not self._matcher.is_stopped():
            self._matcher.consume_token(sampled)
        allowed = self._allowed(logits.shape[-1])
        return logits if allowed.all() else mx.where(mx.array(allowed), logits, -mx.inf)

    def _allowed(self, vocabulary: int) -> Any:
        if self._matcher.is_stopped():
            return self._end
        fill_next_token_bitmask(self._matcher, self._mask)
        allowed = np.unpackbits(self._mask.view(np.uint8)[0], bitorder="little")[:vocabulary].astype(bool)
        return allowed if allowed.any() else self._end


class ThinkingBudget:
    """Ends a thought that has taken `budget` tokens, by forcing the marker that closes it as soon as the processors
    before this one allow it: a grammar does not in the middle of a character."""

    def __init__(self, budget: int, start: int, end: int, thought_open: bool, recorder: Recorder) -> None:
        self._left = budget
        self._recorder = recorder
        self._markers = {start: True, end: False}
        self._end = end
        self._thinking = thought_open

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        if (sampled := self._recorder.last) is not None:
            self._thinking = self._markers.get(sampled, self._thinking)
            self._left -= self._thinking
        if not self._thinking or self._left > 0:
            return logits
        others = mx.arange(logits.shape[-1]) != self._end
        return mx.where(others & (logits[..., self._end, None] > -mx.inf), -mx.inf, logits)
