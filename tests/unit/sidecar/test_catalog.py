"""What models.toml says is what follows from each model's published configuration."""

import importlib
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from sidecar.memory import guard
from sidecar.models import resolve, sizing
from sidecar.models.catalog import MODELS, Model

EACH = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)

SEEING = {2560: (24, 1024, 4096), 4096: (27, 1152, 4304), 2048: (27, 1152, 4304)}
"""Layers, width and inner width of the part that sees, by the width of the language model that it speaks to."""
PATCH, POSITIONS = 3 * 2 * 16 * 16, 2304


def built(model: Model) -> tuple[int, int, int]:
    """Parameters, bytes once quantised, and those of them in half precision, of mlx-lm's own model. Nothing is ever
    computed."""
    architecture = importlib.import_module(f"mlx_lm.models.{model.config['model_type']}")
    made = architecture.Model(architecture.ModelArgs.from_dict(dict(model.config)))
    made.set_dtype(mx.bfloat16)
    parameters = sum(array.size for _, array in tree_flatten(made.parameters()))
    choose = getattr(made, "quant_predicate", None)

    def quantised(path: str, module: nn.Module) -> bool | dict[str, int]:
        if not hasattr(module, "to_quantized") or module.weight.shape[-1] % 64:
            return False
        chosen: bool | dict[str, int] = choose(path, module) if choose else True
        return chosen

    nn.quantize(made, group_size=64, bits=model.bits, class_predicate=quantised)
    arrays = [array for _, array in tree_flatten(made.parameters())]
    half = sum(array.nbytes for array in arrays if array.dtype == mx.bfloat16)
    return parameters, sum(array.nbytes for array in arrays), half


@EACH
def test_sizes_are_those_of_the_architecture(model: Model) -> None:
    parameters, size, half = built(model)
    assert size == model.weights
    assert abs(half - model.half_bytes) <= 0.01 * size  # norms and the like are next to nothing
    assert abs(parameters / 1e9 - model.parameters) <= 0.05


@EACH
def test_the_part_that_sees_is_counted(model: Model) -> None:
    """Attention and two layers, in each of them; patches, positions, and the merger of four into one, in 16 bits."""
    expected = 0
    if model.config["model_type"].startswith("qwen3_5"):
        out = model.text["hidden_size"]
        layers, width, inner = SEEING[out]
        block = 4 * width * width + 2 * width * inner
        merger = (4 * width) ** 2 + 4 * width * out
        expected = 2 * (layers * block + (PATCH + POSITIONS) * width + merger)
    assert model.vision == expected


@EACH
def test_what_a_token_takes_follows_from_the_configuration(model: Model) -> None:
    text = model.text
    layers = text["num_hidden_layers"] // text.get("full_attention_interval", 1)
    head = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    assert resolve.kv_bytes_per_token(text) == 2 * layers * text["num_key_value_heads"] * head * 2


@EACH
def test_only_what_a_token_passes_through_is_active(model: Model) -> None:
    """Of experts as many as are asked for each token; the rest of a mixture is dense."""
    text = model.text
    experts = text.get("num_experts", 0)
    idle = (
        (experts - text.get("num_experts_per_tok", 0)) * 3 * text["hidden_size"] * text.get("moe_intermediate_size", 0)
    )
    active = model.parameters - text["num_hidden_layers"] * idle / 1e9
    assert abs((model.active or model.parameters) - active) <= 0.1


def test_the_default_is_one_of_them_and_every_field_is_told() -> None:
    assert "phi-3-mini" in MODELS
    for model in MODELS.values():
        assert model.licence and model.good_for and model.tools in ("native", "ours") and model.hub.count("/") == 1


def test_memory_at_16k_of_phi_3_is_the_sum_that_it_is() -> None:
    """2.15 GB of weights, 6.44 GB of keys and values, 0.2 of engine, a sixteenth of the weights for a pass."""
    phi = MODELS["phi-3-mini"]
    files = resolve.described(resolve.DEMO, phi.text, phi.bytes, 0, phi.context_window)
    assert sizing.taken(files, 16_384, "16") == 2_149_644_288 + 16_384 * 393_216 + 200_000_000 + 2_149_644_288 // 16


def test_the_readme_lists_them() -> None:
    lines = ["| Name | On the hub | Parameters | Weights | With 16k tokens | Window | Tools | Licence | Good for |"]
    for model in MODELS.values():
        files = resolve.described(resolve.DEMO, model.text, model.bytes, 0, model.context_window)
        count = f"{model.parameters:g}" + (f" ({model.active:g} active)" if model.active else "")
        sizes = f"{model.bytes / guard.GB:.1f} GB | {sizing.taken(files, 16_384, '16') / guard.GB:.1f} GB"
        what = f"{model.context_window // 1000}k | {model.tools} | {model.licence} | {model.good_for}"
        lines.append(f"| `{model.alias}` | `{model.hub}` | {count} billion | {sizes} | {what} |")
    lines.insert(1, "|---|---|---|---|---|---|---|---|---|")
    table = "\n".join(lines)
    assert table in (Path(__file__).parents[3] / "README.md").read_text("utf-8"), table
