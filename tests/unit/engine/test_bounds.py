"""Schemas are held as far as they can be held in time."""

import logging
from typing import Any

import pytest

from sidecar.conversation import Tool
from sidecar.engine.json_schema.bounds import BRANCHES, ENUM, OPTIONAL, VALUES, bounded, held_schema, size
from sidecar.engine.json_schema.bounds import TOOLS as MOST_TOOLS
from tests.support.schemas import SCHEMAS, TOOLS


def strings(count: int) -> list[str]:
    return [f"value {number}" for number in range(count)]


def test_what_agents_send_is_left_as_it_is() -> None:
    assert bounded(TOOLS) == TOOLS
    assert [held_schema(schema, "x") for schema in SCHEMAS.values()] == [*SCHEMAS.values()]


@pytest.mark.parametrize(
    ("schema", "held"),
    [
        ({"enum": strings(ENUM + 1)}, {"type": ["string"]}),
        ({"enum": [*strings(ENUM), 1, None]}, {"type": ["null", "number", "string"]}),
        ({"enum": [*strings(ENUM), {}]}, {}),
        ({"type": "string", "enum": strings(ENUM + 1)}, {"type": "string"}),
        ({"anyOf": [{}] * (BRANCHES + 1), "type": "object"}, {"type": "object"}),
        ({"pattern": "a" * 20_000, "minLength": 3}, {"minLength": 3}),
        ({"const": -(2**63), "minimum": 3}, {"type": ["number"], "minimum": 3}),
        ({"enum": ["a", -(2**63) + 1, None]}, {"type": ["null", "number", "string"]}),
        ({"enum": [{"a": [-(2**63)]}]}, {}),
    ],
)
def test_one_keyword_goes_and_its_neighbours_stay(schema: dict[str, Any], held: dict[str, Any]) -> None:
    around = {"type": "object", "properties": {"x": schema, "y": {"type": "integer"}}, "required": ["x"]}
    assert bounded([Tool("t", "", around)])[0].schema == held_schema(around, "x")
    assert held_schema(around, "x") == {**around, "properties": {"x": held, "y": {"type": "integer"}}}


def test_of_too_many_optional_properties_the_first_can_be_written_and_all_required_ones() -> None:
    names = strings(OPTIONAL + 50)
    schema = {"properties": {name: {"type": "string"} for name in names}, "required": names[-2:]}
    kept = held_schema(schema, "x")["properties"]
    assert [*kept] == [*names[:OPTIONAL], *names[-2:]]


def test_a_schema_that_is_large_all_over_is_not_held_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    wide = {"properties": {f"a{n}": {"properties": {f"b{m}": {} for m in range(300)}} for n in range(300)}}
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert held_schema(wide, "tool wide") == {"type": "object"}
    assert len(caplog.records) == 1 and "tool wide" in caplog.text


def test_of_all_tools_together_the_smallest_are_held() -> None:
    fits = {"properties": {f"a{n}": {"enum": strings(40)} for n in range(OPTIONAL)}}
    tools = [Tool(f"t{n}", "", fits) for n in range(8)] + [Tool("small", "", SCHEMAS["nested"])]
    held = bounded(tools)
    assert held[-1] == tools[-1]
    assert [tool.name for tool in held] == [tool.name for tool in tools]
    assert 0 < sum(tool.schema == fits for tool in held) < 8
    assert sum(size(tool.schema) for tool in held) <= 5 * VALUES


def test_more_tools_than_can_be_called_are_refused_by_the_fields_name() -> None:
    tools = [Tool(f"t{number}", "", {}) for number in range(MOST_TOOLS + 1)]
    assert bounded(tools[1:]) == tuple(tools[1:])
    with pytest.raises(ValueError, match=r"^tools: at most 1,500 can be called in one request, not 1,501$"):
        bounded(tools)


@pytest.mark.parametrize("odd", [None, True, 3, "x", [], {"a": None}, [[]]])
def test_odd_values_are_passed_on(odd: Any) -> None:
    keys = ("enum", "anyOf", "pattern", "properties", "required", "allOf")
    schema = dict.fromkeys(keys, odd)
    assert held_schema(schema, "x") == schema
