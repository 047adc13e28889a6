"""Formats of KV caches: what each computes, how near it is to the plain one, and that none is taken for another."""

from itertools import combinations
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import base
from mlx_lm.models.cache import KVCache, QuantizedKVCache

from sidecar.engine.cache.disk_store import Disk, fingerprint
from sidecar.engine.cache.kv_format import KvFormat, QuantisedRow
from sidecar.engine.cache.kv_layout import Cache, Layout
from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.model import Model, load
from sidecar.shared.config import KV_BITS
from tests.bench import perplexity
from tests.support.models import make_tiny

PROMPT = [(7 * index * index + 3 * index) % 300 + 10 for index in range(200)]
PIECES = (90, 70, 40)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two heads of keys for four of queries."""
    shape = {"model_type": "llama", "hidden_size": 64, "head_dim": 64, "num_key_value_heads": 2}
    return load(make_tiny(tmp_path_factory.mktemp("kv"), **shape), 1 << 33)


def read(model: Model, cache: Cache, tokens: list[int], *sizes: int) -> mx.array:
    """Logits after each token, read in pieces of these sizes."""
    parts, at = list[mx.array](), 0
    for size in sizes or (len(tokens),):
        parts.append(model.weights(mx.array([tokens[at : at + size]]), cache=cache)[0])
        mx.eval(parts[-1], [layer.state for layer in cache])
        at += size
    return mx.concatenate(parts)


def divergence(plain: mx.array, other: mx.array) -> float:
    one, two = (logits - mx.logsumexp(logits, axis=-1, keepdims=True) for logits in (plain, other))
    return float(mx.mean(mx.sum(mx.exp(one) * (one - two), axis=-1)).item())  # type: ignore[arg-type]


def test_each_format_is_nearer_to_the_plain_one_than_the_next_and_8_bits_say_the_same(model: Model) -> None:
    logits = {bits: read(model, KvFormat(bits).new_cache(model.weights), PROMPT, *PIECES) for bits in KV_BITS}
    away = [divergence(logits["16"], each) for each in logits.values()]
    assert away == sorted(away) and away[1] < 1e-4 < 5e-4 < away[-1]
    words = {bits: mx.argmax(each, axis=-1) for bits, each in logits.items()}
    assert mx.mean(words["8"] == words["16"]).item() > 0.95


@pytest.mark.parametrize("bits", ["8", "8/4", "4"])
def test_smaller_groups_are_nearer_to_the_plain_caches(model: Model, bits: str) -> None:
    plain = read(model, model.new_cache(), PROMPT)
    small, large = (
        divergence(plain, read(model, KvFormat(bits, group).new_cache(model.weights), PROMPT)) for group in (32, 64)
    )
    assert small < large


MASKS: list[Any] = [
    None,
    "causal",
    mx.arange(4)[:, None] + 5 >= mx.arange(9),
    mx.where(mx.arange(9) > 2, 0.0, -9.0),
    mx.broadcast_to(mx.arange(9) > 2, (2, 1, 4, 9)),
]


def halves(cache: Any, keys: mx.array, values: mx.array) -> Any:
    """Written in two parts, as they come back."""
    cache.update_and_fetch(keys[:, :, :3], values[:, :, :3])
    return cache.update_and_fetch(keys[:, :, 3:], values[:, :, 3:])


@pytest.mark.parametrize("mask", MASKS, ids=["none", "causal", "seen", "added", "rows"])
@pytest.mark.parametrize("heads", [2, 6])
def test_the_attention_to_keys_and_values_of_two_widths_is_mlx_lms(mask: Any, heads: int) -> None:
    """Held against its own for one width, and for two against the plain one of what the quantised caches hold."""
    mx.random.seed(3)
    queries, keys, values = (mx.random.normal((2, count, size, 64)) for count, size in ((heads, 4), (2, 9), (2, 9)))
    same, mixed = QuantizedKVCache(32, 8), QuantisedRow(32, (8, 8))
    ours, theirs = (
        base.scaled_dot_product_attention(queries, *halves(cache, keys, values), cache, 0.125, mask)
        for cache in (mixed, same)
    )
    assert mx.allclose(ours, theirs, atol=1e-5)
    cache = QuantisedRow(32, (8, 4))
    packed = halves(cache, keys, values)
    loose = [mx.dequantize(*half, group_size=32, bits=bits) for half, bits in zip(packed, (8, 4), strict=True)]
    assert mx.abs(loose[0] - keys).max() < 0.02 < mx.abs(loose[1] - values).max() < 0.4
    ours = base.scaled_dot_product_attention(queries, *packed, cache, 0.125, mask)
    assert mx.allclose(ours, base.scaled_dot_product_attention(queries, *loose, KVCache(), 0.125, mask), atol=1e-5)


def test_rows_that_share_a_batch_come_out_of_it_as_they_would_be_alone() -> None:
    mx.random.seed(4)

    def row(length: int) -> QuantisedRow:
        made = QuantisedRow(32, (8, 4))
        made.update_and_fetch(*mx.random.normal((2, 1, 2, length, 64)))
        return made

    rows, new = [row(length) for length in (5, 300, 40)], mx.random.normal((2, 3, 2, 1, 64))
    batch = QuantisedRow.merge(rows[:2])
    batch.extend(QuantisedRow.merge(rows[2:]))
    assert (batch.size(), batch.offset.tolist(), batch.left_padding.tolist()) == (300, [5, 300, 40], [295, 0, 260])
    batch.update_and_fetch(*new)
    batch.filter([0, 2])
    assert (batch.size(), batch.left_padding.tolist()) == (41, [35, 0])
    for place, index in enumerate((0, 2)):
        expected = rows[index].update_and_fetch(*new[:, index : index + 1])
        found = batch.extract(place)
        assert found.offset == rows[index].offset
        for one, other in zip(tree_flatten(expected), tree_flatten(found.keys_and_values()), strict=True):
            assert mx.array_equal(one[1], other[1])


@pytest.mark.parametrize("bits", list(KV_BITS)[1:])
def test_what_is_cut_back_and_read_again_is_what_it_was(model: Model, bits: str) -> None:
    cache = KvFormat(bits).new_cache(model.weights)
    whole = read(model, cache, PROMPT, *PIECES)
    for layer in cache:
        assert layer.trim(70) == 70
    again = read(model, cache, PROMPT[130:])
    assert mx.allclose(again, whole[130:], atol=1e-3)


@pytest.mark.parametrize("bits", list(KV_BITS)[1:])
def test_a_row_that_comes_from_disk_goes_on_to_the_bit_as_before(model: Model, bits: str, tmp_path: Path) -> None:
    kind = KvFormat(bits)

    def new() -> Cache:
        return kind.new_cache(model.weights)

    sign = fingerprint(Path(model.tokenizer.name_or_path), Layout(new).name)
    prefixes, cache = PrefixCache(1 << 30, new, Disk(tmp_path / "m", sign, 1 << 30)), new()
    read(model, cache, PROMPT)
    prefixes.add(PROMPT, cache)
    while prefixes.unwritten:
        prefixes.write()
    assert prefixes.nbytes == sum(layer.nbytes for layer in cache) * len(PROMPT) // 256
    later = PrefixCache(1 << 30, new, Disk(tmp_path / "m", sign, 1 << 30))
    found = later.find([*PROMPT[:150], 5, 6])
    assert (found.length, found.from_disk) == (150, 150) and found.cache
    for layer in cache:
        layer.trim(50)
    mine, kept = (read(model, each, [5, 6, 7]) for each in (cache, found.cache))
    assert mx.array_equal(mine, kept)


def test_no_two_formats_share_a_folder_and_none_reads_the_others_files(model: Model, tmp_path: Path) -> None:
    formats = [KvFormat(bits, group) for bits in KV_BITS for group in (32, 64) if bits != "16" or group == 32]
    rows = [KvFormat.new_cache(each, model.weights) for each in formats]
    layouts = [Layout(lambda each=each: each.new_cache(model.weights)) for each in formats]  # type: ignore[misc]
    folder = Path(model.tokenizer.name_or_path)
    assert len({fingerprint(folder, layout.name) for layout in layouts}) == len(formats)
    for cache, layout in zip(rows, layouts, strict=True):
        read(model, cache, PROMPT[:9])
        assert [other.fits(cache, 9) for other in layouts] == [other is layout for other in layouts]
    for one, other in combinations(range(len(formats)), 2):
        signs = [fingerprint(folder, layouts[index].name) for index in (one, other)]
        written = PrefixCache(1 << 30, layouts[one]._new_cache, Disk(tmp_path / f"{one}-{other}", signs[0], 1 << 30))
        written.add(PROMPT[:9], rows[one])
        written.write()
        assert len(list((tmp_path / f"{one}-{other}").glob("*.safetensors"))) == 1
        assert not Disk(tmp_path / f"{one}-{other}", signs[1], 1 << 30).scan(0.0)


def test_the_bench_of_formats_counts_each_token_that_comes_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "PIECE", 30)
    found = perplexity.read(model.weights, PROMPT[:101])
    logits = read(model, model.new_cache(), PROMPT[:100])
    chances = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    surprise = -sum(chances[index, PROMPT[index + 1]].item() for index in range(100))  # type: ignore[misc]
    assert found["16"] == pytest.approx((100, surprise, 0.0, 0), rel=1e-4)
    assert all(each.tokens == 100 and each.divergence > 0 for name, each in found.items() if name != "16")
    first, _, sixteen, *_ = perplexity.table({"a": found, "b": found}).splitlines()
    assert first == "200 tokens of 2 texts" and sixteen.split()[:2] == ["16", "16.00"]
