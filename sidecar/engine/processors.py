"""Logits processors: what one row may sample next.

They never raise: that would end the other rows as well. They are called once for each token, one step ahead of what is
handed out, with the token that was sampled before (`batch.Processor`).
"""

from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask


class GrammarProcessor:
    """Keeps one row inside its grammar. A matcher that fails lets the row end."""

    def __init__(self, matcher: LLMatcher, vocabulary: int, end: int) -> None:
        self._matcher = matcher
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._end = np.zeros(vocabulary, dtype=bool)
        self._end[end] = True

    def __call__(self, sampled: int | None, logits: mx.array) -> mx.array:
        if sampled is not None and not self._matcher.is_stopped():
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

    def __init__(self, budget: int, start: int, end: int, thought_open: bool) -> None:
        self._left = budget
        self._markers = {start: True, end: False}
        self._end = end
        self._thinking = thought_open

    def __call__(self, sampled: int | None, logits: mx.array) -> mx.array:
        if sampled is not None:
            self._thinking = self._markers.get(sampled, self._thinking)
            self._left -= self._thinking
        if not self._thinking or self._left > 0:
            return logits
        others = mx.arange(logits.shape[-1]) != self._end
        return mx.where(others & (logits[..., self._end, None] > -mx.inf), -mx.inf, logits)
