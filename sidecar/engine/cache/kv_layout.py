"""One row of mlx-lm's caches, taken apart into what can be kept and put together again.

The keys and values of a layer that keeps every token can be cut at any token; what a layer keeps of only the last
tokens (rolling, recurrent, chunked) is true at one token alone. Knows nothing of which rows are kept, or where.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.models.cache import KVCache, RotatingKVCache, _BaseCache

from sidecar.engine.cache.kv_format import QuantisedRow

Cache = list[Any]
"""mlx-lm's caches of one row, one per layer."""

Slices = tuple[tuple[mx.array, ...], ...]
"""Some tokens of every layer that can be cut: keys and values (a quantised layer: each with scales and biases), the
tokens along axis 2. A layer that the model never uses has none."""

STEP = 256
"""Tokens by which mlx-lm's caches grow."""


class State(NamedTuple):
    """What all layers that cannot be cut hold at one token: their arrays, and the plain values between them."""

    arrays: tuple[mx.array, ...]
    plain: Any
    """Lists of numbers, texts, None and {"array": index}, as JSON takes them."""

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class Layout:
    """How the rows of one model are made up."""

    def __init__(self, new_cache: Callable[[], Cache]) -> None:
        self._new_cache = new_cache
        self._kinds = [_kind(leaf) for leaf in _leaves(new_cache())]
        self.leaves = sum(map(_is_cut, self._kinds))
        """How many caches of a row can be cut."""
        self.cuts = self.leaves == len(self._kinds)
        """Whether a row can be resumed at any token: no layer has a state."""
        self.unknown = not all(isinstance(leaf, _BaseCache) for leaf in _leaves(new_cache()))
        """Whether only the model itself understands its caches: such rows cannot be kept."""

    @property
    def name(self) -> str:
        """The same for two rows exactly if one can take the place of the other."""
        return repr(self._kinds)

    def fits(self, cache: Cache, tokens: int) -> bool:
        """Whether it is a row of this kind which holds so many tokens in every layer that can be cut."""
        leaves = _leaves(cache)
        return [_kind(leaf) for leaf in leaves] == self._kinds and all(
            leaf.empty() or leaf.offset == tokens for leaf in leaves if _is_cut(_kind(leaf))
        )

    def token_bytes(self, cache: Cache) -> int:
        """Bytes of one token in all layers that can be cut."""
        return sum(array.nbytes // array.shape[2] for leaf in self._cut(cache) for array in _arrays(leaf))

    def cut(self, cache: Cache, ranges: Sequence[tuple[int, int]], last: bool) -> list[Slices]:
        """Copies of these ranges of tokens, evaluated one layer after the other.

        `last`: nobody needs the row any more. Rows taken out of a batch are lazy, and a layer becomes real when it is
        cut: it is then dropped at once, so that the whole row never is.
        """
        layers = []
        for leaf in self._cut(cache):
            slices = [tuple(mx.contiguous(array[..., a:b, :]) for array in _arrays(leaf)) for a, b in ranges]
            mx.eval(slices)
            if last:
                leaf.keys = leaf.values = None
            layers.append(slices)
        return [tuple(slices) for slices in zip(*layers, strict=True)] if layers else [() for _ in ranges]

    def state(self, cache: Cache) -> State | None:
        """A copy, still lazy, of what the layers hold that cannot be cut; None where all can be."""
        if self.cuts:
            return None
        arrays: list[mx.array] = []
        plain = [_plain(_state(leaf), arrays) for leaf in _leaves(cache) if not _is_cut(_kind(leaf))]
        return State(tuple(arrays), plain)

    def join(self, parts: Sequence[tuple[Slices, int]], tokens: int, room: int, state: State | None) -> Cache:
        """A row of its own from the first so many tokens of each part, `tokens` in all, and `state`, evaluated.

        There is `room` in it for so many tokens as a whole, without another copy.
        """
        cache = self._new_cache()
        room = max(0, -(-room // STEP) * STEP - tokens)
        lengths = [length for _, length in parts]
        for leaf, *pieces in zip(self._cut(cache), *(slices for slices, _ in parts), strict=True):
            arrays = [_join(column, lengths, room) for column in zip(*pieces, strict=True)]
            if arrays:
                half = len(arrays) // 2
                leaf.keys, leaf.values = arrays if half == 1 else (arrays[:half], arrays[half:])
                leaf.offset = tokens
                mx.eval(arrays)
        if state is not None:
            rest = [leaf for leaf in _leaves(cache) if not _is_cut(_kind(leaf))]
            for leaf, plain in zip(rest, state.plain, strict=True):
                leaf.state = _filled(plain, state.arrays)
        return cache

    def _cut(self, cache: Cache) -> list[Any]:
        return [leaf for leaf in _leaves(cache) if _is_cut(_kind(leaf))]


_CUT = {kind.__name__ for kind in (KVCache, QuantisedRow)}


def _leaves(cache: Cache) -> list[Any]:
    """The caches themselves: a layer may have several, in a CacheList."""
    return [leaf for layer in cache for leaf in (_leaves(layer.caches) if hasattr(layer, "caches") else [layer])]


def _kind(leaf: Any) -> tuple[Any, ...]:
    return (type(leaf).__name__, *(getattr(leaf, name, None) for name in ("bits", "group_size", "max_size")))


def _is_cut(kind: tuple[Any, ...]) -> bool:
    return kind[0] in _CUT


def _arrays(leaf: Any) -> list[mx.array]:
    if leaf.empty():
        return []
    return [leaf.keys, leaf.values] if isinstance(leaf.keys, mx.array) else [*leaf.keys, *leaf.values]


def _join(pieces: Sequence[mx.array], lengths: Sequence[int], room: int) -> mx.array:
    used = [
        piece if length == piece.shape[2] else piece[..., :length, :]
        for piece, length in zip(pieces, lengths, strict=True)
    ]
    batch, heads, _, width = pieces[0].shape
    # Never one array alone: a row must not share the memory of what is kept.
    return mx.concatenate([*used, mx.zeros((batch, heads, room, width), pieces[0].dtype)], axis=2)


def _state(leaf: Any) -> Any:
    """mlx-lm's own, but a rolling layer in the order of its tokens and no longer than its window: what a long chunk
    has left in it beyond that is never looked at again."""
    if not isinstance(leaf, RotatingKVCache) or leaf.empty():
        return leaf.state
    keys, values = (leaf._temporal_order(each) for each in (leaf.keys, leaf.values))
    over = keys.shape[2] - leaf.max_size
    keys, values = (leaf._trim(over, each) for each in (keys, values))
    return keys, values, leaf.offset, leaf.keep, leaf.max_size, keys.shape[2]


def _plain(value: Any, arrays: list[mx.array]) -> Any:
    if isinstance(value, mx.array):
        arrays.append(mx.contiguous(value))
        return {"array": len(arrays) - 1}
    if isinstance(value, (list, tuple)):
        return [_plain(each, arrays) for each in value]
    assert value is None or isinstance(value, (int, float, str)), f"a cache with {type(value)} in it"
    return value


def _filled(plain: Any, arrays: Sequence[mx.array]) -> Any:
    if isinstance(plain, dict):
        # An object of its own on the same memory: MLX copies it when one of the two is written to.
        return mx.contiguous(arrays[plain["array"]])
    return [_filled(each, arrays) for each in plain] if isinstance(plain, list) else plain
