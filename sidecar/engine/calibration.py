"""What is found out about a model by running it, once: later loads find it beside what the model has read.

Somebody waits for it: 1.0 s with 25 million parameters on two cores, 0.7 s with the demo model. Where the machine is
too slow for the model it stops early, with what it has found by then.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import QuantizedKVCache

from sidecar import __version__
from sidecar.engine.batching.batch import Batch, Row
from sidecar.engine.cache.kv_layout import Cache
from sidecar.engine.memory_costs import Costs, Passes
from sidecar.memory.overhead import transient_limit
from sidecar.shared.atomic_file import put

FILE = "findings.json"
PASS_S = 5.0
"""A pass that would take longer, at the pace of the one before, is not made."""
LONGEST_PASS_S = 0.5
"""The same for the longest one, which would only sharpen the figures, and may not take more memory than requests."""
SHORT, LONG = (16, 64), (256, 512, 1024)
"""Tokens of the passes. The short ones tell how long the others would take, and are all there is where that is too
long."""
STEP_S = 1.0
"""With steps that take longer nobody waits for some thirty of them."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Of one model on one machine."""

    by: str
    """What else they depend on than the files of the model."""
    vocabulary: int
    """Width of the logits, which may exceed the tokenizer's."""
    costs: Costs
    pace: float
    """Prompt tokens read in a second."""
    step_s: float
    """Seconds for a token that is written."""
    one_by_one: str
    """Why streams must not be decoded as one batch; empty = they may."""


def find_out(weights: Any, new_cache: Callable[[], Cache], kv: str, folder: Path | None) -> Findings:
    """`kv`: the format of its caches; `folder`: of its prefixes, which changes with the model's files; None = nothing
    is kept on disk."""
    by = f"claude-local {__version__}, mlx {version('mlx')} on {mx.default_device()}, {kv}"
    if folder and (known := _recall(folder / FILE)) and known.by == by:
        return known
    vocabulary, costs, pace, step_s = measure(weights, new_cache)
    if step_s > STEP_S:
        one_by_one = f"one step takes {step_s:.1f} s here, too long to try out whether a batch computes the same"
    else:
        one_by_one = batching_fault(weights, new_cache, vocabulary)
    found = Findings(by, vocabulary, costs, pace, step_s, one_by_one)
    if folder and not found.one_by_one.startswith(FAILS):
        with suppress(OSError):
            put(folder / FILE, msgspec.json.encode(found))
    return found


def _recall(file: Path) -> Findings | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Findings)
    except (OSError, msgspec.DecodeError):
        return None


def measure(weights: Any, new_cache: Callable[[], Cache]) -> tuple[int, Costs, float, float]:
    """Run a few hundred tokens through: the logits' width, what a request takes, tokens read in a second, and seconds
    for one that is written.

    Sturdier than reading configurations, whose keys differ from model to model.
    """
    held = mx.get_active_memory()
    _read(weights, new_cache(), SHORT[:1])  # the very first has kernels compiled
    cache = new_cache()
    taken, pace = _read(weights, cache, SHORT)
    longer = new_cache()
    of_longer, pace = _read(weights, longer, LONG, pace)
    if of_longer:
        cache, taken = longer, of_longer
    for _ in range(2):  # the first one makes the caches grow
        before, began = mx.get_active_memory(), time.perf_counter()
        mx.reset_peak_memory()
        logits = weights(mx.zeros((1, 1), dtype=mx.int32), cache=cache)
        mx.eval(mx.argmax(logits - mx.logsumexp(logits, axis=-1, keepdims=True)), [layer.state for layer in cache])
        step, step_s = mx.get_peak_memory() - max(before, mx.get_active_memory()), time.perf_counter() - began
    costs = replace(_kept(cache), step=step, transient_limit=transient_limit(held))
    read = 0
    for tokens, size in taken:
        read += tokens
        costs = costs.seen(tokens, read, size)
    return logits.shape[-1], costs, pace, step_s


def _kept(cache: Cache) -> Costs:
    """What its layers keep of each token, and of all."""
    layers = [each for layer in cache for each in getattr(layer, "caches", [layer])]
    per_token, whole, fixed, rolling = 0, 0, 0, dict[int, int]()
    for layer in layers:
        keys: Any = getattr(layer, "keys", None)
        if isinstance(layer, QuantizedKVCache):
            keys = keys[0]
        if not isinstance(keys, mx.array):
            fixed += layer.nbytes  # a recurrent layer's state
        elif window := getattr(layer, "max_size", None) or getattr(layer, "chunk_size", None):
            rolling[window] = rolling.get(window, 0) + layer.nbytes // keys.shape[2]
        else:
            per_token += layer.nbytes // keys.shape[2]
            whole = max(whole, layer.nbytes // keys.shape[2])
    return Costs(per_token, tuple(sorted(rolling.items())), fixed, Passes(), whole)


def _read(
    weights: Any, cache: Cache, sizes: Sequence[int], pace: float = float("inf")
) -> tuple[list[tuple[int, int]], float]:
    """Passes over so many tokens each, for as long as that is not too much: tokens and bytes of each, and the pace of
    the last one. `pace`: what is known of it before."""
    limit, read, taken, passes = transient_limit(mx.get_active_memory()), 0, list[tuple[int, int]](), Passes()
    for tokens in sizes:
        seconds, size = tokens / pace, passes.bytes(tokens, read + tokens)
        if seconds > PASS_S or (tokens == LONG[-1] and (seconds > LONGEST_PASS_S or size > limit)):
            break
        began = time.perf_counter()
        taken.append((tokens, _pass_bytes(weights, cache, tokens)))
        pace = tokens / (time.perf_counter() - began)
        read += tokens
        passes = passes.seen(tokens, read, max(1, taken[-1][1]))
    return taken, pace


def _pass_bytes(weights: Any, cache: Cache, tokens: int) -> int:
    """What one pass over so many tokens takes beside the caches, whichever are larger, before or after."""
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    weights(mx.zeros((1, tokens), dtype=mx.int32), cache=cache)
    mx.eval([layer.state for layer in cache])
    return mx.get_peak_memory() - max(before, mx.get_active_memory())


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
