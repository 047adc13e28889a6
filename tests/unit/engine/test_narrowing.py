"""Schemas are read as narrowly as their authors mean them: merged, closed, and never wider than they are."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.engine.json_schema.narrowing import WHOLE, narrowed
from sidecar.engine.json_schema.values import INTEGER
from tests.support.corpus import CORPUS, LOOSE
from tests.support.mutation import deep
from tests.support.schemas import SCHEMAS


def listed(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": [*required]} if required else {})}


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {**listed(*required, **properties), "additionalProperties": False}


S, B = {"type": "string"}, {"type": "boolean"}
BASE = {"Base": listed("p", p=S)}
CLOSED: list[tuple[Any, Any]] = [
    (listed(a=S), closed(a=S)),
    ({"properties": {"a": S}}, closed(a=S)),
    ({"type": "object", "properties": {}}, closed()),
    ({"type": "object"}, {"type": "object"}),
    ({**listed(a=S), "additionalProperties": True}, {**listed(a=S), "additionalProperties": True}),
    ({"type": "array", "items": listed(a=S)}, {"type": "array", "items": closed(a=S)}),
    ({"anyOf": [listed(a=S), {"type": "null"}]}, {"anyOf": [closed(a=S), {"type": "null"}]}),
    ({**listed(a=S), "patternProperties": {"^x": B}}, {**listed(a=S), "patternProperties": {"^x": B}}),
    (listed("b", a=S), closed("b", a=S, b=True)),
    (listed(properties=listed(a=S)), closed(properties=closed(a=S))),
    ({**listed(a=S), "unevaluatedProperties": False}, closed(a=S)),
]
MERGED: list[tuple[Any, Any]] = [
    ({"allOf": [listed("p", p=S), listed("q", q=B)]}, closed("p", "q", p=S, q=B)),
    ({"allOf": [{"$ref": "#/$defs/Base"}, listed("q", q=B)], "$defs": BASE}, closed("p", "q", p=S, q=B)),
    ({"$ref": "#/$defs/Base", **listed("q", q=B), "$defs": BASE}, closed("q", "p", q=B, p=S)),
    (
        {**listed("q", q=B), "anyOf": [listed("p", p=S), listed("z", z=B)]},
        {"anyOf": [closed("q", "p", q=B, p=S), closed("q", "z", q=B, z=B)]},
    ),
    ({"allOf": [{"type": ["string", "null"]}, {"type": ["null", "integer"]}]}, {"type": "null"}),
    ({"allOf": [{"minimum": 1}, {"type": "number", "minimum": 3}]}, {"type": "number", "minimum": 3}),
    ({"enum": [1, "a", None], "type": "string"}, {"enum": ["a"]}),
    ({"allOf": [{"enum": [1, 2, True]}, {"enum": [2, 1]}]}, {"enum": [1, 2]}),
    ({"allOf": [{"multipleOf": 4}, {"type": "number", "multipleOf": 6}]}, {"type": "number", "multipleOf": 12}),
    ({"type": "array", "items": [S, B]}, {"type": "array", "prefixItems": [S, B], "items": False}),
    ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 1}),
    (
        {**listed(kind={"enum": ["a", "b"]}, x=S), "if": listed(kind={"const": "a"}), "then": {"required": ["x"]}},
        {
            "anyOf": [
                closed("x", kind={"enum": ["a"]}, x=S),
                closed("kind", kind={"enum": ["b"]}, x=S),
            ]
        },
    ),
    ({**listed(a=S, b=S), "dependentRequired": {"a": ["b"]}}, {"anyOf": [closed(b=S), closed("a", "b", a=S, b=S)]}),
    ({**listed(a=S, b=S), "not": {"required": ["b"]}}, closed(a=S)),
    ({**listed(a=S, b=S), "minProperties": 1}, {"anyOf": [closed("a", a=S, b=S), closed("b", a=S, b=S)]}),
    ({"type": "object", "propertyNames": {"enum": ["a"]}, "additionalProperties": S}, closed(a=S)),
    (
        {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 9},
        {"type": "array", "items": {"enum": [1, 2]}, "maxItems": 9},
    ),
    ({"type": "string", "pattern": "^\\d+\\.\\w$"}, {"type": "string", "pattern": "^[0-9]+\\.[A-Za-z0-9_]$"}),
    ({"type": "integer"}, {"type": "integer", "minimum": -INTEGER, "maximum": INTEGER}),
    ({"type": "integer", "minimum": 10**30}, {"type": "integer", "minimum": 10**30}),
]


def inlined(found: dict[str, Any]) -> Any:
    """With what is referred to in its place."""
    defs = found.pop("$defs", {})
    [name] = [part["$ref"] for part in found.get("anyOf", ()) if "$ref" in part] or [""]
    return defs[name.rpartition("/")[2]] if name else found


@pytest.mark.parametrize(("schema", "expected"), [*CLOSED, *MERGED])
def test_a_schema_is_read_as_narrowly_as_it_is_meant(schema: Any, expected: Any) -> None:
    before = json.dumps(schema)
    found = narrowed(schema)
    assert inlined(dict(found.schema)) == expected
    assert (found.loose, found.malformed) == ((), ())
    assert json.dumps(schema) == before


MALFORMED: list[tuple[str, Any]] = [
    *(("type", each) for each in (3, None, "any", [], [3], {"type": "string"})),
    *(("required", each) for each in (None, True, "a", {"a": 1}, [1], 3)),
    *(("properties", each) for each in (None, 3, [S], "a", True)),
    *(("enum", each) for each in ([], None, "a", {"a": 1}, [float("inf")])),
    *(("items", each) for each in (None, 3, "string")),
    *(("pattern", each) for each in (3, None, ["a"], "\ud800")),
    *(("minimum", each) for each in ("5", None, [1], True, float("nan"))),
    *(("maxLength", each) for each in (-1, 2.5, "5", None, 10**12)),
    *(("allOf", each) for each in ([], None, {}, [3], "a")),
    *(("anyOf", each) for each in ([], None, {}, [None])),
    *(("$ref", each) for each in (3, None, {})),
    *(("additionalProperties", each) for each in ("no", None, 3)),
    *(("multipleOf", each) for each in (0, -1, "2")),
]


@pytest.mark.parametrize(("keyword", "value"), MALFORMED)
def test_a_keyword_that_is_no_good_is_read_as_absent_and_named(keyword: str, value: Any) -> None:
    inner = {"type": "string", "maxLength": 9} if keyword not in ("type", "maxLength") else {}
    found = narrowed(listed("a", "b", a={**inner, keyword: value}, b={"const": 1}), "object")
    assert f"a: {keyword}" in found.malformed
    assert found.schema == closed("a", "b", a=inner or True, b={"enum": [1]})


@pytest.mark.parametrize("ref", ["#/nowhere", "#/$defs/x", "https://example.com/x.json", "#x", "#/properties/a/%zz"])
def test_a_reference_that_leads_nowhere_is_read_as_absent_and_named(ref: str) -> None:
    schema = {**listed("a", a={"$ref": ref, "type": "string"}), "$defs": {"x": {"$ref": "#/$defs/x"}}}
    found = narrowed(schema, "object")
    assert any("$ref" in place for place in found.malformed)
    assert found.loose == ()


def test_a_schema_that_contains_itself_is_held_at_every_level() -> None:
    tree = listed("name", name=S, children={"type": "array", "items": {"$ref": "#", "description": "again"}})
    found = narrowed(tree).schema
    inner = found["properties"]["children"]["items"]["$ref"].rpartition("/")[2]
    assert found["$defs"][inner]["properties"]["children"] == {"type": "array", "items": {"$ref": f"#/$defs/{inner}"}}
    assert found["$defs"][inner]["additionalProperties"] is False


def test_an_author_who_closes_a_base_and_adds_to_it_means_the_sum() -> None:
    found = narrowed({"allOf": [closed("p", p=S), listed("q", q=B)]})
    assert found.schema == closed("p", "q", p=S, q=B)
    assert found.loose == ("additionalProperties",)


@pytest.mark.parametrize(
    "schema",
    [
        deep(2000),
        {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}, "$ref": "#/$defs/d0"},
        {"$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}, "$ref": "#/$defs/d0"},
        {"allOf": [{"anyOf": [listed(**{f"a{n}": S}), listed(**{f"b{n}": S})]} for n in range(30)]},
        {"oneOf": [listed("k", k={"const": number}) for number in range(400)]},
    ],
)
def test_what_would_grow_without_end_is_cut_short(schema: dict[str, Any]) -> None:
    found = narrowed(schema, "object")
    assert len(json.dumps(found.schema)) < 200_000
    assert WHOLE not in found.loose


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 1000) | st.sampled_from(["a", "dot", "line", "fixed", "read"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdxy"), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(SCHEMAS)), VALUES)
def test_what_a_narrowed_schema_accepts_the_original_does(name: str, value: Any) -> None:
    if jsonschema.Draft202012Validator(narrowed(SCHEMAS[name], "object").schema).is_valid(value):
        assert jsonschema.Draft202012Validator(SCHEMAS[name]).is_valid(value)


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_published_shapes_lose_what_no_grammar_holds_and_nothing_else(name: str) -> None:
    lost = {place.rpartition(": ")[2] for place in LOOSE.get(name, ())} - {"pattern", "maximum", "maxLength"}
    assert {place.rpartition(": ")[2] for place in narrowed(CORPUS[name], "object").loose} == lost
