"""Decoding on real architectures: whoever joins or leaves, each row gets the tokens that mlx-lm gives it alone."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models.cache import BatchKVCache, ChunkedKVCache, KVCache

from sidecar.conversation import Conversation, Message, Sampling, Text, Tool
from sidecar.engine.batching.prompt_lookup import Lookup, Speculation
from sidecar.engine.cache.kv_format import KvFormat, kv_format
from sidecar.engine.calibration import batching_fault
from sidecar.engine.model import Model, load
from sidecar.engine.scheduling.decoder import Decoder, Sampled
from sidecar.engine.scheduling.stream import Stream, prepare
from sidecar.frames import Generate
from tests.conftest import DEMO
from tests.support.models import ARCHITECTURES, make_tiny

WORDS = ["hello", "the quick brown fox reads a file " * 12, "what is this", "one command " * 30]
STATE_SPACE = {
    "model_type": "mamba",
    "intermediate_size": 128,
    "state_size": 8,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 8,
}
SHAPES: dict[str, dict[str, Any]] = {
    "dense": {"hidden_size": 128},
    "sliding": {**ARCHITECTURES["sliding"], "sliding_window": 64, "hidden_size": 64, "head_dim": 32},
    "recurrent": STATE_SPACE,
}


@pytest.fixture(scope="module", params=[*SHAPES, "demo"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = DEMO if request.param == "demo" else make_tiny(tmp_path_factory.mktemp("m"), **SHAPES[request.param])
    return load(path, 1 << 33)


@pytest.fixture(scope="module")
def dense(tiny: Path) -> Model:
    return load(tiny, 1 << 33)


def begin(model: Model, words: str, max_tokens: int = 24, **how: Any) -> Stream:
    tools = how.pop("tools", ())
    conversation = Conversation("", (Message("user", (Text(words),)),), tools)
    return prepare(model, Generate(1, conversation, Sampling(0.0), max_tokens, **how), 4096)


def read(model: Model, stream: Stream) -> Any:
    """The cache of all its tokens but the last."""
    return read_but(model, stream, 0)


def read_but(model: Model, stream: Stream, few: int) -> Any:
    """The cache of all its tokens but a few and the last."""
    cache = model.new_cache()
    stream.read = stream.prompt_length - 1 - few
    model.weights(mx.array([stream.tokens[: stream.read]]), cache=cache)
    mx.eval([layer.state for layer in cache])
    return cache


def alone(model: Model, stream: Stream) -> list[int]:
    """What mlx-lm's own loop says, up to the end token."""
    tokens = list[int]()
    prompt = mx.array(stream.tokens)
    for token, _ in generate_step(prompt, model.weights, max_tokens=stream.max_tokens, prompt_cache=model.new_cache()):
        tokens.append(int(token))
        if token in model.tokenizer.eos_token_ids:
            break
    return tokens


def run(decoder: Decoder, until: Callable[[], bool] = lambda: False) -> dict[Stream, list[int]]:
    """Step until all have ended; what each stream got."""
    got = dict[Stream, list[int]]()
    while len(decoder) and not until():
        for stream, tokens, _, _ in decoder.step():
            got.setdefault(stream, []).extend(tokens)
    return got


def joined_late(decoder: Decoder, model: Model, streams: list[Stream], apart: int = 3) -> list[list[int]]:
    """Each begins a few tokens after the one before it."""
    got: dict[Stream, list[int]] = {stream: [] for stream in streams}
    for stream in streams:
        decoder.insert(stream, read(model, stream))
        for _ in range(apart):
            for each, tokens, _, _ in decoder.step():
                got[each] += tokens
    for stream, tokens in run(decoder).items():
        got[stream] += tokens
    return list(got.values())


@pytest.mark.parametrize("pass_tokens", [150.0, 1e9])
def test_rows_that_come_and_go_get_the_tokens_that_they_get_alone(model: Model, pass_tokens: float) -> None:
    """By length, and all in one: answers differ in length, so the last one is alone again."""
    model = replace(model, pass_tokens=pass_tokens)
    streams = [begin(model, words, 24 - 5 * index) for index, words in enumerate(WORDS)]
    expected = [alone(model, stream) for stream in streams]
    assert joined_late(Decoder(model), model, streams) == expected


def test_a_stream_alone_gets_the_tokens_of_mlx_lms_loop(model: Model) -> None:
    stream = begin(model, WORDS[1], 24)
    expected, decoder = alone(model, stream), Decoder(model)
    decoder.insert(stream, read(model, stream))
    assert run(decoder) == {stream: expected}


def test_the_first_pass_reads_what_is_left_of_the_prompt(model: Model) -> None:
    stream = begin(model, WORDS[1], 24)
    expected, decoder = alone(model, stream), Decoder(model)
    decoder.insert(stream, read_but(model, stream, 7))
    assert run(decoder) == {stream: expected}
    assert stream.prompt_length > 8


def test_all_architectures_here_agree_in_a_batch(model: Model) -> None:
    assert model.one_by_one == ""


def test_similar_lengths_share_a_pass_and_regroup_as_streams_end(dense: Model) -> None:
    model = replace(dense, pass_tokens=100.0)
    decoder = Decoder(model)
    for words, tokens in ((WORDS[1], 30), (WORDS[0], 12), (WORDS[2], 30)):
        decoder.insert(stream := begin(model, words, tokens), read(model, stream))
    assert sorted(decoder.groups) == [1, 2]
    run(decoder, until=lambda: len(decoder) < 3)
    assert sorted(decoder.groups) == [1, 1]


def test_a_row_taken_out_keeps_exactly_what_it_has_read(dense: Model) -> None:
    """Its cache goes on as if it had always been alone."""
    decoder, streams = Decoder(dense), [begin(dense, words, 40) for words in WORDS[:3]]
    expected = alone(dense, streams[1])
    for stream in streams:
        decoder.insert(stream, read(dense, stream))
    got = run(decoder, until=lambda: len(got_tokens(decoder, streams[1])) >= 10)
    tokens, cache = decoder.remove(streams[1])
    assert tokens == streams[1].tokens + got[streams[1]] and cache[0].offset == len(tokens)
    prompt = mx.array(tokens[-1:])
    for layer in cache:
        layer.trim(1)
    rest = [int(token) for token, _ in generate_step(prompt, dense.weights, max_tokens=30, prompt_cache=cache)]
    assert got[streams[1]] + rest == expected
    assert set(run(decoder)) == {streams[0], streams[2]}


def got_tokens(decoder: Decoder, stream: Stream) -> list[int]:
    [row] = [row for row, each in decoder._streams.items() if each is stream]
    return row.tokens[stream.prompt_length :]


SCHEMA = {"type": "object", "properties": {"size": {"type": "string", "maxLength": 40}}, "required": ["size"]}
TOOL = Tool("set", "", SCHEMA)


def test_a_call_under_way_stays_valid_when_a_second_stream_begins_and_ends(dense: Model) -> None:
    """The row moves into a batch and out again: its grammar sees each token once, in order."""
    how: dict[str, Any] = {"tools": (TOOL,), "forced": ("set",), "parallel": False}
    decoder, stream = Decoder(dense), begin(dense, "go", 80, **how)
    decoder.insert(stream, read(dense, stream))
    expected = run(decoder)[stream]
    caller, other = begin(dense, "go", 80, **how), begin(dense, WORDS[1], 12)
    assert joined_late(Decoder(dense), dense, [caller, other], apart=9)[0] == expected
    assert len(expected) > 25


# Quantised caches


@pytest.fixture(scope="module", params=["8", "8/4", "4"])
def quantised(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Heads of 96, as Phi-3 has them."""
    path = make_tiny(tmp_path_factory.mktemp("q"), hidden_size=192, num_attention_heads=2, num_key_value_heads=2)
    return load(path, 1 << 33, kv_bits=request.param)


@pytest.mark.parametrize("quantised", ["8/4"], indirect=True)
def test_keys_and_values_of_two_widths_are_quantised_with_each_its_own(quantised: Model) -> None:
    [first, *_] = cache = quantised.new_cache()
    quantised.weights(mx.zeros((1, 5), dtype=mx.int32), cache=cache)
    bits = [32 * half[0].shape[-1] // 96 for half in (first.keys, first.values)]
    assert bits == [8, 4]


@pytest.mark.parametrize("pass_tokens", [pytest.param(150.0, marks=pytest.mark.full), 1e9])
def test_quantised_streams_share_passes_and_get_the_tokens_of_mlx_lms_loop(
    quantised: Model, pass_tokens: float
) -> None:
    assert quantised.kv.group == 32 and not quantised.one_by_one
    streams = [begin(quantised, words, 24 - 5 * index) for index, words in enumerate(WORDS)]
    expected = [alone(quantised, stream) for stream in streams]
    decoder = Decoder(replace(quantised, pass_tokens=pass_tokens))
    shared = list[int]()
    advance = decoder.step
    decoder.step = lambda: (shared.append(max(decoder.groups)), advance())[1]  # type: ignore[method-assign]
    assert joined_late(decoder, quantised, streams) == expected
    assert max(shared) > 1 and (pass_tokens < 1e9 or max(shared) == len(streams))


def test_quantised_caches_take_as_much_as_was_predicted_when_the_window_was_chosen(quantised: Model) -> None:
    from sidecar.models.resolve import inspect
    from sidecar.models.sizing import kv_bytes

    files = inspect(Path(quantised.tokenizer.name_or_path))
    assert quantised.costs.per_token == kv_bytes(files, quantised.kv.bits) < files.bytes_per_token / 3
    cache = quantised.new_cache()
    quantised.weights(mx.zeros((1, 300), dtype=mx.int32), cache=cache)
    assert sum(layer.nbytes for layer in cache) == 512 * quantised.costs.per_token


@pytest.mark.parametrize("quantised", ["8", "4"], indirect=True)  # its loop has one width for both
def test_a_row_whose_cache_is_quantised_later_goes_on_like_mlx_lms_kv_bits(quantised: Model) -> None:
    """Its loop reads the prompt first and converts then."""
    kv, stream, tokens = quantised.kv, begin(quantised, WORDS[1], 20), list[int]()
    bits = int(kv.bits)
    how = {"kv_bits": bits, "kv_group_size": kv.group, "quantized_kv_start": 0, "max_tokens": 20}
    expected = [int(token) for token, _ in generate_step(mx.array(stream.tokens), quantised.weights, **how)]
    plain, decoder = KvFormat().new_cache(quantised.weights), Decoder(quantised)
    quantised.weights(mx.array([stream.tokens[:-1]]), cache=plain)
    stream.read = stream.prompt_length - 1
    decoder.insert(stream, [layer.to_quantized(kv.group, bits) for layer in plain])
    tokens = run(decoder)[stream]
    assert tokens == expected[: len(tokens)]


def test_caches_that_cannot_be_quantised_are_left_as_they_are(model: Model) -> None:
    assert (kv_format(model.weights, "8").bits == "8") == all(type(layer) is KVCache for layer in model.new_cache())


# Speculation


class Oracle:
    """Guesses what is right, except for every fifth token."""

    answer: ClassVar[list[int]] = []
    asked = 0

    def __init__(self, tokens: list[int]) -> None:
        self._tokens, self._prompt = tokens, len(tokens)

    def guess(self, most: int) -> list[int]:
        Oracle.asked += 1
        done = len(self._tokens) - self._prompt
        coming = self.answer[done : done + most]
        return [token if (done + index) % 5 else token + 1 for index, token in enumerate(coming)]


@pytest.fixture
def guessing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Always six tokens, right or wrong, whether it pays or not."""
    monkeypatch.setattr(Speculation, "length", lambda self: 6)
    monkeypatch.setattr("sidecar.engine.scheduling.decoder.Lookup", Oracle)
    yield


def guessed(decoder: Decoder, model: Model, stream: Stream, cache: Any = None) -> tuple[list[int], list[int]]:
    """Tokens, and how many came in each step. The oracle is asked from the second token on."""
    decoder.insert(stream, cache or read(model, stream))
    steps = list[Sampled]()
    while len(decoder):
        steps += decoder.step()
    return [token for step in steps for token in step.tokens], [len(step.tokens) for step in steps]


@pytest.mark.parametrize("kv", [KvFormat(), KvFormat("8/4")])
@pytest.mark.parametrize("how", [{}, {"tools": (TOOL,), "forced": ("set",), "parallel": False}])
def test_guesses_never_change_a_greedy_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kv: KvFormat, how: dict[str, Any]
) -> None:
    model = load(make_tiny(tmp_path, hidden_size=128), 1 << 33, kv.bits)
    plain = begin(model, WORDS[1], 60, **how)
    with monkeypatch.context() as patch:
        patch.setattr(Speculation, "length", lambda self: 0)
        expected, _ = guessed(Decoder(model), model, plain)
    monkeypatch.setattr(Speculation, "length", lambda self: 6)
    monkeypatch.setattr("sidecar.engine.scheduling.decoder.Lookup", Oracle)
    Oracle.answer = expected
    tokens, sizes = guessed(Decoder(model), model, begin(model, WORDS[1], 60, **how))
    assert tokens == expected
    assert max(sizes) > 2 and len(sizes) < len(tokens)


def test_a_stream_that_guessed_moves_into_a_batch_as_it_is(dense: Model, guessing: None) -> None:
    first, second = begin(dense, WORDS[1], 50), begin(dense, WORDS[0], 20)
    expected = [alone(dense, first), alone(dense, second)]
    Oracle.answer = expected[0]
    assert joined_late(Decoder(dense), dense, [first, second]) == expected


def test_guesses_leave_the_distribution_of_samples_as_it_is(dense: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second token's, given the first: with a guess that is right half of the time, and without any."""
    stream = begin(dense, WORDS[2], 3)
    few = (mx.arange(dense.vocabulary) // 12) == 25  # 300 to 311
    stream.sampler = lambda logits: mx.random.categorical(mx.where(few, 0.4 * logits, -mx.inf))
    mx.random.seed(1)
    counts, cache = list[dict[int, int]](), read(dense, stream)
    for guesses in (False, True):
        monkeypatch.setattr(Speculation, "length", lambda self, on=guesses: 3 if on else 0)
        monkeypatch.setattr(Lookup, "guess", lambda self, most: [301, 303, 307])
        counts.append({})
        for _ in range(120):
            tokens, _ = guessed(Decoder(dense), dense, stream, deepcopy(cache))
            counts[-1][tokens[1]] = counts[-1].get(tokens[1], 0) + 1
    distance = sum(abs(counts[0].get(token, 0) - counts[1].get(token, 0)) for token in range(300, 312)) / 240
    assert distance < 0.3  # two such samples of one distribution: 0.16 on average; guesses taken blindly: above 0.5


def test_rows_whose_caches_cannot_be_trimmed_do_not_guess(model: Model, guessing: None) -> None:
    Oracle.asked = 0
    stream = begin(model, WORDS[0], 8)
    Oracle.answer = alone(model, stream)
    assert guessed(Decoder(model), model, stream)[0] == Oracle.answer
    plain = all(type(layer) is KVCache for layer in model.new_cache())
    assert bool(Oracle.asked) == plain


# The self-check


def fault(model: Model) -> str:
    return batching_fault(model.weights, model.new_cache, model.vocabulary)


def test_an_architecture_that_attends_to_its_padding_is_found_out(
    dense: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = BatchKVCache.make_mask
    monkeypatch.setattr(BatchKVCache, "make_mask", lambda self, N, **how: "causal" if N > 1 else None)
    assert "rows differ" in fault(dense)
    monkeypatch.setattr(BatchKVCache, "make_mask", whole)
    assert fault(dense) == ""


def test_an_architecture_that_shifts_its_positions_is_found_out(dense: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    merge = BatchKVCache.merge.__func__  # type: ignore[attr-defined]

    def wrong(cls: Any, caches: list[Any]) -> Any:
        merged = merge(cls, caches)
        merged.offset = merged.offset + 5
        return merged

    monkeypatch.setattr(BatchKVCache, "merge", classmethod(wrong))
    assert "rows differ" in fault(dense)


def test_a_model_that_cannot_be_batched_at_all_is_served_one_by_one(
    tiny: Path, dense: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert "ChunkedKVCache" in batching_fault(dense.weights, lambda: [ChunkedKVCache(64)], 512)

    def broken(caches: list[Any]) -> Any:
        raise ValueError("no such thing")

    monkeypatch.setattr(KVCache, "merge", staticmethod(broken))
    model = load(tiny, 1 << 33)
    assert "ValueError: no such thing" in model.one_by_one and model.one_by_one in caplog.text
    streams = [begin(model, words, 20) for words in WORDS[:3]]
    assert joined_late(Decoder(model), model, streams) == [alone(model, stream) for stream in streams]
