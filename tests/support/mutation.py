"""Schemas that nobody would write: real ones with a few of their values made into others."""

import copy
import json
import random
from typing import Any

_KEYWORDS = [
    *("type", "properties", "required", "items", "enum", "const", "pattern", "format", "minimum", "maximum", "not"),
    *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "if"),
    *("uniqueItems", "minProperties", "maxProperties", "additionalProperties", "patternProperties", "propertyNames"),
    *("allOf", "anyOf", "oneOf", "then", "else", "$ref", "$defs", "definitions", "dependentRequired", "contains"),
    *("dependentSchemas", "dependencies", "prefixItems", "unevaluatedProperties", "nullable", "$id", "default"),
]
_ODD: list[Any] = [
    *(None, True, False, 0, -1, 3, 2.5, 1e308, -1e300, 10**30, "", "x", "5", [], {}, [None], [True], ["a", "a"], [[]]),
    *("string", "object", "array", "integer", "any", ["string", "null"], ["string", 3], {"type": "string"}, [{}]),
    *("#", "#/$defs/a", "#/properties/a", "#/properties", "#/nowhere", "https://example.com/a.json", "#a", "#/%25~0"),
    *(
        "(",
        "^(?!a)b",
        "^a$",
        "[",
        "^(.{0,500}){0,50}$",
        "\\d+",
        "\ud800",
        "a\u0000b",
        "\\",
        "(?=x)",
        "\\p{L}",
        ".{99999}",
    ),
    *({"a": None}, {"a": {"$ref": "#"}}, [{"$ref": "#"}], {"": {}}, {"a": ["b"]}, {"a": {"required": True}}),
    *({"type": 3}, {"anyOf": []}, {"not": {}}, [False, False], {"^(": {}}, {"a": 1, "b": [2]}, [1, "a", None, 1e300]),
]


def mutated(schema: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """The schema with one to four changes."""
    result: dict[str, Any] = json.loads(json.dumps(schema))
    for _ in range(dice.randint(1, 4)):
        _change(dice.choice([result, *_places(result)]), dice)
    return result


def _places(value: Any) -> list[Any]:
    found = [value] if isinstance(value, dict | list) else []
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        found += _places(part)
    return found


def _odd(dice: random.Random) -> Any:
    return copy.deepcopy(dice.choice(_ODD))


def _change(place: Any, dice: random.Random) -> None:
    if isinstance(place, list):
        if place:
            place[dice.randrange(len(place))] = _odd(dice)
        return
    keys = [*place]
    match dice.randrange(4):
        case 0 if keys:
            place[dice.choice(keys)] = _odd(dice)
        case 1 if keys:
            place[dice.choice(_KEYWORDS)] = place[dice.choice(keys)]
        case 2 if keys:
            del place[dice.choice(keys)]
        case _:
            place[dice.choice(_KEYWORDS)] = _odd(dice)


def deep(levels: int) -> dict[str, Any]:
    """Objects in objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema
