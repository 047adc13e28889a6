"""What requests take of memory, and which may begin."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.memory_costs import Costs, Demand, Passes, Verdict, admit, longest_prompt, peak

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
