"""Packed weights on a CPU: the same numbers, from other kernels."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchGLU

from sidecar.engine import packed_weights
from sidecar.engine.packed_weights import FEW, FEW_ODD, adapt

FORMATS = [(64, 4, "affine"), (32, 4, "affine"), (64, 8, "affine"), (64, 6, "affine"), (32, 4, "mxfp4")]


class Model(nn.Module):
    """A layer, an embedding that is its own head, experts, and what is not packed."""

    def __init__(self, group: int, bits: int, mode: str, dtype: mx.Dtype = mx.float32) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(2048, 128), nn.Linear(128, 128 * 6)
        self.experts, self.norm = SwitchGLU(128, 192, 4), nn.RMSNorm(128)
        self.linear.bias = mx.random.normal((128 * 6,))
        nn.quantize(self, group, bits, mode=mode)
        self.apply(lambda each: each.astype(dtype) if mx.issubdtype(each.dtype, mx.floating) else each)
        mx.eval(self.parameters())


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces for each core, of layers of this size too."""
    monkeypatch.setattr(packed_weights, "SPLIT", 1 << 14)
    monkeypatch.setattr(packed_weights, "UNPACKED_BYTES", 1 << 18)


def inputs(tokens: int) -> mx.array:
    return mx.random.normal((1, tokens, 128), key=mx.random.key(tokens))


def same(one: mx.array, other: mx.array) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and bool(mx.allclose(one, other, 1e-4, 1e-4).item())


@pytest.mark.parametrize("format_", FORMATS, ids=str)
@pytest.mark.parametrize("tokens", [1, FEW - 1, FEW, FEW_ODD, 100])
def test_a_layer_gives_what_it_gave(format_: tuple[int, int, str], tokens: int) -> None:
    model, x = Model(*format_), inputs(tokens)
    indices = mx.random.randint(0, 4, (1, tokens, 2), key=mx.random.key(1))
    before = [model.linear(x), model.embedding.as_linear(x), model.embedding(indices), model.experts(x, indices)]
    mx.eval(before)
    assert adapt(model)
    after = [model.linear(x), model.embedding.as_linear(x), model.embedding(indices), model.experts(x, indices)]
    assert all(map(same, before, after))


@pytest.mark.parametrize(("bits", "few"), [(2, FEW), (3, FEW_ODD), (4, FEW), (5, FEW_ODD), (6, FEW_ODD), (8, FEW)])
def test_only_passes_of_many_tokens_unpack(bits: int, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, unpacked = Model(64, bits, "affine"), list[Any]()
    assert adapt(model)
    dequantize = mx.dequantize

    def noted(*given: Any, **how: Any) -> mx.array:
        unpacked.append(given)
        return dequantize(*given, **how)

    monkeypatch.setattr(packed_weights.mx, "dequantize", noted)
    model.linear(inputs(few - 1))
    assert not unpacked
    model.linear(inputs(few))
    pieces = len(unpacked)
    assert pieces > 1 and sum(given[0].shape[0] for given in unpacked) == 128 * 6
    model.embedding.as_linear(inputs(1000))  # of a prompt's tokens nobody wants the logits: they stay uncomputed
    assert len(unpacked) == pieces


def test_experts_with_few_tokens_each_stay_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(64, 6, "affine")
    assert adapt(model)
    monkeypatch.setattr(packed_weights.mx, "dequantize", None)
    model.experts(inputs(32), mx.tile(mx.arange(4), 16).reshape(1, 32, 2))
    with pytest.raises(TypeError):
        model.experts(inputs(32), mx.broadcast_to(mx.arange(2), (1, 32, 2)))


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_all_that_is_in_half_precision_is_widened(dtype: mx.Dtype) -> None:
    model = Model(64, 4, "affine", dtype)
    weights = model.linear.weight
    assert adapt(model)
    numbers = model.linear.scales, model.linear.biases, model.norm.weight, model.experts.gate_proj.scales
    assert {each.dtype for each in numbers} == {mx.float32} and model.linear.weight is weights
    assert model.linear(model.embedding(mx.zeros((1, 9), mx.int32))).dtype == mx.float32


def test_what_is_shared_out_takes_no_memory() -> None:
    model = Model(64, 4, "affine")
    before = mx.get_active_memory()
    assert adapt(model)
    assert mx.get_active_memory() - before < 1 << 16


def test_without_a_quick_product_nothing_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "_multiplies_quickly", lambda: False)
    model, x = Model(64, 4, "affine"), inputs(100)
    before = model.linear(x)
    assert adapt(model)
    monkeypatch.setattr(packed_weights.mx, "dequantize", None)
    assert same(before, model.linear(x))


def test_dense_models_and_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = nn.Sequential(nn.Linear(64, 64), nn.RMSNorm(64))
    dense.apply(lambda each: each.astype(mx.bfloat16))
    assert not adapt(dense) and dense.layers[0].weight.dtype == mx.bfloat16
    model = Model(64, 4, "affine", mx.float16)
    monkeypatch.setattr(packed_weights.mx, "default_device", lambda: mx.gpu)
    assert not adapt(model) and model.norm.weight.dtype == mx.float16
    assert type(model.linear) is nn.QuantizedLinear and type(model.experts.gate_proj) is QuantizedSwitchLinear
