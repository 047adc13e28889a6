"""How an answer with calls ends: what the client gets of it, what is remembered, and what it reads again."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from sidecar.conversation import Call, Conversation, Message, Result, Sampling, Text, Tool
from sidecar.engine.model import Model, load
from sidecar.engine.scheduling.stream import prepare
from sidecar.engine.structured_output.call_format import OURS
from sidecar.frames import Failed, Finished, Generate, Started, TextDelta, ToolArguments, ToolStart
from tests.unit.engine.test_scheduler import Engine

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
TOOLS = (Tool("Read", "", SCHEMA), Tool("Run", "", SCHEMA))
READ = OURS.render(Call("", "Read", {"x": "a"}))
RUN = OURS.render(Call("", "Run", {"x": "b"}))
ASK = Message("user", (Text("go"),))


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    return load(tiny, 1 << 33)


class Wishes:
    """Stands before the grammar: the model wants the tokens of a text, then the end."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = iter(tokens)

    def __call__(self, sampled: int | None, logits: mx.array) -> mx.array:
        wanted = next(self._tokens, None)
        return logits if wanted is None else mx.where(mx.arange(logits.shape[-1]) == wanted, 1e4, logits)


def answer(engine: Engine, text: str, *messages: Message, **more: Any) -> list[Any]:
    """What comes of an answer whose model wants to write `text`."""
    model = engine.model
    [end] = model.tokenizer.eos_token_ids
    number = len(engine.of(Started)) + 1
    how = {"max_tokens": 400, "forced": ("Read", "Run"), **more}
    asked = Generate(number, Conversation("", messages or (ASK,), TOOLS), Sampling(0.0), **how)
    engine.submit(stream := prepare(model, asked, engine.context_window))
    assert stream is not None
    wishes = Wishes([*model.tokenizer.encode(text, add_special_tokens=False), end])
    stream.processors.insert(0, wishes)
    engine.until(lambda: engine.idle)
    return [frame for frame in engine.said if getattr(frame, "id", 0) == number]


def calls(events: list[Any]) -> list[str]:
    return [event.name for event in events if isinstance(event, ToolStart)]


def finished(events: list[Any]) -> Finished:
    [found] = [event for event in events if isinstance(event, Finished)]
    return found


def test_two_calls_are_two_and_the_same_again_is_none(model: Model) -> None:
    engine = Engine(model)
    events = answer(engine, f"{READ}\n{RUN}\n{READ}\n{RUN}")
    assert (calls(events), finished(events).reason) == (["Read", "Run"], "tool")
    assert not "".join(event.text for event in events if isinstance(event, TextDelta)).strip()


def test_a_further_call_that_is_cut_off_is_dropped_and_the_first_one_counts(model: Model) -> None:
    most = len(model.tokenizer.encode(READ, add_special_tokens=False)) + 15
    events = answer(Engine(model), f"{READ}\n{RUN}", max_tokens=most)
    assert (calls(events), finished(events).reason, finished(events).cut) == (["Read"], "tool", "")


def test_a_call_that_is_cut_off_is_named(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    events = answer(Engine(model), OURS.render(Call("", "Read", {"x": "a" * 400})), max_tokens=100)
    assert (finished(events).reason, finished(events).cut) == ("length", "Read")
    assert any("its call of Read is cut off" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("more", ["", "\n", f"\n{READ}", "\n<tool_response>\nmade up"])
def test_what_comes_back_of_an_answer_is_read_once(model: Model, more: str) -> None:
    """Whatever was sampled behind the call that the client got."""
    engine = Engine(model)
    first = answer(engine, READ + more)
    made = Message("assistant", (Call("t1", "Read", {"x": "a"}),))
    result = Message("user", (Result("t1", "content"),))
    answer(engine, "x", ASK, made, result)
    began, then = engine.of(Started)
    known = began.prompt_tokens + len(model.tokenizer.encode(READ, add_special_tokens=False))
    assert (calls(first), finished(first).reason) == (["Read"], "tool")
    assert known - 1 <= then.cached_tokens <= known + 2  # with white space behind the call, and the token that ends it
    prompt = model.prompts.build(Conversation("", (ASK, made, result), TOOLS))
    assert model.tokenizer.decode(prompt.tokens).count('<tool_call>\n{"name": "Read", "arguments": {"x": "a"}}') == 1


def test_an_answer_whose_grammar_is_given_up_fails(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Callable[..., Any]:
        raise RuntimeError("no more")

    caplog.set_level(logging.WARNING)
    monkeypatch.setattr("sidecar.engine.structured_output.logits_processors.fill_next_token_bitmask", broken)
    events = answer(Engine(model), READ)
    [failed] = [event for event in events if isinstance(event, Failed)]
    assert (failed.kind, "too complex" in failed.message) == ("internal", True)
    assert not [event for event in events if isinstance(event, Finished | ToolArguments)]
    assert "no more" in caplog.text
