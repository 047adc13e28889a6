"""Schemas are closed where their authors listed what there is, and never where that would change what they mean."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.schema import closed
from tests.schemas import SCHEMAS

LISTED = {"type": "object", "properties": {"a": {"type": "integer"}}}
CLOSED = {**LISTED, "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (LISTED, CLOSED),
        ({"type": "object", "properties": {}}, {"type": "object", "properties": {}, "additionalProperties": False}),
        ({"type": "object"}, {"type": "object"}),
        ({**LISTED, "additionalProperties": True}, {**LISTED, "additionalProperties": True}),
        ({"type": "array", "items": LISTED}, {"type": "array", "items": CLOSED}),
        ({"anyOf": [LISTED, {"type": "null"}]}, {"anyOf": [CLOSED, {"type": "null"}]}),
        ({"type": "object", "additionalProperties": LISTED}, {"type": "object", "additionalProperties": CLOSED}),
        ({"$defs": {"x": LISTED}, "$ref": "#/$defs/x"}, {"$defs": {"x": CLOSED}, "$ref": "#/$defs/x"}),
        ({"allOf": [LISTED, LISTED]}, {"allOf": [LISTED, LISTED]}),
        ({**LISTED, "anyOf": [LISTED]}, {**LISTED, "anyOf": [CLOSED]}),
        ({**LISTED, "required": ["b"]}, {**LISTED, "required": ["b"]}),
        ({"properties": {"properties": LISTED}}, {"properties": {"properties": CLOSED}, "additionalProperties": False}),
        (True, True),
        ({"properties": 3, "items": None, "anyOf": {}}, {"properties": 3, "items": None, "anyOf": {}}),
    ],
)
def test_a_schema_is_closed_where_it_lists(schema: Any, expected: Any) -> None:
    before = json.dumps(schema)
    assert closed(schema) == expected
    assert json.dumps(schema) == before


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1000) | st.sampled_from(["a", "dot", "line", "fixed", "read"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdxy"), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SCHEMAS)), VALUES)
def test_what_a_closed_schema_accepts_the_open_one_does(name: str, value: Any) -> None:
    if jsonschema.Draft202012Validator(closed(SCHEMAS[name])).is_valid(value):
        assert jsonschema.Draft202012Validator(SCHEMAS[name]).is_valid(value)
