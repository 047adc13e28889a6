"""How keys and values are kept: as the model computes them, or quantised, the values perhaps in fewer bits.

Errors in the keys are what costs: they shift whom a token attends to, while those in the values average out. mlx-lm's
own quantised cache has one number of bits for both, and cannot share a pass with others: here is one that has two and
can, and the attention to it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models import base
from mlx_lm.models.cache import BatchKVCache, KVCache, QuantizedKVCache, make_prompt_cache

from sidecar.shared.config import KV_BITS, KV_GROUP

Quantised = tuple[mx.array, mx.array, mx.array]
"""Numbers, their scales and their offsets, as mlx packs them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KvFormat:
    """How keys and values are kept."""

    bits: str = "16"
    """For each number, a name of KV_BITS; 16 = as the model computes them."""
    group: int = KV_GROUP

    @property
    def plain(self) -> bool:
        return self.bits == "16"

    def new_cache(self, weights: Any) -> list[Any]:
        """Quantised from the first token on: to convert it later would take both at once."""
        cache: list[Any] = make_prompt_cache(weights)
        return cache if self.plain else [QuantisedRow(self.group, KV_BITS[self.bits]) for _ in cache]


def kv_format(weights: Any, bits: str) -> KvFormat:
    """The format with so many bits where this model's caches can be quantised, else the plain one."""
    if bits == "16":
        return KvFormat()
    cache = make_prompt_cache(weights)
    if all(type(layer) is KVCache for layer in cache):
        mx.eval(weights(mx.zeros((1, 1), dtype=mx.int32), cache=cache))
        if all(array.shape[-1] % KV_GROUP == 0 for layer in cache for array in (layer.keys, layer.values)):
            return KvFormat(bits)
    log.warning("this model's KV caches cannot be quantised: they take 16 bits for each number, not %s", bits)
    return KvFormat()


class _Quantising:
    """Keys and values that are quantised as they come: what a row and a batch of rows have in common."""

    keys: Any
    values: Any
    """Of what is held: numbers, scales and offsets, of shape (rows, heads, tokens, …)."""
    group_size: int
    bits: tuple[int, int]
    """For keys, and for values."""
    step = 256

    def _write(self, keys: mx.array, values: mx.array, before: int, after: int) -> None:
        """Put those of tokens `before` to `after` behind what is held."""
        halves = zip((keys, values), self.bits, strict=True)
        new = [mx.quantize(half, self.group_size, bits) for half, bits in halves]
        if self.keys is None or after > self.keys[0].shape[2]:
            self.keys, self.values = self._grown(new, before)
        for held, added in zip((*self.keys, *self.values), (*new[0], *new[1]), strict=True):
            held[..., before:after, :] = added

    def _grown(self, new: Any, tokens: int) -> Any:
        """Both halves up to so many tokens, with whole steps of room for `new`, as mlx-lm's caches grow."""
        steps = -(-new[0][0].shape[2] // self.step) * self.step

        def room(array: mx.array) -> mx.array:
            return mx.zeros((*array.shape[:2], steps, array.shape[3]), array.dtype)

        def grown(held: mx.array) -> mx.array:
            return mx.concatenate([held[..., :tokens, :], room(held)], axis=2)

        return tree_map(room, tuple(new)) if self.keys is None else tree_map(grown, (self.keys, self.values))

    def _each(self, change: Callable[[mx.array], mx.array]) -> Any:
        """Both halves, with each array changed."""
        return (None, None) if self.keys is None else tree_map(change, (self.keys, self.values))


class QuantisedRow(_Quantising, QuantizedKVCache):  # type: ignore[misc]  # mlx-lm has no types
    """mlx-lm's quantised cache, with bits for keys and bits for values, which can share a batch."""

    def __init__(self, group_size: int, bits: tuple[int, int]) -> None:
        self.keys = self.values = None
        self.offset = 0
        self.group_size, self.bits = group_size, bits

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> Any:
        before, self.offset = self.offset, self.offset + keys.shape[2]
        self._write(keys, values, before, self.offset)
        return self.keys_and_values()

    @classmethod
    def merge(cls, rows: Sequence["QuantisedRow"]) -> "QuantisedRows":
        first, *others = (QuantisedRows.of(row) for row in rows)
        for other in others:
            first.extend(other)
        return first


class QuantisedRows(_Quantising, BatchKVCache):  # type: ignore[misc]
    """mlx-lm's batch of rows that end together, of quantised rows, which it does not know."""

    def __init__(self, group_size: int, bits: tuple[int, int]) -> None:
        self.keys = self.values = None
        self.offset, self.left_padding = mx.array([0]), mx.array([0])
        self._idx = 0
        self.group_size, self.bits = group_size, bits

    @classmethod
    def of(cls, row: QuantisedRow) -> "QuantisedRows":
        """A batch of one, whose arrays are its own."""
        rows = cls(row.group_size, row.bits)
        rows.keys, rows.values = row._each(lambda held: mx.contiguous(held[..., : row.offset, :]))
        rows.offset, rows._idx = mx.array([row.offset]), row.offset
        return rows

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> Any:
        before, self._idx = self._idx, self._idx + keys.shape[2]
        self.offset = self.offset + keys.shape[2]
        self._write(keys, values, before, self._idx)
        return self.keys_and_values()

    def keys_and_values(self) -> Any:
        return self._each(lambda held: held[..., : self._idx, :])

    def extend(self, other: "QuantisedRows") -> None:
        """Take over the other's rows. The shorter batch's begin with padding from then on."""
        end = max(self._idx, other._idx)
        join = partial(mx.concatenate, axis=0)
        self.keys, self.values = tree_map(lambda *both: join([*both]), self._padded(end), other._padded(end))
        self.offset = join([self.offset, other.offset])
        self.left_padding = join([self.left_padding + end - self._idx, other.left_padding + end - other._idx])
        self._idx = end

    def _padded(self, end: int) -> Any:
        before = [(0, 0), (0, 0), (end - self._idx, 0), (0, 0)]
        return self._each(lambda held: mx.pad(held[..., : self._idx, :], before))

    def filter(self, kept: list[int]) -> None:
        """Keep these rows, and no padding that all of them have."""
        self.offset, self.left_padding = self.offset[mx.array(kept)], self.left_padding[mx.array(kept)]
        spare = int(self.left_padding.min().item())  # type: ignore[arg-type]
        self.keys, self.values = self._each(lambda held: held[mx.array(kept), :, spare:])
        self.left_padding, self._idx = self.left_padding - spare, self._idx - spare

    def extract(self, index: int) -> QuantisedRow:
        row = QuantisedRow(self.group_size, self.bits)
        begin = int(self.left_padding[index].item())  # type: ignore[arg-type]
        row.keys, row.values = self._each(lambda held: mx.contiguous(held[index : index + 1, :, begin : self._idx]))
        row.offset = self._idx - begin
        return row

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (*(self.keys or ()), *(self.values or ())))


_same_bits = base.quantized_scaled_dot_product_attention


def attention(
    queries: mx.array,
    keys: Quantised,
    values: Quantised,
    scale: float,
    mask: mx.array | str | None,
    group_size: int = 64,
    bits: int | tuple[int, int] = 8,
) -> mx.array:
    """mlx-lm's attention to a quantised cache, which takes the bits of keys and of values."""
    if isinstance(bits, int):
        attended: mx.array = _same_bits(queries, keys, values, scale, mask, group_size, bits)
        return attended
    batch, heads, length, width = queries.shape
    # Heads that share keys and values stand on an axis of their own.
    queries = (queries * scale).reshape(batch, keys[0].shape[1], -1, length, width)
    keys, values = _above(keys), _above(values)
    scores = mx.quantized_matmul(queries, *keys, transpose=True, group_size=group_size, bits=bits[0])
    scores = mx.softmax(_masked(scores, mask), axis=-1, precise=True)
    attended = mx.quantized_matmul(scores, *values, transpose=False, group_size=group_size, bits=bits[1])
    return attended.reshape(batch, heads, length, -1)


def _above(half: Quantised) -> Quantised:
    """With an axis for the heads that share it."""
    numbers, scales, offsets = half
    return numbers[:, :, None], scales[:, :, None], offsets[:, :, None]


def _masked(scores: mx.array, mask: mx.array | str | None) -> mx.array:
    """`mask`: as mlx-lm's models make it: none, a word, what may be seen, or what is added."""
    if mask is None:
        return scores
    if isinstance(mask, str):
        length, context = scores.shape[-2:]
        mask = mx.arange(context - length, context)[:, None] >= mx.arange(context)
    if mask.ndim > 3:
        mask = mask[:, :, None]
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, mx.finfo(scores.dtype).min)
    return scores + mask


# Every architecture calls mlx-lm's `scaled_dot_product_attention`, which asks this name of its module for caches with
# bits and passes on what they are. There is no other place where a cache could bring an attention of its own.
base.quantized_scaled_dot_product_attention = attention
