"""What fits on a machine: models, windows, requests."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config import KV_BITS
from sidecar.download import PLAIN_KV, ModelFiles, kv_bytes_per_token, kv_group
from sidecar.fit import (
    AMPLE_WINDOW,
    ENGINE_BYTES,
    SHORTEST_WINDOW,
    WEIGHTS,
    Costs,
    Demand,
    Passes,
    Verdict,
    admit,
    kv_bytes,
    limits,
    load_refusal,
    longest_prompt,
    peak,
    transient_limit,
)

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


# Loading


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


# Requests

DENSE = Costs(per_token=1000, passes=Passes(5000, 20), step=20_000)
SLIDING = Costs(per_token=500, rolling=((512, 500),), passes=Passes(5000, 20))


def test_a_row_grows_in_steps_and_a_rolling_one_stops_growing() -> None:
    assert DENSE.row(1) == DENSE.row(256) == 256_000 and DENSE.row(257) == 512_000
    assert SLIDING.row(5120) == 500 * 5120 + 500 * 512
    assert SLIDING.row(5120, reading=1024) == 500 * 5120 + 500 * (512 + 1023)


def test_chunks_get_shorter_where_the_context_gets_longer() -> None:
    sizes = [DENSE.chunk(read) for read in (0, 4000, 20_000, 200_000)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1000 and sizes[-1] == 32
    assert all(DENSE.transient(size, size + 4000) <= DENSE.transient_limit for size in sizes[1:])


def test_a_fused_attention_reads_in_whole_chunks() -> None:
    assert Costs(per_token=1000, passes=Passes(5000)).chunk(100_000) == 2048


def test_one_stream_takes_a_row_and_a_pass_or_its_row_beside_what_is_kept_of_it() -> None:
    short, long = Demand(400, 256), Demand(100_000, 256)
    reading, decoding = DENSE.row(400) + DENSE.transient(399, 399), 400 * 1000 + DENSE.row(656) + DENSE.step
    assert peak(DENSE, [short]) == max(reading, decoding)
    assert peak(DENSE, [long]) == pytest.approx(DENSE.row(100_000) * 2, rel=0.01)
    assert DENSE.row(100_000) < peak(DENSE, [long], 0, 0) <= DENSE.row(100_000) + DENSE.transient_limit


def test_a_row_that_grows_is_there_twice_one_layer_at_a_time() -> None:
    layers = replace(DENSE, layer_token=250)
    one = [Demand(12_000, 256, 12_000)]
    assert peak(layers, one) - peak(DENSE, one) == 250 * 12_256


def test_a_batch_pays_for_its_longest_row() -> None:
    alone = peak(DENSE, [Demand(12_000, 256, 12_000)])
    together = peak(DENSE, [Demand(12_000, 256, 12_000), Demand(100, 256)])
    assert together - alone > 12_000 * DENSE.per_token


def test_copies_at_the_cuts_count() -> None:
    plain, cut = Demand(9000, 10), Demand(9000, 10, cuts=(4096, 8192))
    still = replace(SLIDING, passes=Passes())
    assert peak(still, [cut]) - peak(still, [plain]) == 2 * SLIDING.state(4096)


def test_kept_prefixes_never_count_beyond_their_limit() -> None:
    one = [Demand(2000, 600)]
    assert peak(DENSE, one, 10**9, 10**9) - peak(DENSE, one, 10**8, 10**8) == 9 * 10**8


def test_what_is_cached_is_not_read_again() -> None:
    assert peak(DENSE, [Demand(2000, 1, 1990)]) < peak(DENSE, [Demand(2000, 1)]) / 2


demands = st.builds(
    lambda prompt, reply, read: Demand(prompt, reply, min(read, prompt)),
    st.integers(1, 20_000),
    st.integers(0, 2000),
    st.integers(0, 20_000),
)


@given(st.lists(demands, max_size=5), demands)
def test_another_stream_never_takes_less(streams: list[Demand], one: Demand) -> None:
    assert peak(DENSE, [*streams, one]) >= peak(DENSE, streams)


small = st.integers(0, 10**8)


@given(st.lists(demands, max_size=4), demands, small, small, st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_verdict_keeps_to_the_budget(
    running: list[Demand], new: Demand, kept: int, kept_limit: int, budget: int, more: int
) -> None:
    weights, kept = 10**6, min(kept, kept_limit)
    verdict = admit(DENSE, new, running, weights, kept, kept_limit, budget, budget + more)
    streams = [*running, new]
    claim = weights + peak(DENSE, streams, 0, 0)
    match verdict:
        case Verdict(act="begin", keep=True):
            assert weights + peak(DENSE, streams, kept, kept_limit) <= budget and verdict.evict == 0
        case Verdict(act="begin"):
            assert claim + kept - verdict.evict <= budget and 0 <= verdict.evict <= kept
        case Verdict(act="wait"):
            assert running and claim > budget >= verdict.need
        case Verdict(act="refuse"):
            assert claim > budget and verdict.need <= budget + more
        case Verdict(act="never"):
            assert verdict.need > budget + more


def test_a_request_that_can_never_fit_is_told_how_much_could() -> None:
    ceiling = 50_000_000
    most = longest_prompt(DENSE, 0, ceiling, 100_000)
    assert peak(DENSE, [Demand(most, 1024)], 0, 0) <= ceiling < peak(DENSE, [Demand(most + 300, 1024)], 0, 0)
    assert longest_prompt(DENSE, 10**9, ceiling, 100_000) == 0


def test_a_pass_is_predicted_from_those_seen() -> None:
    """A token of the passes costs 5,000 bytes here, a pair 20, and a layer of the row before is copied, with
    the room that is in it."""
    costs = Costs(per_token=1000, layer_token=250)

    def truly(tokens: int, context: int) -> int:
        return 5000 * tokens + 20 * tokens * context + 250 * (-(-(context - tokens) // 256) * 256)

    for tokens, context in ((128, 128), (384, 512), (1024, 1536)):
        costs = costs.seen(tokens, context, truly(tokens, context))
    assert costs.transient(700, 9000) == pytest.approx(truly(700, 9000), rel=0.01)


def test_predictions_follow_what_is_measured_later() -> None:
    costs = Costs(0).seen(128, 128, 10**6).seen(384, 512, 4 * 10**6)
    for context in range(1000, 60_000, 500):
        costs = costs.seen(500, context, 500 * (8000 + 3 * context))
    assert costs.transient(300, 30_000) == pytest.approx(300 * 98_000, rel=0.05)


@given(st.lists(st.tuples(st.integers(1, 2048), st.integers(0, 10**5), st.integers(1, 10**9)), min_size=1, max_size=50))
def test_no_pass_is_ever_predicted_to_give_memory_back(seen: list[tuple[int, int, int]]) -> None:
    costs = Costs(0)
    for tokens, before, taken in seen:
        costs = costs.seen(tokens, before + tokens, taken)
    assert costs.transient(1000, 1000) >= 0 and costs.transient(32, 10**6) >= 0
    assert costs.chunk(0) >= 32


def test_one_odd_pass_is_not_believed_above_all_others() -> None:
    costs = Costs(0).seen(128, 128, 10**6).seen(384, 512, 4 * 10**6)
    for context in range(1000, 20_000, 500):
        costs = costs.seen(500, context, 500 * (8000 + 3 * context))
    assert costs.seen(256, 10_000, 1).transient(300, 10_000) > 0.7 * costs.transient(300, 10_000)


def test_only_a_pass_for_which_caches_grow_copies_them() -> None:
    costs = Costs(0, layer_token=1000).seen(256, 512, 10**6 + 256_000)
    assert costs.seen(256, 512, 10**6, grew=False).transient(256, 512) == pytest.approx(10**6 + 256_000, rel=0.01)
