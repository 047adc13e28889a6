"""Cached prefixes: the KV caches of prompts already read, found again by their tokens.

A lookup compares tokens, not hashes: with numpy, 50 conversations of 12,000 tokens that part at the end cost about
half a millisecond, and the exact common length comes out. Least recently used goes first.
"""

import copy
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, can_trim_prompt_cache, trim_prompt_cache
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

    def match(self, tokens: list[int]) -> int:
        """How many leading tokens `find` would find."""
        return self._best(tokens)[1]

    def find(self, tokens: list[int]) -> tuple[Cache | None, int]:
        """The longest cached prefix of `tokens`: a cache that the caller owns, and how many tokens it holds.

        At most all tokens but the last, which must run through the model to give the first logits.
        """
        best, length = self._best(tokens)
        if best is None:
            return None, 0
        self._entries.remove(best)
        self._entries.append(best)
        cache = copy.deepcopy(best.cache)
        if length < len(best.tokens):
            trim_prompt_cache(cache, len(best.tokens) - length)
            for layer in cache:
                if type(layer) is KVCache:  # trimming moves only a mark: the first write would copy the whole entry
                    layer.keys = layer.keys[..., :length, :]
                    layer.values = layer.values[..., :length, :]
        return cache, length

    def _best(self, tokens: list[int]) -> tuple[_Entry | None, int]:
        wanted = np.asarray(tokens[:-1], dtype=np.int32)
        best, length = None, 0
        for entry in reversed(self._entries):
            common = _common(entry.tokens, wanted)
            usable = common if entry.trimmable or common == len(entry.tokens) else 0
            if usable > length:
                best, length = entry, usable
        return best, length

    def add(self, tokens: list[int], cache: Cache) -> None:
        """Keep `cache`, which holds exactly `tokens` and is not used otherwise any more.

        Evaluated at once: caches taken out of a batch are lazy views that would pin the whole batch. What it replaces
        goes first, so that three copies of a row are never in memory.
        """
        entry = _Entry(np.asarray(tokens, dtype=np.int32), cache)
        kept = []
        for other in self._entries:
            common = _common(other.tokens, entry.tokens)
            if other.trimmable and common == len(entry.tokens):
                entry = other  # an older entry holds all of it
            elif not (common == len(other.tokens) and (entry.trimmable or common == len(entry.tokens))):
                kept.append(other)
        self._entries = kept
        mx.eval([layer.state for layer in entry.cache if not layer.empty()])
        self._entries.append(entry)
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
