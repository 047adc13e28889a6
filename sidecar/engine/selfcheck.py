"""Does this model compute the same in a batch as alone? Masks and positions of padded rows are each architecture's own
code in mlx-lm, and some have been wrong there, silently."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import mlx.core as mx

from sidecar.engine.batch import Batch, Row
from sidecar.engine.row import Cache

PROMPTS = (range(3, 27), range(40, 47))
"""Two rows, of which the second is padded when they share a batch."""
MOST, FEWEST, SECONDS = 24, 4, 0.1
"""Tokens that each row gets: as many as the first gets in this time."""
TOLERANCE = 0.1
"""Distance between the logits, as a part of their spread. Half precision differs by some hundredths, and a token that
a router sends elsewhere by more, but not in most steps; a wrong mask differs by about 1 in all of them."""

FAILS = "batching fails"
"""How a fault begins that another time there may not be."""


class _Forced:
    """A sampler that keeps what it saw, and goes on with given tokens, or greedily."""

    def __init__(self, tokens: Sequence[int] = ()) -> None:
        self.seen: list[mx.array] = []
        self._tokens = tokens

    def __call__(self, logits: mx.array) -> mx.array:
        step = len(self.seen)
        self.seen.append(logits[0])
        return mx.array([self._tokens[step]], dtype=mx.uint32) if self._tokens else mx.argmax(logits, axis=-1)


def batching_fault(weights: Any, new_cache: Callable[[], Cache], vocabulary: int) -> str:
    """Why rows of this model must not share a pass; empty when they may."""
    caches = new_cache()
    if alone := next((type(layer).__name__ for layer in caches if not hasattr(layer, "merge")), None):
        return f"{alone} cannot be batched"
    try:
        distances = _distances(weights, new_cache, [[token % vocabulary for token in prompt] for prompt in PROMPTS])
    except Exception as error:  # it is of the architecture's own code, and may be anything
        return f"{FAILS}: {type(error).__name__}: {error}"
    worst = max(median(row) for row in distances)
    return "" if worst <= TOLERANCE else f"rows differ when batched: by {worst:.2f} of the logits' spread"


def _distances(weights: Any, new_cache: Callable[[], Cache], prompts: list[list[int]]) -> list[list[float]]:
    """For each row, and each token of it, how far its logits are from those that it has alone."""
    alone, steps = [_Forced() for _ in prompts], MOST
    answers = list[list[int]]()
    for prompt, sampler in zip(prompts, alone, strict=True):
        batch, began = _begin(weights, new_cache(), prompt, sampler), time.perf_counter()
        answers.append([])
        while len(answers[-1]) < steps:
            batch.advance()
            answers[-1] += batch.collect()
            if len(answers[-1]) >= FEWEST and time.perf_counter() - began > SECONDS:
                steps = min(steps, len(answers[-1]))
        answers[-1].append(batch.peek())
    forced = [_Forced(answer) for answer in answers]
    first, second = (_begin(weights, new_cache(), *each) for each in zip(prompts, forced, strict=True))
    first.advance()
    first.collect()
    first.join(second)
    for _ in range(steps - 2):
        first.advance()
        first.collect()
    left = first.take(first.rows[1])  # both go on alone with what was computed in the batch
    for each in (first, left):
        each.advance()
        each.collect()
    return [
        [_distance(one, other) for one, other in zip(kept.seen, again.seen, strict=False)]
        for kept, again in zip(alone, forced, strict=True)
    ]


def _begin(weights: Any, cache: Cache, prompt: list[int], sampler: _Forced) -> Batch:
    *prefix, last = prompt
    weights(mx.array([prefix]), cache=cache)
    mx.eval([layer.state for layer in cache])
    return Batch(weights, Row(sampler, (), prefix), cache, [last])


def _distance(one: mx.array, other: mx.array) -> float:
    one, other = one.astype(mx.float32), other.astype(mx.float32)
    distance = mx.sqrt(mx.mean((one - other) ** 2) / mx.maximum(mx.var(one), 1e-12)).item()
    return float(distance)  # type: ignore[arg-type]  # a scalar
