"""Logits processors: what one row may sample next.

They never raise: in mlx-lm's batch that would corrupt the other rows. mlx-lm calls them once for each token, one step
ahead of what it hands out, with all tokens so far.
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
        self._sampling = False

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        # The context's last token is the one sampled from our previous mask, except on the first call.
        if self._sampling and not self._matcher.is_stopped():
            self._matcher.consume_token(int(context[-1].item()))  # type: ignore[arg-type]  # an integer array
        self._sampling = True
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
        self._sampling = False

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        if self._sampling:
            self._thinking = self._markers.get(int(context[-1].item()), self._thinking)  # type: ignore[arg-type]
            self._left -= self._thinking
        self._sampling = True
        if not self._thinking or self._left > 0:
            return logits
        others = mx.arange(logits.shape[-1]) != self._end
        return mx.where(others & (logits[..., self._end, None] > -mx.inf), -mx.inf, logits)
