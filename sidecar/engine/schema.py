"""JSON Schemas, read as narrowly as their authors mean them. Pure."""

from typing import Any

_LISTS = ("anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_SINGLE = ("items", "additionalProperties")
_SAYS_MORE = (
    "additionalProperties",
    "patternProperties",
    "unevaluatedProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "$ref",
    "if",
)
"""Keywords beside `properties` by which an author says that there may be other ones."""


def closed(schema: Any) -> Any:
    """The schema without properties that it does not list, unless it speaks of them.

    JSON Schema lets an object have any others; a small model would invent them without end. Whatever the result
    accepts, the schema does too. Nothing below `allOf` is closed: its parts describe one object together.
    """
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    for key in _LISTS:
        if isinstance(schema.get(key), list):
            result[key] = [closed(part) for part in schema[key]]
    for key in _MAPS:
        if isinstance(schema.get(key), dict):
            result[key] = {name: closed(part) for name, part in schema[key].items()}
    for key in _SINGLE:
        if key in schema:
            result[key] = closed(schema[key])
    if isinstance(schema.get("properties"), dict) and not any(key in schema for key in _SAYS_MORE):
        required = schema.get("required", [])
        if all(name in schema["properties"] for name in required if isinstance(required, list)):
            result["additionalProperties"] = False
    return result
