"""Thoughts of a real engine: told apart from the answer, ended when too long, and never in a grammar's way."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from sidecar.conversation import Conversation, Message, Text, Thinking
from sidecar.frames import Finished, TextDelta, ThinkingDelta, ThinkingEnd, ToolStart
from tests.process.test_engine import TOOLS
from tests.support.engine_process import EngineProcess, only, running, said, text
from tests.support.models import make_tiny

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"enum": [1, 2]}},
    "required": ["name", "size"],
}


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """A model whose prompts end inside a thought."""
    with running(make_tiny(tmp_path_factory.mktemp("thinker"), "thinker")) as engine:
        yield engine


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """A model whose template takes thinking off."""
    with running(make_tiny(tmp_path_factory.mktemp("qwen"), "qwen")) as engine:
        yield engine


def asking(**more: Any) -> Conversation:
    plain = said("go")
    return Conversation(plain.system, plain.messages, **more)


def kinds(events: list[Any]) -> list[type]:
    """The kinds of events in their order, repeated ones once."""
    found = [type(event) for event in events]
    return [kind for index, kind in enumerate(found) if index == 0 or kind is not found[index - 1]]


def test_a_thought_that_takes_too_long_is_ended_and_counted(thinker: EngineProcess) -> None:
    free = thinker.ask(asking(thinking=True), max_tokens=60)
    held = thinker.ask(asking(thinking=True), max_tokens=60, thinking_budget=3)
    between = kinds(held)
    assert between[between.index(ThinkingDelta) :][:3] == [ThinkingDelta, ThinkingEnd, TextDelta]
    finished = only(Finished, held)
    assert (finished.thinking_tokens, finished.output_tokens) == (4, 60)  # the marker that ends it is its last token
    assert only(Finished, free).thinking_tokens > 4


@pytest.mark.parametrize("forced", [(), ("set",)])
def test_a_structured_answer_and_a_forced_call_come_after_the_thought(
    thinker: EngineProcess, forced: tuple[str, ...]
) -> None:
    conversation = asking(thinking=True, **({"tools": TOOLS} if forced else {"answer_schema": SCHEMA}))
    how: dict[str, Any] = {
        "forced": forced,
        "parallel": False,
        "max_tokens": 2000,
        "temperature": 1.0,
        "thinking_budget": 10,
    }
    # Many, since noise may be in the middle of a character when its budget is spent.
    for events in thinker.answers(*(thinker.submit(conversation, **how) for _ in range(16))).values():
        assert only(Finished, events).reason == ("tool" if forced else "end")
        assert kinds(events).index(ThinkingEnd) < kinds(events).index(ToolStart if forced else TextDelta)
        if not forced:
            jsonschema.validate(json.loads(text(events)), SCHEMA)


def test_a_model_that_was_told_not_to_think_cannot(qwen: EngineProcess) -> None:
    for _ in range(8):
        events = qwen.ask(asking(answer_schema=SCHEMA), max_tokens=2000, temperature=1.0)
        assert ThinkingDelta not in kinds(events)
        jsonschema.validate(json.loads(text(events)), SCHEMA)


def test_an_answer_schema_that_cannot_be_enforced_is_refused_by_name(qwen: EngineProcess) -> None:
    events = qwen.ask(asking(answer_schema={"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}))
    assert events[-1].kind == "invalid"
    assert events[-1].message.startswith("output_config.format.schema: ")


def test_what_was_thought_comes_back_with_its_signature(thinker: EngineProcess) -> None:
    """The client sends nothing but the signature when thoughts are not shown to it."""
    asked = asking(thinking=True)
    events = thinker.ask(asked, max_tokens=60, temperature=1.0, thinking_budget=20)
    answer = (Thinking("", only(ThinkingEnd, events).signature), Text(text(events)))
    history = (*asked.messages, Message("assistant", answer), Message("user", (Text("and now?"),)))
    again = thinker.ask(Conversation("", history, thinking=True), max_tokens=1)
    before = only(Finished, events)
    assert only(Finished, again).cached_tokens >= before.prompt_tokens + before.output_tokens - 1
