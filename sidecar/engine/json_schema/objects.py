"""Objects, as a grammar has them: which properties there are, which there must be, and no others. Pure."""

from collections.abc import Callable
from typing import Any

from sidecar.engine.json_schema.keywords import Schema, tidy
from sidecar.engine.json_schema.merge import SUMMED

Read = Callable[[Any, str], Any]
Leave = Callable[[str], None]

_EACH = 16
"""The most properties of which "at least one" is put as one variant for each."""


def finished_object(words: Schema, read: Read, leave: Leave) -> Any:
    """The keywords that hold of an object; False when none can fit.

    Its properties are all that there are, unless it speaks of others: JSON Schema would let it have any, and a small
    model would invent them without end.
    """
    if SUMMED in words:
        leave("additionalProperties")
    listed, required = dict(words.get("properties", {})), words.get("required", [])
    others, patterns = words.get("additionalProperties"), dict(words.get("patternProperties", {}))
    if "propertyNames" in words:
        others, patterns, listed = _named(words["propertyNames"], others, patterns, listed, leave)
    if "properties" not in words and not required and others is None and not patterns:
        return _sized({}, words, leave)
    properties = {name: read(part, name) for name, part in listed.items()}
    properties |= {name: read(True if others is None else others, name) for name in required if name not in listed}
    if any(properties[name] is False for name in required):
        return False
    if others is None and "properties" in words and not patterns:
        others = False
    result: Schema = {}
    if others is not None:
        result["additionalProperties"] = others if isinstance(others, bool) else read(others, "*")
    if result.get("additionalProperties") is False and not patterns:
        properties = {name: part for name, part in properties.items() if part is not False}
    if patterns:
        result["patternProperties"] = {pattern: read(part, pattern) for pattern, part in patterns.items()}
    result["properties"] = properties
    if required:
        result["required"] = required
    return _sized(result, words, leave)


def _named(names: Any, others: Any, patterns: Schema, listed: Schema, leave: Leave) -> tuple[Any, Schema, Schema]:
    """What names may be like, put as properties or as a pattern of theirs."""
    if names is True:
        return others, patterns, listed
    said = tidy(names, lambda keyword: None) if isinstance(names, dict) else {"enum": []}
    value = True if others is None else others
    allowed = said.get("enum", said.get("const"))
    if allowed is not None and not patterns:
        kept = [name for name in allowed if isinstance(name, str)]
        return False, {}, {name: listed.get(name, value) for name in kept if name in listed or value is not False}
    if "pattern" in said and not patterns:
        return False, {said["pattern"]: value} if value is not False else {}, listed
    if {*said} - {"type"}:
        leave("propertyNames")
    return others, patterns, listed


def _sized(result: Schema, words: Schema, leave: Leave) -> Schema:
    """With how many properties there may be, where that says something and can be held."""
    least, most = words.get("minProperties", 0), words.get("maxProperties")
    closed = result.get("additionalProperties") is False and "patternProperties" not in result
    properties, required = result.get("properties", {}), result.get("required", [])
    if least <= len(required):
        least = 0
    if most is not None and closed and len(properties) <= most:
        most = None
    if not least and most is None:
        return result
    if len(properties) == len(required) and not closed:  # the one case that llguidance knows
        sizes = {"minProperties": least} if least else {}
        return {**result, **sizes, **({"maxProperties": most} if most is not None else {})}
    if most is not None:
        leave("maxProperties")
    if not least:
        return result
    if least > 1 or required or not 0 < len(properties) <= _EACH:
        leave("minProperties")
        return result
    return {"anyOf": [{**result, "required": [name]} for name in properties]}
