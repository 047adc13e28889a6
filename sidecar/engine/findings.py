"""What is found out about a model by running it, once: later loads find it beside what the model has read.

Somebody waits for it: 1.0 s with 25 million parameters on two cores, 0.7 s with the demo model.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.models.cache import QuantizedKVCache

from sidecar import __version__
from sidecar.engine.files import put
from sidecar.engine.row import Cache
from sidecar.engine.selfcheck import FAILS, batching_fault
from sidecar.fit import Costs, Passes, transient_limit

FILE = "findings.json"


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
    one_by_one: str
    """Why streams must not be decoded as one batch; empty = they may."""


def find_out(weights: Any, new_cache: Callable[[], Cache], kv: str, folder: Path | None) -> Findings:
    """`kv`: the format of its caches; `folder`: of its prefixes, which changes with the model's files; None = nothing
    is kept on disk."""
    by = f"claude-local {__version__}, mlx {version('mlx')} on {mx.default_device()}, {kv}"
    if folder and (known := _recall(folder / FILE)) and known.by == by:
        return known
    vocabulary, costs, pace = measure(weights, new_cache)
    found = Findings(by, vocabulary, costs, pace, batching_fault(weights, new_cache, vocabulary))
    if folder and not found.one_by_one.startswith(FAILS):
        with suppress(OSError):
            put(folder / FILE, msgspec.json.encode(found))
    return found


def _recall(file: Path) -> Findings | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Findings)
    except (OSError, msgspec.DecodeError):
        return None


def measure(weights: Any, new_cache: Callable[[], Cache]) -> tuple[int, Costs, float]:
    """Run a few hundred tokens through: the logits' width, what a request takes, and tokens read in a second.

    Sturdier than reading configurations, whose keys differ from model to model. Shorter passes would say little of
    longer ones.
    """
    held = mx.get_active_memory()
    cache = new_cache()
    read, pace, taken, passes = 0, 0.0, list[tuple[int, int]](), Passes()
    for tokens in (256, 512, 1024):
        if tokens == 1024 and (pace < 2 * tokens or passes.bytes(tokens, read + tokens) > transient_limit(held)):
            break  # it would sharpen the figures, but not be over in half a second, or take more than requests may
        began = time.perf_counter()
        taken.append((tokens, _pass_bytes(weights, cache, tokens)))
        pace = tokens / (time.perf_counter() - began)
        read += tokens
        passes = passes.seen(tokens, read, max(1, taken[-1][1]))
    for _ in range(2):  # the first one makes the caches grow
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        logits = weights(mx.zeros((1, 1), dtype=mx.int32), cache=cache)
        mx.eval(mx.argmax(logits - mx.logsumexp(logits, axis=-1, keepdims=True)), [layer.state for layer in cache])
        step = mx.get_peak_memory() - max(before, mx.get_active_memory())
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
    costs = Costs(per_token, tuple(sorted(rolling.items())), fixed, Passes(), whole, step, transient_limit(held))
    read = 0
    for tokens, size in taken:
        read += tokens
        costs = costs.seen(tokens, read, size)
    return logits.shape[-1], costs, pace


def _pass_bytes(weights: Any, cache: Cache, tokens: int) -> int:
    """What one pass over so many tokens takes beside the caches, whichever are larger, before or after."""
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    weights(mx.zeros((1, tokens), dtype=mx.int32), cache=cache)
    mx.eval([layer.state for layer in cache])
    return mx.get_peak_memory() - max(before, mx.get_active_memory())
