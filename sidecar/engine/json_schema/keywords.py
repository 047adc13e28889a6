"""JSON Schema's keywords, each read as what it has to be; one that is something else is read as absent. Pure.

Dialects differ little in what a grammar can use: older spellings become today's. What only describes is left out.
"""

import math
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
DEEPEST = 56
"""Levels of schemas below one another: what lies deeper is read as anything at all."""
LARGEST = 1 << 31
"""A length from which on a limit says nothing about what is written."""

NOT_ENUM = "x-not-enum"
"""Ours, for values that a `not` forbids, until it is known which are allowed."""

_NO = object()


def tidy(schema: Schema, malformed: Callable[[str], None]) -> Schema:
    """The keywords that say what may be written, each well-formed; the others' names go to `malformed`."""
    found: Schema = {}
    for keyword, value in _modern(schema).items():
        if keyword not in _READERS:
            continue
        read = _READERS[keyword](value)
        if read is _NO:
            malformed(keyword)
        else:
            found[keyword] = read
    return found


def is_schema(value: Any) -> bool:
    """Whether a value can be a schema."""
    return isinstance(value, dict | bool)


def _modern(schema: Schema) -> Schema:
    """The same in the latest dialect's spelling."""
    result = dict(schema)
    if isinstance(schema.get("items"), list):
        result.setdefault("prefixItems", result.pop("items"))
        if "additionalItems" in schema:
            result["items"] = schema["additionalItems"]
    for limit in ("Minimum", "Maximum"):
        if (excluded := schema.get(f"exclusive{limit}")) is True and limit.lower() in schema:
            result[f"exclusive{limit}"] = result.pop(limit.lower())
        elif isinstance(excluded, bool):
            del result[f"exclusive{limit}"]
    if isinstance(dependencies := result.pop("dependencies", None), dict):
        for name, needed in dependencies.items():
            kind = "dependentRequired" if isinstance(needed, list) else "dependentSchemas"
            if isinstance(result.get(kind, {}), dict):
                result[kind] = {**result.get(kind, {}), name: needed}
    return result


def _types(value: Any) -> Any:
    named = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    known = [name for name in named if isinstance(name, str) and name in TYPES]
    return list(dict.fromkeys(known)) or _NO


def _names(value: Any) -> Any:
    if not isinstance(value, list) or not all(isinstance(name, str) and _is_text(name) for name in value):
        return _NO
    return list(dict.fromkeys(value))


def _schema(value: Any) -> Any:
    return value if is_schema(value) else _NO


def _schemas(value: Any) -> Any:
    return [part for part in value if is_schema(part)] or _NO if isinstance(value, list) else _NO


def _map(value: Any) -> Any:
    """What is no schema in it may be anything."""
    if not isinstance(value, dict):
        return _NO
    return {name: part if is_schema(part) else True for name, part in value.items() if _is_text(name)}


def _name_lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return _NO
    return {name: names for name, each in value.items() if (names := _names(each)) is not _NO} or _NO


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return _NO
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _size(value: Any) -> Any:
    number = _number(value)
    return number if isinstance(number, int) and 0 <= number < LARGEST else _NO


def _step(value: Any) -> Any:
    number = _number(value)
    return number if number is not _NO and number > 0 else _NO


def _text(value: Any) -> Any:
    return value if isinstance(value, str) and _is_text(value) else _NO


def _is_text(value: str) -> bool:
    """Whether it can be written: half a surrogate pair cannot."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _values(value: Any) -> Any:
    """Each once."""
    if not isinstance(value, list):
        return _NO
    found = {repr((type(each), each)): each for each in value if can_be_written(each)}
    return list(found.values()) or _NO


def _value(value: Any) -> Any:
    return [value] if can_be_written(value) else _NO


def can_be_written(value: Any) -> bool:
    """Whether JSON can spell it."""
    if isinstance(value, dict):
        return all(map(can_be_written, [*value, *value.values()]))
    if isinstance(value, list):
        return all(map(can_be_written, value))
    return _is_text(value) if isinstance(value, str) else not isinstance(value, float) or math.isfinite(value)


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else _NO


_READERS: dict[str, Callable[[Any], Any]] = {
    "type": _types,
    "enum": _values,
    NOT_ENUM: _values,
    "const": _value,
    "required": _names,
    "dependentRequired": _name_lists,
    "pattern": _text,
    "format": _text,
    "$ref": _text,
    "$dynamicRef": _text,
    "uniqueItems": _flag,
    "multipleOf": _step,
    **dict.fromkeys(("properties", "patternProperties", "dependentSchemas"), _map),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _schemas),
    **dict.fromkeys(("items", "additionalProperties", "unevaluatedProperties", "unevaluatedItems"), _schema),
    **dict.fromkeys(("not", "if", "then", "else", "contains", "propertyNames"), _schema),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _size),
    **dict.fromkeys(("minContains", "maxContains"), _size),
}


def is_of(value: Any, types: list[str]) -> bool:
    """Whether a JSON value is of one of the types."""
    match value:
        case None:
            return "null" in types
        case bool():
            return "boolean" in types
        case int():
            return "integer" in types or "number" in types
        case float():
            return "number" in types or ("integer" in types and value.is_integer())
        case str():
            return "string" in types
        case list():
            return "array" in types
        case _:
            return "object" in types
