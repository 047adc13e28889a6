"""What fits on a machine: models, windows, requests."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from sidecar.engine.memory_costs import Costs, Demand, Passes, admit
from sidecar.memory.overhead import ENGINE_BYTES, transient_limit
from sidecar.models.catalog import WEIGHTS
from sidecar.models.resolve import PLAIN_KV, ModelFiles, kv_bytes_per_token, kv_group
from sidecar.models.sizing import AMPLE_WINDOW, SHORTEST_WINDOW, kv_bytes, limits, load_refusal
from sidecar.shared.config import KV_BITS

GB = 10**9
CAUTION = 2 * GB
PHI = ModelFiles("/m", weights_bytes=2_150_000_000, context_window=131072, bytes_per_token=393_216)
PHI_CONFIG = {"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 3072, "torch_dtype": "bfloat16"}


def test_phi_3_costs_what_was_measured_for_it() -> None:
    assert kv_bytes_per_token(PHI_CONFIG) == 393_216


def test_layers_with_a_sliding_window_do_not_count() -> None:
    half = {**PHI_CONFIG, "layer_types": ["full_attention", "sliding_attention"] * 16}
    assert kv_bytes_per_token(half) == 393_216 // 2
    assert kv_bytes_per_token({**PHI_CONFIG, "sliding_window_pattern": 4}) == 393_216 // 4
    assert kv_bytes_per_token({**PHI_CONFIG, "attention_window_size": 256}) == 0


def test_the_window_is_what_memory_bears_twice() -> None:
    fits = limits(PHI, 20 * GB, CAUTION)
    held = PHI.weights_bytes + ENGINE_BYTES + transient_limit(PHI.weights_bytes)
    assert fits.context_window == (20 * GB - held - CAUTION) // (2 * 393_216)
    assert fits.output_limit == fits.context_window // 4


def test_a_window_that_was_promised_can_be_filled() -> None:
    """The same arithmetic decides at load and for each request."""
    available = 20 * GB
    window = limits(PHI, available, CAUTION).context_window
    costs = Costs(PHI.bytes_per_token, transient_limit=transient_limit(PHI.weights_bytes), passes=Passes(75e3))
    weights = PHI.weights_bytes
    prompt = window - 1024
    budget = available - ENGINE_BYTES - CAUTION // 2  # requests may go down to the Critical line
    assert admit(costs, Demand(prompt, 1024), [], weights, 0, 0, budget, budget).act == "begin"


def test_the_model_and_the_user_limit_the_window_too() -> None:
    assert limits(PHI, 10**12, CAUTION).context_window == 131072
    assert limits(PHI, 10**12, CAUTION, context=10_000).context_window == 10_000


def test_without_memory_the_window_stays_useful() -> None:
    assert limits(PHI, 0, CAUTION).context_window == SHORTEST_WINDOW


def test_a_cache_that_does_not_grow_sets_no_limit() -> None:
    demo = ModelFiles("/d", 3_000_000, 65536, 0)
    assert limits(demo, 4 * GB, CAUTION).context_window == 65536


def test_the_cache_always_holds_one_whole_window() -> None:
    fits = limits(PHI, 5 * GB, CAUTION)
    assert fits.cache_bytes >= fits.context_window * PHI.bytes_per_token
    assert limits(PHI, 10**12, CAUTION, cache_gb=100).cache_bytes == 100 * 10**9
    assert limits(PHI, 10**12, CAUTION, cache_gb=float("inf")).cache_bytes < 10**12


PHI_3 = ModelFiles("/m", 2_150_000_000, 131072, 393_216, kv_width=2, kv_group=32)


def test_quantised_caches_cost_what_was_measured_for_them() -> None:
    """12,000 tokens of Phi-3: 4.7 GB, 2.65 GB in 8 bits, 1.47 GB in 4; with values in 4 alone it is halfway."""
    assert [round(12_000 * kv_bytes(PHI_3, bits) / 1e9, 2) for bits in KV_BITS] == [4.72, 2.65, 2.06, 1.47]


STEPS = [(64, "16"), (26, "16"), (22, "8"), (16, "8"), (15, "8/4"), (13, "8/4"), (12, "4"), (5, "4")]


@pytest.mark.parametrize(("available", "bits"), STEPS)
def test_caches_are_quantised_only_where_the_window_would_be_cut_short(available: int, bits: str) -> None:
    fits = limits(PHI_3, available * GB, CAUTION)
    assert fits.kv_bits == bits
    # Where a finer format would do, it is taken; and the cache holds one window in the format chosen.
    for finer in list(KV_BITS)[: list(KV_BITS).index(bits)]:
        assert limits(PHI_3, available * GB, CAUTION, kv_bits=finer).context_window < AMPLE_WINDOW
    assert fits.cache_bytes >= fits.context_window * kv_bytes(PHI_3, bits)


def test_a_model_that_needs_no_quantised_cache_gets_none() -> None:
    short = ModelFiles("/m", 2_150_000_000, 4096, 393_216, kv_group=32)
    assert limits(short, 8 * GB, CAUTION).kv_bits == "16"
    assert limits(PHI_3, 12 * GB, CAUTION, context=8000).kv_bits == "16"
    assert limits(PHI, 5 * GB, CAUTION, kv_bits="4").kv_bits == "16"  # its kind cannot be


def test_the_user_may_choose_the_caches_format() -> None:
    windows = [limits(PHI_3, 12 * GB, CAUTION, kv_bits=bits).context_window for bits in KV_BITS]
    assert windows == sorted(windows) and windows[-1] > 3 * windows[0]


def test_only_heads_that_groups_divide_can_be_quantised() -> None:
    phi = {"model_type": "phi3", "hidden_size": 3072, "num_attention_heads": 32}
    assert kv_group(phi) == 32  # heads of 96
    assert kv_group({**phi, "head_dim": 128}) == 32
    assert kv_group({**phi, "head_dim": 80}) == 0
    assert kv_group({**phi, "model_type": "gpt_oss"}) == 0
    assert kv_group({**phi, "model_type": "llama", "layer_types": ["sliding_attention", "full_attention"]}) == 0


@pytest.mark.parametrize("architecture", sorted(PLAIN_KV))
def test_mlx_lm_gives_these_architectures_plain_caches(architecture: str) -> None:
    """Read in its source, since importing mlx takes the unit tests seconds."""
    file = "llama" if architecture == "mistral" else architecture  # mlx-lm's own word for it
    source = Path(find_spec("mlx_lm").submodule_search_locations[0], "models", f"{file}.py").read_text()  # type: ignore[union-attr,index]
    caches = set(re.findall(r"\b(\w*Cache)\(", source))
    assert caches <= {"KVCache", "RotatingKVCache"} and ("RotatingKVCache" not in caches or "layer_types" in source)


def refusal(weights: float, available: float) -> str | None:
    return load_refusal("big", int(weights * GB), int(available * GB), CAUTION, "close something and try again")


def test_a_model_is_loaded_only_if_it_leaves_the_caution_line_free() -> None:
    assert refusal(4.28, 8) is None
    text = refusal(4.28, 6)
    assert text is not None
    assert "big takes 4.5 GB, but only 6.0 GB of memory are free, of which 2.0 GB stay free" in text
    assert "close something" in text and "CLAUDE_LOCAL_MODEL=qwen3.5-4b fits" in text


@pytest.mark.parametrize(
    ("available", "named"),
    [(4.4, "phi-3-mini"), (4.1, "llama-3.2-3b"), (3, "llama-3.2-1b"), (2.8, "demo"), (0.1, "demo")],
)
def test_the_largest_model_that_fits_is_named(available: float, named: str) -> None:
    assert f"CLAUDE_LOCAL_MODEL={named} " in str(refusal(14, available))


def test_no_larger_model_is_named_and_none_for_the_smallest() -> None:
    assert "CLAUDE_LOCAL_MODEL" not in str(refusal(0.01, 0.1))
    assert list(WEIGHTS.values()) == sorted(WEIGHTS.values(), reverse=True)
