"""What fits on a machine."""

from sidecar.download import ModelFiles, kv_bytes_per_token
from sidecar.fit import SHORTEST_WINDOW, limits

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
    fits = limits(PHI, available=20 * 10**9)
    assert fits.context_window == (20 * 10**9 - PHI.weights_bytes - 2 * 10**9) // (2 * 393_216)
    assert fits.output_limit == fits.context_window // 4


def test_the_model_and_the_user_limit_the_window_too() -> None:
    assert limits(PHI, available=10**12).context_window == 131072
    assert limits(PHI, available=10**12, context=10_000).context_window == 10_000


def test_without_memory_the_window_stays_useful() -> None:
    assert limits(PHI, available=0).context_window == SHORTEST_WINDOW


def test_a_cache_that_does_not_grow_sets_no_limit() -> None:
    demo = ModelFiles("/d", 3_000_000, 65536, 0)
    assert limits(demo, available=4 * 10**9).context_window == 65536


def test_the_cache_always_holds_one_whole_window() -> None:
    fits = limits(PHI, available=5 * 10**9)
    assert fits.cache_bytes >= fits.context_window * PHI.bytes_per_token
    assert limits(PHI, available=10**12, cache_gb=100).cache_bytes == 100 * 10**9
    assert limits(PHI, available=10**12, cache_gb=float("inf")).cache_bytes < 10**12
