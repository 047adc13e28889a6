"""Tool schemas of many kinds, as agents and their plugins send them: what a grammar must be able to hold a model to."""

from typing import Any

from sidecar.conversation import Tool


def _object(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties] if required is None else required}


# Bounded, so that noise ends them before the window does; one is left open, as most are in life.
_TEXT = {"type": "string", "maxLength": 16}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 999}
_POINT = _object(x={"type": "integer", "minimum": -9, "maximum": 9}, y={"type": "number"})

SCHEMAS: dict[str, dict[str, Any]] = {
    "nothing": {"type": "object", "properties": {}},
    "closed_nothing": {"type": "object", "properties": {}, "additionalProperties": False},
    "open_text": _object(text={"type": "string"}),
    "short_text": _object(text=_TEXT),
    "long_text": _object(text={"type": "string", "minLength": 20, "maxLength": 40}),
    "integer": _object(count=_COUNT),
    "number": _object(ratio={"type": "number", "minimum": 0, "maximum": 1}),
    "boolean": _object(on={"type": "boolean"}),
    "null": _object(nothing={"type": "null"}),
    "enum": _object(mode={"enum": ["read", "write", 3, None, True]}),
    "const": _object(kind={"const": "fixed"}, value=_COUNT),
    "nested": _object(a=_object(b=_object(c=_object(d=_TEXT)))),
    "optional": _object([], first=_TEXT, second=_COUNT, third={"type": "boolean"}),
    "array": _object(items={"type": "array", "items": _COUNT, "minItems": 1, "maxItems": 5}),
    "objects": _object(points={"type": "array", "items": _POINT, "maxItems": 3}),
    "tuple": _object(pair={"type": "array", "prefixItems": [_TEXT, _COUNT], "items": False, "minItems": 2}),
    "pattern": _object(id={"type": "string", "pattern": "^[a-z]{3}-[0-9]{2,4}$"}),
    "format": _object(key={"type": "string", "format": "uuid"}),
    "union": _object(value={"anyOf": [_COUNT, _TEXT, {"type": "null"}]}),
    "types": _object(value={"type": ["integer", "boolean", "null"]}),
    "variants": _object(
        shape={"oneOf": [_object(kind={"const": "dot"}, at=_POINT), _object(kind={"const": "line"}, length=_COUNT)]}
    ),
    "untyped": {"properties": {"value": {"enum": ["a", "b"]}, "other": {"maxLength": 8, "type": "string"}}},
    "references": {
        **_object(tree={"$ref": "#/$defs/tree"}),
        "$defs": {"tree": _object(["name"], name=_TEXT, child={"$ref": "#/$defs/leaf"}), "leaf": _object(size=_COUNT)},
    },
    "map": {"type": "object", "additionalProperties": _COUNT, "maxProperties": 3},
    "unicode": _object(["straße"], **{"straße": _TEXT, 'a "quoted" name': _COUNT}),
}

TOOLS = tuple(Tool(name, f"A tool with {name}.", schema) for name, schema in SCHEMAS.items())


def many_tools() -> tuple[Tool, ...]:
    """40 KB of definitions, about what an agent with a few plugins sends."""
    description = "It does one thing and says so at length. " * 8
    return tuple(Tool(f"{tool.name}_{index}", description, tool.schema) for index in range(3) for tool in TOOLS)
