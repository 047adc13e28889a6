"""Every tool call and every structured answer is valid, whatever the model: here one that knows nothing at all.

It samples at temperature 1.0, the default where neither a request nor the model names one.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest

from tests.client.random_model import RandomModel, random_model
from tests.support.schemas import SCHEMAS, many_tools

CALLS = 350 if os.environ.get("CLAUDE_LOCAL_TEST_FULL") else 15
"""Calls in each test, on each of three models: one of each schema, or over 1,000 in all."""
AT_ONCE = 8
GO: Any = [{"role": "user", "content": "go"}]
TOOLS: Any = [
    {"name": name, "description": "d", "input_schema": {"type": "object", **SCHEMAS[name]}} for name in SCHEMAS
]


@pytest.fixture(
    scope="module", params=["qwen", *(pytest.param(name, marks=pytest.mark.full) for name in ("phi3", "mistral"))]
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RandomModel]:
    """With a call format of special tokens, without one of its own, and with one that nothing ends."""
    with random_model(tmp_path_factory.mktemp("model"), request.param, max_position_embeddings=32768) as model:
        yield model


def forced(index: int) -> dict[str, Any]:
    """One tool of its kind must be called, once; each request in turn another one."""
    name = TOOLS[index % len(TOOLS)]["name"]
    return {"tools": TOOLS, "tool_choice": {"type": "tool", "name": name, "disable_parallel_tool_use": True}}


def validate(arguments: Any, schema: dict[str, Any]) -> None:
    jsonschema.validate(arguments, schema, format_checker=jsonschema.FormatChecker())


def check(message: Any, index: int) -> None:
    [call] = message.content
    assert (call.type, message.stop_reason) == ("tool_use", "tool_use")
    assert call.name == TOOLS[index % len(TOOLS)]["name"]
    validate(call.input, SCHEMAS[call.name])


@pytest.mark.full
def test_every_forced_call_fits_its_schema(model: RandomModel) -> None:
    def one(index: int) -> None:
        check(model.ask(GO, max_tokens=8000, **forced(index)), index)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert len(list(pool.map(one, range(CALLS)))) == CALLS


def test_every_streamed_call_fits_its_schema_and_comes_in_pieces(model: RandomModel) -> None:
    pieces = []

    def one(index: int) -> None:
        with model.stream(GO, max_tokens=8000, **forced(index)) as stream:
            deltas = [event.partial_json for event in stream if event.type == "input_json"]
            message = stream.get_final_message()
        assert all(deltas)
        pieces.append(len(deltas))
        check(message, index)
        assert json.loads("".join(deltas)) == message.content[0].input

    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert len(list(pool.map(one, range(CALLS)))) == CALLS
    assert sum(pieces) > 3 * CALLS


@pytest.mark.full
@pytest.mark.parametrize("model", ["qwen"], indirect=True)
def test_a_choice_among_40_kb_of_tools_is_valid_too(model: RandomModel) -> None:
    tools: Any = [
        {"name": tool.name, "description": tool.description, "input_schema": tool.schema} for tool in many_tools()
    ]
    assert len(json.dumps(tools)) > 40_000
    schemas = {tool["name"]: tool["input_schema"] for tool in tools}
    message = model.ask(GO, max_tokens=8000, tools=tools, tool_choice={"type": "any"})
    calls = [block for block in message.content if block.type == "tool_use"]
    assert calls
    for call in calls:
        validate(call.input, schemas[call.name])


@pytest.mark.parametrize("name", ["union", "references", "pattern"])
def test_a_structured_answer_fits_its_schema(model: RandomModel, name: str) -> None:
    answer_format: Any = {"format": {"type": "json_schema", "schema": SCHEMAS[name]}}
    message = model.ask(GO, max_tokens=8000, output_config=answer_format)
    [block] = message.content
    assert message.stop_reason == "end_turn"
    validate(json.loads(block.text), SCHEMAS[name])
