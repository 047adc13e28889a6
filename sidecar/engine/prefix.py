"""Cached prefixes: the KV caches of prompts already read, found again by their tokens.

A lookup compares tokens, not hashes: with numpy, 50 conversations of 12,000 tokens that part at the end cost about
half a millisecond, and the exact common length comes out. Least recently used goes first.
"""

import copy
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import can_trim_prompt_cache, trim_prompt_cache
from numpy.typing import NDArray

Cache = list[Any]
"""mlx-lm's caches of one row, one per layer."""


class _Entry:
    __slots__ = ("cache", "nbytes", "tokens", "trimmable")

    def __init__(self, tokens: NDArray[np.int32], cache: Cache) -> None:
        self.tokens = tokens
        self.cache = cache
        self.nbytes = nbytes(cache)
        self.trimmable = can_trim_prompt_cache(cache)


class PrefixCache:
    """Holds at most `budget` bytes."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._entries: list[_Entry] = []  # least recently used first

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, tokens: list[int]) -> tuple[Cache | None, int]:
        """The longest cached prefix of `tokens`: a cache that the caller owns, and how many tokens it holds.

        At most all tokens but the last, which must run through the model to give the first logits.
        """
        wanted = np.asarray(tokens[:-1], dtype=np.int32)
        best, length = None, 0
        for entry in reversed(self._entries):
            common = _common(entry.tokens, wanted)
            usable = common if entry.trimmable or common == len(entry.tokens) else 0
            if usable > length:
                best, length = entry, usable
        if best is None:
            return None, 0
        self._entries.remove(best)
        self._entries.append(best)
        cache = copy.deepcopy(best.cache)
        if length < len(best.tokens):
            trim_prompt_cache(cache, len(best.tokens) - length)
        return cache, length

    def add(self, tokens: list[int], cache: Cache) -> None:
        """Keep `cache`, which holds exactly `tokens` and is not used otherwise any more.

        Evaluated at once: caches taken out of a batch are lazy views that would pin the whole batch.
        """
        mx.eval([layer.state for layer in cache if not layer.empty()])
        entry = _Entry(np.asarray(tokens, dtype=np.int32), cache)
        kept = []
        for other in self._entries:
            common = _common(other.tokens, entry.tokens)
            if other.trimmable and common == len(entry.tokens):
                entry = other  # an older entry holds all of it
            elif not (common == len(other.tokens) and (entry.trimmable or common == len(entry.tokens))):
                kept.append(other)
        self._entries = [*kept, entry]
        self.shed(self.budget)

    def shed(self, budget: int) -> None:
        """Forget the least recently used entries until at most `budget` bytes are held."""
        held = self.nbytes
        while self._entries and held > budget:
            held -= self._entries.pop(0).nbytes
        mx.clear_cache()


def nbytes(cache: Cache) -> int:
    return sum(layer.nbytes for layer in cache)


def _common(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    length = min(len(a), len(b))
    differ = np.flatnonzero(a[:length] != b[:length])
    return int(differ[0]) if len(differ) else length
