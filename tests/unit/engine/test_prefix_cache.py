"""Kept prefixes: shared, found at the right length, counted to the byte, forgotten in order.

The rows are mlx-lm's own caches, whose keys and values at each token are made of all tokens up to it: a row that was
put together wrongly is another one.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.cache import ArraysCache, BatchKVCache, CacheList, KVCache, RotatingKVCache

from sidecar.conversation import Priority
from sidecar.engine.cache.kv_format import QuantisedRow
from sidecar.engine.cache.kv_layout import Cache
from sidecar.engine.cache.prefix_cache import LEAD, PrefixCache

LOTS = 1 << 30
WINDOW = 8
NewCache = Callable[[], Cache]


def full() -> Cache:
    return [KVCache(), KVCache()]


def quantised() -> Cache:
    return [QuantisedRow(32, (8, 4)), KVCache()]


def sliding() -> Cache:
    return [RotatingKVCache(WINDOW), KVCache()]


def nested() -> Cache:
    return [CacheList(KVCache(), ArraysCache(2)), CacheList(KVCache(), KVCache())]


def recurrent() -> Cache:
    return [ArraysCache(2), RotatingKVCache(WINDOW)]


KINDS: list[NewCache] = [full, quantised, sliding, nested, recurrent]


def leaves(cache: Cache) -> list[Any]:
    return [leaf for layer in cache for leaf in (leaves(layer.caches) if isinstance(layer, CacheList) else [layer])]


def values(tokens: Sequence[int]) -> mx.array:
    """[1, 2, tokens, 32], each of all tokens up to it."""
    sums = [*accumulate(tokens, lambda sum_, token: (sum_ * 31 + token + 1) % 997)]
    return mx.broadcast_to(mx.array(sums, mx.float32)[None, None, :, None], (1, 2, len(sums), 32)) + 0


def read(cache: Cache, tokens: Sequence[int], start: int = 0) -> Cache:
    """What a model does with its caches when it reads tokens[start:]."""
    for leaf in leaves(cache):
        new = values(tokens)[:, :, start:]
        if isinstance(leaf, ArraysCache):
            leaf[0], leaf[1] = new[:, :, -1] + 0, None
        else:
            leaf.update_and_fetch(new, new + 1)
    mx.eval([leaf.state for leaf in leaves(cache)])
    return cache


def row(kind: NewCache, tokens: Sequence[int]) -> Cache:
    return read(kind(), tokens)


def held(cache: Cache) -> list[Any]:
    """What the next token would look at."""
    seen: list[Any] = []
    for leaf in leaves(cache):
        if isinstance(leaf, ArraysCache):
            seen.append(np.asarray(leaf[0]).tolist())
        elif isinstance(leaf, QuantisedRow):
            seen += [np.asarray(each).tolist() for half in leaf.keys_and_values() for each in half]
        elif isinstance(leaf, RotatingKVCache):
            seen += [
                np.asarray(leaf._temporal_order(each))[:, :, -WINDOW:].tolist() for each in (leaf.keys, leaf.values)
            ]
        else:
            seen += [np.asarray(each).tolist() for each in leaf.keys_and_values()]
    return seen


def common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


tokens = st.lists(st.integers(0, 1), min_size=2, max_size=14)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(said=st.lists(tokens, min_size=1, max_size=8), asked=st.lists(tokens, max_size=5))
def test_the_longest_known_beginning_is_found_and_is_right(
    kind: NewCache, said: list[list[int]], asked: list[list[int]]
) -> None:
    prefixes = PrefixCache(LOTS, kind, block=4)
    for conversation in said:
        prefixes.add(conversation, row(kind, conversation))
    for wanted in [*asked, *said, *([*each, 1, 0] for each in said)]:
        shared = [common(each, wanted[:-1]) for each in said]
        if not prefixes.cuts:
            shared = [length for each, length in zip(said, shared, strict=True) if length == len(each)]
        expected = max(shared, default=0)
        assert prefixes.match(wanted) == expected
        found = prefixes.find(wanted)
        assert found.length == expected
        assert (found.cache is None) == (not expected)
        if found.cache:
            assert held(found.cache) == held(row(kind, wanted[:expected]))
            assert held(read(found.cache, wanted, expected)) == held(row(kind, wanted))
    # Whoever found them has written to their rows, and what is kept is as it was.
    for conversation in said:
        again = prefixes.find([*conversation, 0])
        assert again.cache and held(again.cache) == held(row(kind, conversation))


@pytest.mark.parametrize("kind", [full, quantised])
@settings(max_examples=12)
@given(said=st.lists(tokens, min_size=1, max_size=8))
def test_what_conversations_share_is_kept_once(kind: NewCache, said: list[list[int]]) -> None:
    prefixes = PrefixCache(LOTS, kind, block=4)
    for conversation in said:
        prefixes.add(conversation, row(kind, conversation))
    one = PrefixCache(LOTS, kind)
    one.add([0], row(kind, [0]))
    beginnings = {tuple(conversation[:length]) for conversation in said for length in range(1, len(conversation) + 1)}
    assert prefixes.nbytes == len(beginnings) * one.nbytes


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(steps=st.lists(st.tuples(tokens, st.integers(0, 40), st.sampled_from(Priority)), max_size=8))
def test_the_budget_holds_at_every_moment(kind: NewCache, steps: list[tuple[list[int], int, Priority]]) -> None:
    prefixes = PrefixCache(6000, kind, block=4)
    for conversation, budget, priority in steps:
        prefixes.add(conversation, row(kind, conversation), priority)
        assert 0 <= prefixes.nbytes <= 6000
        prefixes.shed(budget * 200)
        assert prefixes.nbytes <= budget * 200
        found = prefixes.find([*conversation, 0], priority)
        if found.cache:
            assert held(found.cache) == held(row(kind, conversation[: found.length]))
    prefixes.shed(0)
    assert (prefixes.nbytes, prefixes.nodes) == (0, 0)
    assert all(prefixes.match([*conversation, 0]) == 0 for conversation, _, _ in steps)


def test_a_finished_turn_costs_what_is_new_in_it() -> None:
    prefixes = PrefixCache(LOTS, full)
    first = list(range(1000))
    prefixes.add(first, row(full, first))
    per_token = prefixes.nbytes // 1000
    assert prefixes.nbytes == 1000 * per_token
    for end in range(50):
        prefixes.add([*first, 2000 + end, 7], row(full, [*first, 2000 + end, 7]))
    assert prefixes.nbytes == 1100 * per_token


def test_the_least_recently_used_goes_first_and_a_side_request_before_a_conversation() -> None:
    main, aside, newer = [1, 2, 3], [4, 5, 6], [7, 8, 9]
    prefixes = PrefixCache(LOTS, full)
    prefixes.add(main, row(full, main))
    prefixes.add(aside, row(full, aside), Priority.SIDE)
    prefixes.add(newer, row(full, newer), Priority.SIDE)
    each = prefixes.nbytes // 3
    prefixes.shed(2 * each)
    assert [prefixes.match([*tokens, 0]) for tokens in (main, aside, newer)] == [3, 0, 3]
    prefixes.shed(each)
    assert [prefixes.match([*tokens, 0]) for tokens in (main, aside, newer)] == [3, 0, 0]


def test_a_conversation_that_is_over_does_not_stay_for_ever() -> None:
    main, aside = [1, 2, 3], [4, 5, 6]
    prefixes = PrefixCache(LOTS, full)
    prefixes.add(main, row(full, main))
    prefixes.add(aside, row(full, aside), Priority.SIDE)
    for _ in range(LEAD[Priority.MAIN]):
        prefixes.find([*aside, 0], Priority.SIDE)
    prefixes.shed(prefixes.nbytes // 2)
    assert [prefixes.match([*tokens, 0]) for tokens in (main, aside)] == [0, 3]


def test_of_what_does_not_fit_the_beginning_is_kept() -> None:
    tokens = list(range(1000))
    prefixes = PrefixCache(LOTS, full)
    prefixes.add([1], row(full, [1]))
    small = PrefixCache(600 * prefixes.nbytes, full)
    small.add(tokens, row(full, tokens))
    assert small.match([*tokens, 0]) == 512


def test_a_row_taken_out_of_a_batch_pins_nothing_of_it() -> None:
    long, short = [5] * 3000, [6] * 100
    batch = BatchKVCache.merge([row(full, long)[0], row(full, short)[0]])
    mx.eval(batch.state)
    prefixes = PrefixCache(LOTS, lambda: [KVCache()])
    before = mx.get_active_memory()
    prefixes.add(short, [batch.extract(1)], last=True)
    assert prefixes.nbytes == 100 * 2 * 2 * 32 * 4
    assert mx.get_active_memory() - before <= prefixes.nbytes + 4096
    size = batch.nbytes
    del batch
    mx.clear_cache()
    assert mx.get_active_memory() <= before - size + prefixes.nbytes + 8192


def test_a_row_that_holds_other_tokens_than_it_should_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    prefixes = PrefixCache(LOTS, full)
    for _ in range(2):
        prefixes.add([1, 2, 3], row(full, [1, 2]))
    assert prefixes.nbytes == 0
    assert len(caplog.records) == 1
