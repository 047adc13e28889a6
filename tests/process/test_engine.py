"""The engine process on a real (tiny) model: frames in, frames out, greedy tokens equal to mlx-lm's own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sidecar import conversation as neutral
from sidecar import frames
from sidecar.conversation import Tool
from sidecar.frames import Failed, Finished, Progress, Started, TextDelta
from tests.support.engine_process import WINDOW, EngineProcess, long_text, only, running, said, text
from tests.support.models import make_tiny

DEMO = Path(__file__).parents[2] / "sidecar" / "demo"


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Iterator[EngineProcess]:
    with running(tiny) as engine:
        assert isinstance(engine.first, frames.Ready)
        yield engine


@pytest.fixture(autouse=True)
def _forget(request: pytest.FixtureRequest) -> None:
    if "engine" in request.fixturenames:
        request.getfixturevalue("engine").send(frames.Drop())


def reference(model: Path, prompts: list[str], tokens: int) -> list[str]:
    """mlx-lm alone, in a process of its own: MLX allows one thread a process, and the tests' own stays free of it."""
    script = (
        "import sys, json, mlx_lm\n"
        "model, tokenizer = mlx_lm.load(sys.argv[1])\n"
        "out = [mlx_lm.generate(model, tokenizer, tokenizer.apply_chat_template("
        "[{'role': 'user', 'content': p}], add_generation_prompt=True, tokenize=False), max_tokens=int(sys.argv[2]))"
        " for p in json.load(sys.stdin)]\n"
        "print('\\n' + json.dumps(out))\n"
    )
    command = [sys.executable, "-I", "-c", script, str(model), str(tokens)]
    done = subprocess.run(command, input=json.dumps(prompts), capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_greedy_answers_equal_mlx_lms_alone_and_side_by_side(engine: EngineProcess, tiny: Path) -> None:
    prompts = ["hello", long_text(600), "what is this", long_text(40, seed=3)]
    expected = reference(tiny, prompts, tokens=24)
    alone = [text(engine.ask(said(prompt), max_tokens=24)) for prompt in prompts]
    engine.send(frames.Drop())
    requests = [engine.submit(said(prompt), max_tokens=24) for prompt in prompts]
    together = [text(events) for events in engine.answers(*requests).values()]
    assert alone == expected
    assert together == expected


def test_a_second_turn_reads_only_what_is_new(engine: EngineProcess) -> None:
    system = long_text(500)
    first = engine.ask(said("hello", system=system))
    second = engine.ask(said("hello", text(first), "and now?", system=system))
    started = only(Started, second)
    assert started.cached_tokens >= only(Finished, first).prompt_tokens - 1
    assert started.prompt_tokens - started.cached_tokens < 60


def test_a_cached_prefix_gives_the_same_answer_as_a_fresh_one(engine: EngineProcess) -> None:
    system = long_text(300)
    engine.ask(said("something else", system=system))
    cached = engine.ask(said("hello", system=system))
    engine.send(frames.Drop())
    fresh = engine.ask(said("hello", system=system))
    assert only(Started, cached).cached_tokens > 300 and only(Started, fresh).cached_tokens == 0
    assert text(cached) == text(fresh)


@pytest.mark.parametrize(
    "bits", [pytest.param("8", marks=pytest.mark.full), "8/4", pytest.param("4", marks=pytest.mark.full)]
)
def test_quantised_caches_are_reused_and_their_streams_share_passes(tmp_path: Path, bits: str) -> None:
    model, system = make_tiny(tmp_path, hidden_size=128), long_text(300)
    with running(model, kv_bits=bits) as engine:
        assert (engine.first.kv_bits, engine.first.one_by_one) == (bits, "")
        fresh = [engine.ask(said(words, system=system)) for words in ("hello", "what is this")]
        requests = [engine.submit(said(words, system=system)) for words in ("hello", "what is this")]
        again = engine.answers(*requests)
    assert [text(events) for events in again.values()] == [text(events) for events in fresh]
    assert all(only(Started, events).cached_tokens > 300 for events in again.values())


def test_what_a_cancelled_request_had_read_is_kept(engine: EngineProcess) -> None:
    conversation = said("hello", system=long_text(800))
    request = engine.submit(conversation)
    frame = engine.until(Progress)
    engine.send(frames.Cancel(request))
    again = engine.ask(conversation)
    assert only(Started, again).cached_tokens >= frame.tokens


def test_a_folders_beginning_is_made_ready_before_its_next_request(engine: EngineProcess) -> None:
    system, place = long_text(300), "0123456789abcdef"
    first = only(Finished, engine.ask(said("hello", system=system, tools=TOOLS), max_tokens=1, place=place))
    engine.send(frames.Shed(1 << 40))
    engine.send(frames.Prewarm("f" * 16))  # of a folder that nobody knows
    engine.send(frames.Prewarm(place))
    assert engine.until(Finished).cached_tokens == 0
    started = only(Started, engine.ask(said("something else", system=system, tools=TOOLS), max_tokens=1, place=place))
    assert started.cached_tokens >= 0.95 * first.prompt_tokens


def test_a_request_takes_the_place_of_what_nobody_waits_for_and_what_was_read_stays(engine: EngineProcess) -> None:
    conversation, place = said("hello", system=long_text(400), tools=TOOLS), "0123456789abcdef"
    first = only(Finished, engine.ask(conversation, max_tokens=1, place=place))
    engine.send(frames.Shed(1 << 40))
    engine.send(frames.Prewarm(place))
    read = engine.until(Progress).tokens
    other = engine.submit(said("hi"), max_tokens=2)
    engine.answers(other)
    assert engine.until(Finished).cached_tokens >= read  # it goes on where it was
    started = only(Started, engine.ask(conversation, max_tokens=1, place=place))
    assert started.cached_tokens >= 0.95 * first.prompt_tokens


def test_a_cancelled_stream_says_nothing_more(engine: EngineProcess) -> None:
    request = engine.submit(said("hello"), max_tokens=3000)
    engine.until(TextDelta)
    engine.send(frames.Cancel(request))
    other = engine.submit(said("hi"), max_tokens=200)
    while (frame := engine.receive()).id == request:  # sent before the cancel arrived
        assert isinstance(frame, TextDelta)
    while not isinstance(frame, Finished):
        assert frame.id == other
        frame = engine.receive()


def test_a_short_prompt_does_not_wait_for_a_long_one(engine: EngineProcess) -> None:
    long = engine.submit(said(long_text(950)), max_tokens=4)
    engine.until(Progress)
    short = engine.submit(said("hi"), max_tokens=2)
    order = [engine.until(Finished).id, engine.until(Finished).id]
    assert order == [short, long]


def test_the_prompt_must_leave_room_in_the_window(engine: EngineProcess) -> None:
    failed = only(Failed, engine.ask(said(long_text(3000))))
    tokens, limit = map(int, failed.message.split())
    assert (failed.kind, limit) == ("too_long", WINDOW - 1) and tokens > WINDOW


def test_an_answer_that_fills_the_window_says_so(engine: EngineProcess) -> None:
    conversation = said(long_text(800))
    engine.send(frames.Count(1000, conversation))
    counted = engine.receive()
    finished = only(Finished, engine.ask(conversation, max_tokens=100_000))
    assert finished.reason == "window"
    assert finished.prompt_tokens == counted.tokens
    assert finished.prompt_tokens + finished.output_tokens == WINDOW


def test_max_tokens_limits_the_answer_and_zero_only_reads(engine: EngineProcess) -> None:
    conversation = said(long_text(100))
    warmed = only(Finished, engine.ask(conversation, max_tokens=0))
    finished = only(Finished, events := engine.ask(conversation, max_tokens=5))
    assert (warmed.reason, warmed.output_tokens) == ("length", 0)
    assert (finished.reason, finished.output_tokens) == ("length", 5)
    assert only(Started, events).cached_tokens == warmed.prompt_tokens - 1


def test_a_stop_sequence_is_matched_on_text_and_never_shown(engine: EngineProcess) -> None:
    whole = text(engine.ask(said("hello"), max_tokens=40))
    stop = whole[12:15]
    events = engine.ask(said("hello"), max_tokens=40, stop=("never in there at all", stop))
    assert (only(Finished, events).reason, only(Finished, events).stop_sequence) == ("stop", stop)
    assert text(events) == whole[: whole.index(stop)]


TOOLS = (
    Tool(
        "Read",
        "",
        {"type": "object", "properties": {"path": {"type": "string", "maxLength": 12}}, "required": ["path"]},
    ),
    Tool(
        "set",
        "",
        {
            "type": "object",
            "properties": {
                "mode": {"enum": ["a", "b"]},
                "sizes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
                "deep": {"type": "object", "properties": {"on": {"type": "boolean"}}, "additionalProperties": False},
            },
            "required": ["mode", "sizes"],
            "additionalProperties": False,
        },
    ),
)


def test_every_tool_call_of_a_random_model_is_valid(engine: EngineProcess) -> None:
    """Noise opens a call by itself too rarely, so calls are forced."""
    names = {tool.name: tool for tool in TOOLS}
    calls = 0
    forced = {"forced": tuple(names), "parallel": False, "temperature": 1.0}
    requests = [engine.submit(said("go", tools=TOOLS), max_tokens=400, **forced) for _ in range(24)]
    for events in engine.answers(*requests).values():
        starts = [index for index, event in enumerate(events) if isinstance(event, frames.ToolStart)]
        for index in starts:
            pieces = []
            for event in events[index + 1 :]:
                if not isinstance(event, frames.ToolArguments):
                    break
                pieces.append(event.json)
            finished = only(Finished, events)
            if finished.reason == "length" and index == starts[-1]:
                continue  # cut off in the middle of a call
            jsonschema.validate(json.loads("".join(pieces)), names[events[index].name].schema)
            calls += 1
    assert calls >= 20


@pytest.mark.parametrize(
    ("file", "temperature", "expected"),
    [
        ({"temperature": None, "top_k": 50.0, "top_p": "0.9"}, None, (1.0, 50, "model")),
        ({"temperature": None, "top_k": None, "top_p": None}, 0.4, (0.4, 0, "user")),
    ],
)
def test_whatever_a_generation_config_says_the_model_answers_and_tells_what_it_samples_with(
    tmp_path: Path, file: dict[str, Any], temperature: float | None, expected: tuple[float, int, str]
) -> None:
    (make_tiny(tmp_path) / "generation_config.json").write_text(json.dumps(file))
    with running(tmp_path, temperature=temperature) as engine:
        how = engine.first.sampling
        assert (how.temperature, how.top_k, engine.first.sampling_by) == expected
        assert only(Finished, engine.ask(said("hello"), sampling=neutral.Sampling())).output_tokens == 16


def test_a_schema_that_does_not_compile_is_loosened(engine: EngineProcess) -> None:
    odd = Tool("odd", "", {"type": "object", "properties": {"x": {"type": "no such type"}}})
    assert isinstance(engine.ask(said("hi", tools=(odd,)))[-1], Finished)


def test_a_broken_model_is_refused_with_a_reason(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "no_such_architecture"}')
    with running(tmp_path) as engine:
        assert isinstance(engine.first, Failed) and "no_such_architecture" in engine.first.message


def test_the_engine_ends_with_its_sidecar(tiny: Path) -> None:
    """Even in the middle of a long answer: it must never hold memory for nobody."""
    engine = EngineProcess(tiny)
    engine.submit(said("hello"), max_tokens=4000)
    engine.until(TextDelta)
    engine.close()
    assert engine.process.returncode == 0


def test_the_engine_prints_nothing_into_its_frames(tiny: Path) -> None:
    with running(tiny) as engine:
        assert os.readlink(f"/proc/{engine.process.pid}/fd/1") == os.readlink(f"/proc/{engine.process.pid}/fd/2")


def test_a_short_system_prompt_is_kept_though_the_window_rolls_over_it() -> None:
    """The demo model's caches roll after 256 tokens, and cannot be trimmed from then on."""
    system = "Be kind and brief. " * 20
    with running(DEMO) as engine:
        engine.ask(said(long_text(120), system=system), max_tokens=4)
        second = engine.ask(said("Hello", system=system), max_tokens=4)
    assert only(Started, second).cached_tokens > 60
