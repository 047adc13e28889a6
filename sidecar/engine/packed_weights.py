"""Packed (quantised) weights on a CPU.

mlx's kernels for them are scalar there, run on one core, and widen half precision number by number: a layer of 900 by
900 takes 60 ms for a token with scales in float16, 10 ms in bfloat16, 0.9 ms in float32. So all that is in half
precision is widened once; the rows of a layer are shared out over the cores; and passes of many tokens unpack a piece
of the layer after the other and multiply with it through numpy's BLAS, which every wheel of numpy brings along. A GPU
has kernels of its own for all of this, and is left alone.
"""

import ctypes
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.switch_layers import QuantizedSwitchLinear
from numpy.typing import NDArray

from sidecar.memory.overhead import UNPACKED_BYTES
from sidecar.shared import machine

FEW = 6
"""Tokens from which unpacking pays where a word of 32 bits holds whole numbers. Measured on two busy cores, in ms, for
6 and for 16 tokens of a layer of 896 by 4864: packed 40 and 103, unpacked 34 and 32; of 576 by 1536: 8 and 23, 6 and
5."""
FEW_ODD = 32
"""The same for 3, 5 and 6 bits, which take five to eight times as long to unpack: 24 tokens 217 and 248, 32 312 and
224."""
SPLIT = 1 << 18
"""Numbers from which a layer is shared out: 256 by 256 took 0.09 ms on one core and 0.13 on two, 512 by 512 0.29 and
0.24, 896 by 896 0.91 and 0.65."""
MOST_CORES = 16
NEVER = 1 << 40
HEAD = 8
"""A layer that is so many times wider than its input makes the logits. While a prompt is read nobody asks for them, and
what is not asked for is never computed, unless it is by numpy."""


def adapt(weights: Any) -> bool:
    """Have a loaded model compute as a CPU does best, where it is packed and there is no GPU; says whether."""
    if mx.default_device() != mx.cpu or not (packed := [each for each in weights.modules() if type(each) in _KINDS]):
        return False
    weights.apply(_widened)
    mx.eval(weights.parameters())
    cores = Cores.here()
    for layer in packed:
        layer.__class__ = _KINDS[type(layer)]
        layer.matrix = cores.matrix(layer)
    return True


def _widened(each: mx.array) -> mx.array:
    return each.astype(mx.float32) if each.dtype in (mx.float16, mx.bfloat16) else each


@dataclass(frozen=True, slots=True, eq=False)
class Cores:
    """What computes: a stream of mlx for each core, and whether numpy multiplies quickly."""

    streams: tuple[Any, ...]
    pool: ThreadPoolExecutor
    """numpy's products, one core each."""
    is_quick: bool

    @classmethod
    def here(cls) -> "Cores":
        """Of this thread, which alone may use them."""
        count = min(MOST_CORES, machine.cores())
        streams = tuple(mx.new_stream(mx.cpu) for _ in range(count)) if count > 1 else (None,)
        _keep_to_one_core()
        return cls(streams, ThreadPoolExecutor(count, "product"), _multiplies_quickly())

    def multiply(self, products: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> None:
        """All at once: the first with the second on its side, into the third."""
        done = [self.pool.submit(np.matmul, one, other.T, out=out) for one, other, out in products]
        for each in done:
            each.result()

    def matrix(self, layer: Any) -> "Matrix":
        """The layer's, shared out."""
        how = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
        *_, rows, width = layer.weight.shape
        width = width * 32 // layer.bits
        few = FEW if 32 % layer.bits == 0 else FEW_ODD
        return Matrix(self, self._parts(layer, rows, width), how, few if self._unpacks(rows, width) else NEVER)

    def _unpacks(self, rows: int, width: int) -> bool:
        return self.is_quick and rows <= HEAD * width

    def _parts(self, layer: Any, rows: int, width: int) -> "list[Part]":
        whole = Part(layer.weight, layer.scales, layer.get("biases"), 0, rows)
        if layer.weight.ndim > 2 or rows * width < SPLIT:
            return [whole]  # experts are pieces by themselves
        pieces = -(-4 * rows * width // UNPACKED_BYTES) * len(self.streams)
        parts = [whole.cut(*ends) for ends in pairwise(rows * number // pieces for number in range(pieces + 1))]
        mx.eval([[part.weight, part.scales, part.biases] for part in parts])
        return parts


def _keep_to_one_core() -> None:
    """Have numpy's own OpenBLAS use no threads: its threads wait for each other by spinning, and where something else
    runs as well, a product took ten times as long with two of them as with one."""
    for library in (Path(np.__file__).parents[1] / "numpy.libs").glob("*openblas*"):
        with suppress(OSError, AttributeError):
            ctypes.CDLL(str(library)).scipy_openblas_set_num_threads64_(1)


def _multiplies_quickly() -> bool:
    """Whether numpy was built with a fast BLAS, as it says itself: trying it out says as much of what else runs."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return bool(blas.get("found")) and blas.get("name") not in ("blas", "none")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows of a packed matrix, and which they are: views of it, no copies."""

    weight: mx.array
    scales: mx.array
    biases: mx.array | None
    start: int
    end: int

    def cut(self, start: int, end: int) -> "Part":
        """Some of its rows."""
        biases = None if self.biases is None else self.biases[start:end]
        return Part(self.weight[start:end], self.scales[start:end], biases, start, end)

    def expert(self, number: int, start: int, end: int) -> "Part":
        """One of all, for some of the rows that are multiplied."""
        biases = None if self.biases is None else self.biases[number]
        return Part(self.weight[number], self.scales[number], biases, start, end)


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """A packed matrix. Of experts, all in one part."""

    cores: Cores
    parts: list[Part]
    how: dict[str, Any]
    """The format, as mlx's functions take it."""
    few: int
    """Tokens from which it is unpacked."""

    def times(self, x: mx.array) -> mx.array:
        """Each of the last axis' rows of `x` with this matrix."""
        return self._packed(x) if x.size // x.shape[-1] < self.few else self._unpacked(x)

    def _packed(self, x: mx.array) -> mx.array:
        if len(self.parts) == 1:
            return self._product(x, self.parts[0], None)
        shares = zip(self.parts, _round(self.cores.streams, len(self.parts)), strict=True)
        return mx.concatenate([self._product(x, part, stream) for part, stream in shares], axis=-1)

    def _product(self, x: mx.array, part: Part, stream: Any) -> mx.array:
        return mx.quantized_matmul(x, part.weight, part.scales, part.biases, True, **self.how, stream=stream)

    def _unpacked(self, x: mx.array) -> mx.array:
        rows = _seen(x.reshape(-1, x.shape[-1]))
        out = np.empty((len(rows), self.parts[-1].end), np.float32)
        for several in self._dense(self.parts):
            self.cores.multiply((rows, dense, out[:, part.start : part.end]) for part, dense in several)
        return mx.array(out).reshape(*x.shape[:-1], out.shape[-1])

    def times_experts(self, x: mx.array, experts: mx.array) -> mx.array | None:
        """Each row with the expert that is named for it, in their order; None where they have too few rows each."""
        [all_of_them], counts = self.parts, np.bincount(np.asarray(experts))
        if len(experts) < self.few * int(np.count_nonzero(counts)):
            return None
        rows, ends = _seen(x.reshape(len(experts), -1)), [0, *np.cumsum(counts).tolist()]
        out = np.empty((len(rows), all_of_them.weight.shape[1]), np.float32)
        each = [all_of_them.expert(number, *ends[number : number + 2]) for number in np.flatnonzero(counts).tolist()]
        for several in self._dense(each):
            self.cores.multiply(
                (rows[part.start : part.end], dense, out[part.start : part.end]) for part, dense in several
            )
        return mx.array(out)[:, None]

    def _dense(self, parts: "list[Part]") -> "Iterator[list[tuple[Part, NDArray[np.float32]]]]":
        """The numbers of these parts, of as many at once as there are cores."""
        streams = self.cores.streams if len(parts) > 1 else (None,)
        for first in range(0, len(parts), len(streams)):
            several = parts[first : first + len(streams)]
            dense = [
                mx.dequantize(part.weight, part.scales, part.biases, **self.how, dtype=mx.float32, stream=stream)
                for part, stream in zip(several, streams, strict=False)
            ]
            mx.eval(dense)
            yield list(zip(several, map(_seen, dense), strict=True))


def _round(streams: tuple[Any, ...], count: int) -> list[Any]:
    return [streams[number % len(streams)] for number in range(count)]


def _seen(array: mx.array) -> NDArray[np.float32]:
    """The same numbers, computed now, as numpy sees them."""
    return np.asarray(array.astype(mx.float32))


class _Linear(nn.QuantizedLinear):  # type: ignore[misc]  # Any to mypy
    matrix: Matrix

    def __call__(self, x: mx.array) -> mx.array:
        y = self.matrix.times(x)
        return y + self["bias"] if "bias" in self else y


class _Embedding(nn.QuantizedEmbedding):  # type: ignore[misc]
    matrix: Matrix

    def as_linear(self, x: mx.array) -> mx.array:
        return self.matrix.times(x)


class _Experts(QuantizedSwitchLinear):  # type: ignore[misc]
    matrix: Matrix

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        y = self.matrix.times_experts(x, indices) if sorted_indices and self.global_scale is None else None
        if y is None:
            packed: mx.array = super().__call__(x, indices, sorted_indices)
            return packed
        return y + mx.expand_dims(self["bias"][indices], -2) if "bias" in self else y


_KINDS: dict[type, type] = {
    nn.QuantizedLinear: _Linear,
    nn.QuantizedEmbedding: _Embedding,
    QuantizedSwitchLinear: _Experts,
}
