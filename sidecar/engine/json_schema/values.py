"""Texts, numbers, lists and fixed values, as a grammar has them. Pure."""

import re
from collections.abc import Callable
from typing import Any

from sidecar.engine.json_schema.keywords import NOT_ENUM, TYPES, Schema, is_of
from sidecar.engine.json_schema.merge import among

Read = Callable[[Any, str], Any]
Leave = Callable[[str], None]

INTEGER = 10**18
"""No integer is larger, unless its schema says more: readers of JSON hold 64 bits, which are 9.2 of these."""
FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
"""Those that llguidance knows."""
_UNKNOWN_FORMATS = {"idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template", "regex"} | {
    "json-pointer",
    "relative-json-pointer",
}
"""What JSON Schema has beside them; all others are for people to read."""
_OF_TYPE = {
    "object": ("properties", "required", "additionalProperties", "patternProperties", "propertyNames"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_CLASSES = {"d": "[0-9]", "D": "[^0-9]", "w": "[A-Za-z0-9_]", "W": "[^A-Za-z0-9_]"}
"""As the authors of schemas mean them: what reads them is mostly JavaScript."""


def types_of(words: Schema) -> list[str] | None:
    """The types that a value may have; where they are not named, the one that all keywords are about."""
    if "type" in words or "enum" in words:
        return words.get("type")
    about = [name for name, keywords in _OF_TYPE.items() if any(keyword in words for keyword in keywords)]
    return about if len(about) == 1 else None


def finished_values(words: Schema, types: list[str] | None, leave: Leave) -> Any:
    """The keywords that hold of a value that is neither an object nor a list; False when none can fit."""
    fixed = _fixed(words, types, leave)
    if fixed is not None:
        return {"enum": fixed} if fixed else False
    result: Schema = {} if types is None else {"type": types[0] if len(types) == 1 else types}
    if types is None or "string" in types:
        result |= _text(words, leave)
    if types is None or {"number", "integer"} & {*types}:
        result |= _number(words, types)
    return result


def _fixed(words: Schema, types: list[str] | None, leave: Leave) -> list[Any] | None:
    """The values that there are, where they are listed."""
    values, excluded = words.get("enum"), words.get(NOT_ENUM, [])
    if values is None and excluded and types == ["boolean"]:
        values = [True, False]
    if values is None:
        if excluded:
            leave("not")
        return None
    kept = [value for value in values if is_of(value, types or [*TYPES]) and not among(value, excluded)]
    return [value for value in kept if _fits(value, words)]


def _fits(value: Any, words: Schema) -> bool:
    """Whether a fixed value keeps to the limits beside it; patterns and the like are left to the grammar's own."""
    if isinstance(value, str):
        return bool(words.get("minLength", 0) <= len(value) <= words.get("maxLength", len(value)))
    if isinstance(value, int | float) and not isinstance(value, bool):
        above = value >= words.get("minimum", value) and value > words.get("exclusiveMinimum", value - 1)
        return bool(above and value <= words.get("maximum", value) and value < words.get("exclusiveMaximum", value + 1))
    if isinstance(value, dict):
        return all(name in value for name in words.get("required", ()))
    return True


def _text(words: Schema, leave: Leave) -> Schema:
    result: Schema = {keyword: words[keyword] for keyword in ("minLength", "maxLength") if keyword in words}
    patterns = words.get("pattern", [])
    patterns = [_regex(pattern) for pattern in (patterns if isinstance(patterns, list) else [patterns])]
    if patterns:
        result["pattern"] = patterns[0]
    formats = words.get("format", [])
    formats = formats if isinstance(formats, list) else [formats]
    known = [name for name in formats if name in FORMATS]
    if any(name in _UNKNOWN_FORMATS for name in formats):
        leave("format")
    if known:
        result["format"] = known[0]
    more = [*({"pattern": pattern} for pattern in patterns[1:]), *({"format": name} for name in known[1:])]
    return {**result, "allOf": more} if more else result


def _regex(pattern: str) -> str:
    r"""The same pattern, with classes such as \d within ASCII."""
    return re.sub(r"\\(.)", lambda match: _CLASSES.get(match[1], match[0]), pattern, flags=re.DOTALL)


def _number(words: Schema, types: list[str] | None) -> Schema:
    result = {keyword: words[keyword] for keyword in _OF_TYPE["number"] if keyword in words}
    if types is None or "integer" not in types or "number" in types:
        return result
    low = result.get("minimum", result.get("exclusiveMinimum"))
    high = result.get("maximum", result.get("exclusiveMaximum"))
    if low is None and (high is None or high > -INTEGER):
        result["minimum"] = -INTEGER
    if high is None and (low is None or low < INTEGER):
        result["maximum"] = INTEGER
    return result


def finished_array(words: Schema, read: Read, leave: Leave) -> Schema:
    """The keywords that hold of a list. One that names its first items gets no others, unless it speaks of them."""
    result: Schema = {keyword: words[keyword] for keyword in ("minItems", "maxItems") if keyword in words}
    items = words.get("items")
    if "prefixItems" in words:
        result["prefixItems"] = [read(part, str(index)) for index, part in enumerate(words["prefixItems"])]
        if items is None and words.get("minItems", 0) <= len(words["prefixItems"]):
            items = False
    if items is not None:
        result["items"] = read(items, "[]")
    if words.get("uniqueItems"):
        leave("uniqueItems")
        if values := _countable(result.get("items")):
            result["maxItems"] = min(values, result.get("maxItems", values))
    if "contains" in words:
        leave("contains")
        if words.get("minContains", 1):
            result["minItems"] = max(result.get("minItems", 0), words.get("minContains", 1))
    return result


def _countable(items: Any) -> int:
    """How many different values there are; 0 where that is not known."""
    return len(items.get("enum", ())) if isinstance(items, dict) else 0
