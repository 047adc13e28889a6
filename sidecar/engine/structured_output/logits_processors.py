"""Logits processors: what one row may sample next.

They never raise: that would end the other rows as well. They are called once for each token, one step ahead of what is
handed out, with the token that was sampled before (`batch.Processor`).
"""

import logging
from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from sidecar.engine.structured_output.grammar import Guide
from sidecar.engine.structured_output.loops import Loops

Mask = NDArray[np.bool_]

log = logging.getLogger(__name__)


class GrammarProcessor:
    """Keeps one row inside its grammar, and ends it after its last call.

    After a whole call the model's own choice counts, as if there were no grammar: unless it is what begins another
    call, the answer ends. Else a newline after a call, which many models write, would leave nothing but a further call.
    """

    def __init__(self, guide: Guide, loops: Loops, vocabulary: int, end: int, temperature: float) -> None:
        """`end`: the token that ends an answer; `temperature`: what the row is sampled with."""
        self.failed = False
        """Whether the row was ended because no grammar could be followed."""
        self._guide = guide
        self._loops = loops
        self._temperature = temperature
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._end = np.zeros(vocabulary, dtype=bool)
        self._end[end] = True
        self._matcher = guide.first.deep_copy()
        self._taken: list[int] = []
        """What the present matcher has seen."""
        self._calls: list[bytes] = []
        self._marker = 0
        """Bytes that are left of what begins another call: while there are some, that is the model's choice."""
        self._over = False

    def __call__(self, sampled: int | None, logits: mx.array) -> mx.array:
        try:
            return self._held(sampled, logits)
        except Exception as error:
            return self._given_up(error, logits)
        except BaseException as error:  # what llguidance's own language raises is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return self._given_up(error, logits)

    def _held(self, sampled: int | None, logits: mx.array) -> mx.array:
        if sampled is not None and not self._over:
            self._take(sampled)
        allowed = self._allowed(logits.shape[-1])
        if self._marker and not self._over:
            return self._choice(allowed, logits)
        allowed = self._loops.without(allowed)
        return logits if allowed.all() else mx.where(mx.array(allowed), logits, -mx.inf)

    def _given_up(self, error: BaseException, logits: mx.array) -> mx.array:
        if not self.failed:
            log.warning("a grammar is given up: %s: %s", type(error).__name__, error)
        self.failed = self._over = True
        return mx.where(mx.array(self._end), logits, -mx.inf)

    def _take(self, token: int) -> None:
        if self._marker and self._end[token]:  # no further call: the answer has ended, and this is asked once more
            self._over = True
            return
        self._taken.append(token)
        self._loops.add(token)
        self._matcher.consume_token(token)
        self._marker = max(0, self._marker - len(self._loops.text(token))) if self._marker else 0
        if self._matcher.is_stopped() and not self._matcher.is_error():
            self._ended()

    def _ended(self) -> None:
        """Nothing more can come of this matcher: a further call, or the end."""
        call = self._matcher.get_capture("call") if self._guide.parallel else None
        if call is None or call in self._calls:
            self._over = True
            return
        self._calls.append(call)
        self._matcher, self._taken, self._marker = self._guide.further.deep_copy(), [], self._guide.marker

    def _allowed(self, vocabulary: int) -> Mask:
        while not self._over:
            if not self._matcher.is_error():
                fill_next_token_bitmask(self._matcher, self._mask)
            if not self._matcher.is_error():
                allowed = np.unpackbits(self._mask.view(np.uint8)[0], bitorder="little")[:vocabulary].astype(bool)
                return allowed if allowed.any() else self._end
            self._loosen()
        return self._end

    def _loosen(self) -> None:
        """Go on with a looser grammar, where it was: raises TooComplex when there is none that has come so far."""
        self._guide = self._guide.looser()
        self._matcher = (self._guide.further if self._calls else self._guide.first).deep_copy()
        self._matcher.consume_tokens(self._taken)

    def _choice(self, allowed: Mask, logits: mx.array) -> mx.array:
        """Whatever does not begin another call counts as the end, with all its probability."""
        further, end = mx.array(allowed), mx.array(self._end)
        others = mx.where(further, -mx.inf, logits)
        if self._temperature:
            others = self._temperature * mx.logsumexp(others / self._temperature, axis=-1, keepdims=True)
        else:
            others = mx.max(others, axis=-1, keepdims=True)
        return mx.where(further, logits, mx.where(end, others, -mx.inf))


class ThinkingBudget:
    """Ends a thought that has taken `budget` tokens, by forcing what closes it as soon as the processors before this
    one allow it: a grammar does not in the middle of a character."""

    def __init__(
        self, budget: int, begin: Sequence[int], end: Sequence[int], closing: Sequence[int], thought_open: bool
    ) -> None:
        """The tokens of what begins a thought, of what ends it, and of all that follows up to the answer."""
        self._left = budget
        self._begin, self._end, self._closing = [*begin], [*end], [*closing]
        self._thinking = thought_open
        self._recent: list[int] = []
        self._forced: list[int] = []

    def __call__(self, sampled: int | None, logits: mx.array) -> mx.array:
        if sampled is not None:
            self._take(sampled)
        if not self._forced and self._thinking and self._left <= 0:
            self._forced = self._closing
        if not self._forced:
            return logits
        others = mx.arange(logits.shape[-1]) != self._forced[0]
        return mx.where(others & (logits[..., self._forced[0], None] > -mx.inf), -mx.inf, logits)

    def _take(self, token: int) -> None:
        self._recent = [*self._recent, token][-max(len(self._begin), len(self._end)) :]
        if self._recent[-len(self._begin) :] == self._begin:
            self._thinking = True
        elif self._recent[-len(self._end) :] == self._end:
            self._thinking = False
        self._left -= self._thinking
        if self._forced:
            self._forced = self._forced[1:] if token == self._forced[0] else []
