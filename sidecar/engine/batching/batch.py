"""Rows that are decoded in one pass. Which rows share one is the decoder's matter.

mlx-lm's own loop (`generate_step`) and batch (`BatchGenerator`) in one: a row alone keeps the cache that its prompt was
read into, of whatever kind; several have theirs merged. Neither can do the other's part, and a row could not move
between them, since each keeps its next token to itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mlx.core as mx

from sidecar.engine.cache.kv_layout import Cache

Processor = Callable[[int | None, mx.array], mx.array]
"""From the token sampled last (None before the first) and the next one's logits, of shape (1, vocabulary), to logits.
Called once for each token, in order. It must never raise: that would end all rows."""
Sampler = Callable[[mx.array], mx.array]
"""From logits of shape (rows, vocabulary) to tokens of shape (rows,)."""


@dataclass(eq=False, slots=True)
class Row:
    """What one row samples with, and where it is. Between two passes the cache holds every token handed out."""

    sampler: Sampler
    processors: Sequence[Processor]
    tokens: list[int]
    """What its cache holds."""


class Batch:
    """Rows whose next tokens are always being computed while the present ones are handed out."""

    def __init__(self, weights: Any, row: Row, cache: Cache, rest: list[int]) -> None:
        """Begin with one row: `cache` holds its tokens, `rest` are those after them, which are read now, for the logits
        of the last one."""
        self._weights = weights
        self.rows = [row]
        self._cache = cache
        self._next = mx.array([rest], dtype=mx.uint32)
        self._now = self._next
        self.advance(first=True)
        row.tokens += rest

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def longest(self) -> int:
        return max(len(row.tokens) for row in self.rows)

    @property
    def cache(self) -> Cache:
        """The row's own as long as there is one row."""
        return self._cache

    def advance(self, first: bool = False) -> None:
        """Begin to compute each row's token after next."""
        self._now = inputs = self._next
        logits = self._weights(inputs if first else inputs[:, None], cache=self._cache)[:, -1]
        if any(row.processors for row in self.rows):
            mx.async_eval(logits)  # type: ignore[no-untyped-call]  # it runs while they think
            sampled: Iterable[int | None] = [None] if first else inputs.tolist()  # type: ignore[assignment]
            logits = mx.concatenate(
                [
                    process(row, token, logits[index : index + 1])
                    for index, (row, token) in enumerate(zip(self.rows, sampled, strict=True))
                ]
            )
        self._next = self._sample(logits)
        mx.async_eval(self._next)  # type: ignore[no-untyped-call]

    def collect(self) -> list[int]:
        """Each row's next token, once it is there."""
        tokens: list[int] = self._now.tolist()  # type: ignore[assignment]
        for row, token in zip(self.rows, tokens, strict=True):
            row.tokens.append(token)
        return tokens

    def verify(self, draft: list[int]) -> list[int]:
        """Instead of advance and collect, of one row whose cache can be trimmed: its next tokens, of which all but the
        first were guessed.

        `draft`: the next token, which must be the true one, and guesses of those after it. One pass computes what
        follows each; a guess is right as long as the row samples it itself, so its answer is what it would be without.
        """
        [row] = self.rows
        logits = self._weights(mx.array([draft]), cache=self._cache)[0]
        if row.processors:
            mx.async_eval(logits)  # type: ignore[no-untyped-call]
            right = 1
            while True:
                sampled = self._sample(process(row, draft[right - 1], logits[right - 1 : right]))
                if right == len(draft) or sampled.item() != draft[right]:
                    break
                right += 1
            self._next = sampled
        else:
            every = self._sample(logits)
            tokens: list[int] = every.tolist()  # type: ignore[assignment]
            right = next((end for end in range(1, len(draft)) if draft[end] != tokens[end - 1]), len(draft))
            self._next = every[right - 1 : right]
        for layer in self._cache:
            layer.trim(len(draft) - right)
        row.tokens += draft[:right]
        return draft[:right]

    def peek(self) -> int:
        """A lone row's next token, which `advance` and `collect`, or `verify`, will hand out; waits for it."""
        return int(self._next.item())  # type: ignore[arg-type]

    def join(self, other: "Batch") -> None:
        """Take over all rows of another batch, which is then used up."""
        merged, joining = self._merged(), other._merged()
        for layer, more in zip(merged, joining, strict=True):
            layer.extend(more)
            mx.eval(layer.state)  # one layer at a time, so that no more than one is there twice
        self._cache = merged
        self._next = mx.concatenate([self._next, other._next])
        self.rows += other.rows

    def _merged(self) -> Cache:
        if len(self.rows) > 1:
            return self._cache
        cache, self._cache = self._cache, []
        for index, layer in enumerate(cache):
            cache[index] = layer.merge([layer])
        return cache

    def take(self, row: Row) -> "Batch":
        """Take a row out, as a batch of its own, exactly where it is."""
        if len(self.rows) == 1:
            return self
        index = self.rows.index(row)
        alone = Batch.__new__(Batch)
        alone._weights, alone.rows, alone._cache = self._weights, [row], self._extract(index)
        alone._next = alone._now = self._next[index : index + 1]
        mx.eval(alone._next, [layer.state for layer in alone._cache])  # lazy, they would pin this whole batch
        keep = [other for other in range(len(self.rows)) if other != index]
        if len(keep) == 1:
            self._cache = self._extract(keep[0])
        else:
            for layer in self._cache:
                layer.filter(keep)
        self._next = self._next[mx.array(keep)]
        mx.eval(self._next, [layer.state for layer in self._cache])
        self.rows.remove(row)
        return alone

    def _extract(self, index: int) -> Cache:
        return [layer.extract(index) for layer in self._cache]

    def _sample(self, logits: mx.array) -> mx.array:
        if all(one.sampler is other.sampler for one, other in pairwise(self.rows)):
            return self.rows[0].sampler(logits)
        return mx.concatenate([row.sampler(logits[i : i + 1]) for i, row in enumerate(self.rows)])


def process(row: Row, sampled: int | None, logits: mx.array) -> mx.array:
    """The logits of one row's next token, as its processors change them."""
    for processor in row.processors:
        logits = processor(sampled, logits)
    return logits
