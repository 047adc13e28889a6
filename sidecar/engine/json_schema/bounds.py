"""How much of a request's schemas a grammar holds: what would take seconds for each token, minutes to compile, or the
engine's life, is left out, and said once. Pure, but for that line in the log.

Figures: llguidance 1.9.1, two cores. A grammar of 10,000 optional properties takes a minute to compile and two seconds
for its first token, one of 1,000 fails at its first property, since there may be 2,000 items in a row of its parser.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from sidecar.conversation import Tool

OPTIONAL = 400
"""Optional properties of one object: the first ones. Those left out can then not be written, so every call is valid."""
ENUM = 10_000
"""Values to choose from: 0.2 s to compile. Of more only the kind is held."""
BRANCHES = 500
"""Alternatives, of which none is held where there are more."""
PATTERN = 10_000
"""Characters of a regular expression, which is not held where it is longer."""
VALUES = 20_000
"""Values in one schema, and five times as many in all of a request's together; nothing is held of a larger one."""

TOOLS = 1_500
"""Of 2,000 none can be called any more: there may be so many items in a row, and some are needed beside."""
FATAL = -(2**63) + 1024
"""Integers from here down are left out where a schema names them as values."""

_TYPES: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}

log = logging.getLogger(__name__)


def bounded(tools: Sequence[Tool]) -> tuple[Tool, ...]:
    """The tools with schemas that can be held in time. Raises ValueError for more tools than a grammar can choose from,
    where the engine would only find out at the first call."""
    if len(tools) > TOOLS:
        raise ValueError(f"tools: at most {TOOLS:,} can be called in one request, not {len(tools):,}")
    sizes = {tool.name: size(tool.schema) for tool in tools}
    small = max(sizes.values(), default=0) <= OPTIONAL and sum(sizes.values()) <= 5 * VALUES
    if small and not any(_is_odd(tool.schema) for tool in tools):
        return tuple(tools)
    held = {tool.name: held_schema(tool.schema, f"tool {tool.name}") for tool in tools}
    left = 5 * VALUES
    for name in sorted(held, key=lambda name: size(held[name])):
        left -= size(held[name])
        if left < 0:
            _say(f"tool {name}", "all schemas together are too large")
            held[name] = {"type": "object"}
    return tuple(msgspec.structs.replace(tool, schema=held[tool.name]) for tool in tools)


def held_schema(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """What of a schema can be held. `name`: whose it is, for the log."""
    result = _part(schema, name)
    if size(result) > VALUES:
        _say(name, f"its schema has more than {VALUES:,} values")
        return {"type": "object"}
    return dict(result)


def size(value: Any, most: int = 10 * VALUES) -> int:
    """How many values there are in a value, itself among them; counted up to `most`."""
    total, line = 0, [value]
    while line and total <= most:
        each = line.pop()
        total += 1
        if isinstance(each, dict):
            line += each.values()
        elif isinstance(each, list):
            line += each
    return total


def _part(schema: Any, name: str) -> Any:
    if isinstance(schema, list):
        return [_part(each, name) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = dict(schema)
    enum = schema.get("enum")
    if isinstance(enum, list) and len(enum) > ENUM:
        _say(name, f"an enum has more than {ENUM:,} values")
        _drop(result, "enum", enum)
    for key, values in (("enum", schema.get("enum")), ("const", [schema.get("const")])):
        if key in result and isinstance(values, list) and _is_odd(values):
            _say(name, f"{key} holds a value that no grammar can hold")
            _drop(result, key, values)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list) and len(schema[key]) > BRANCHES:
            _say(name, f"{key} has more than {BRANCHES} branches")
            del result[key]
    if isinstance(schema.get("pattern"), str) and len(schema["pattern"]) > PATTERN:
        _say(name, f"a pattern is longer than {PATTERN:,} characters")
        del result["pattern"]
    if isinstance(schema.get("properties"), dict):
        result["properties"] = _properties(schema, schema["properties"], name)
    return {key: each if key in ("enum", "const") else _part(each, name) for key, each in result.items()}


def _drop(schema: dict[str, Any], key: str, values: list[Any]) -> None:
    """Leave out what names values; their kinds stay."""
    del schema[key]
    kinds = {_TYPES.get(type(each), "") for each in values}
    if "type" not in schema and all(kinds):
        schema["type"] = sorted(kinds)


def _is_odd(value: Any) -> bool:
    """Whether there is something in it that needs a closer look: a text that is longer than any pattern may be, or an
    integer that, as a double, is the smallest of 64 bits: there llguidance 1.9.1 descends without end."""
    line = [value]
    while line:
        each = line.pop()
        if isinstance(each, dict):
            line += each.values()
        elif isinstance(each, list):
            line += each
        elif (isinstance(each, int) and each <= FATAL) or (isinstance(each, str) and len(each) > PATTERN):
            return True
    return False


def _properties(schema: dict[str, Any], properties: dict[str, Any], name: str) -> dict[str, Any]:
    required = schema.get("required")
    needed = {each for each in required if isinstance(each, str)} if isinstance(required, list) else set()
    optional = [each for each in properties if each not in needed]
    if len(optional) <= OPTIONAL:
        return properties
    _say(name, f"an object has more than {OPTIONAL} optional properties: the first {OPTIONAL} can be written")
    kept = needed | set(optional[:OPTIONAL])
    return {each: part for each, part in properties.items() if each in kept}


@lru_cache(maxsize=256)
def _say(name: str, why: str) -> None:
    """Once for each tool and reason."""
    log.warning("%s: not all of its schema is held while it is written: %s", name, why)
