"""Schemas and requests that went wrong on their way: good ones with a few values lost, doubled, moved, or made into
others. Plain dice with a seed, so that a number says which one it was."""

import copy
import random
from typing import Any

from tests.support.schemas import SCHEMAS, TOOLS

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.1, 50.0, -0.0, 1e308, 1e-320, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 10**30),
    *("", " ", "\0", "a", "object", "string", "null", "(", "[", "*", "\\", "^$", "^a*$", "(?!x)y", "\\p{L}{1,64}"),
    *("^(.{0,500}){0,50}$", "((a+)+)+b", "x{1000}{1000}", "[^\\s]{1,5000}", "\\d{4}-(?<y>a)", "ß🙂\u2028", "x" * 3000),
    *("#", "#/$defs/x", "#/$defs/tree", "#/properties/a", "https://example.invalid/s.json", "<|end|>", "<tool_call>"),
    *([], {}, [[]], [None], [1, "a", None], {"": {}}, {"$ref": "#"}, {"type": []}, {"type": "nothing"}),
    *({"enum": []}, {"const": None}, {"not": {}}, {"anyOf": []}, {"allOf": [False]}, {"pattern": 3}),
]
KEYWORDS = [
    *("type", "enum", "const", "properties", "required", "items", "prefixItems", "additionalProperties", "pattern"),
    *("patternProperties", "propertyNames", "minProperties", "maxProperties", "minItems", "maxItems", "uniqueItems"),
    *("contains", "minContains", "minLength", "maxLength", "format", "minimum", "maximum", "exclusiveMinimum"),
    *("exclusiveMaximum", "multipleOf", "anyOf", "oneOf", "allOf", "not", "if", "then", "else", "dependentRequired"),
    *("dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "$ref", "$defs", "definitions", "$id"),
    *("$anchor", "$dynamicRef", "$schema", "default", "description", "nullable", "x-guidance", "title", "examples"),
]
_SEEDS = [*SCHEMAS.values()]


def schema(dice: random.Random) -> Any:
    """A schema, mostly still an object's."""
    made = copy.deepcopy(dice.choice(_SEEDS))
    for _ in range(dice.choice([1, 1, 2, 3, 6])):
        made = mutated(made, dice, KEYWORDS, _SEEDS)
    return made if isinstance(made, dict) and dice.random() < 0.95 else {"type": "object", "properties": {"x": made}}


def mutated(value: Any, dice: random.Random, names: list[str], others: list[Any]) -> Any:
    """The value with one thing in it changed. `names`: keys that mean something there; `others`: values of the kind."""
    value = copy.deepcopy(value)
    places = [*_places(value)]
    if not places:
        return copy.deepcopy(dice.choice(ODD))
    holder, key = dice.choice(places)
    match dice.randrange(8):
        case 0 | 1:
            holder[key] = copy.deepcopy(dice.choice(ODD))
        case 2:
            del holder[key]
        case 3:
            holder[key] = copy.deepcopy(dice.choice(others))
        case 4:
            other, name = dice.choice(places)
            holder[key] = copy.deepcopy(other[name]) if _size(value) < 400 else None
        case 5:
            holder[key] = dice.choice([[holder[key]], {dice.choice(names): holder[key]}, [holder[key]] * 3])
        case 6 if isinstance(holder, dict):
            holder[dice.choice(names)] = holder[key]
        case _:
            spot = holder[key] if isinstance(holder[key], dict) else holder
            if isinstance(spot, dict):
                spot[dice.choice(names)] = copy.deepcopy(dice.choice([*ODD, *others]))
            else:
                spot.append(copy.deepcopy(dice.choice(ODD)))
    return value


def _places(value: Any) -> Any:
    """Everything in a value that could be another thing."""
    line = [value]
    while line:
        each = line.pop()
        if isinstance(each, dict | list):
            for key, inner in [*(each.items() if isinstance(each, dict) else enumerate(each))]:
                yield each, key
                line.append(inner)


def _size(value: Any) -> int:
    return sum(1 for _ in _places(value))


_READ: dict[str, Any] = {"name": "Read", "input_schema": SCHEMAS["nested"]}
_CALLED: list[Any] = [
    {"role": "user", "content": [{"type": "text", "text": "read one.txt"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I read it."},
            {"type": "tool_use", "id": "t1", "name": "Read", "input": {"a": {"b": {"c": {"d": "one.txt"}}}}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "river stone"}]},
            {"type": "text", "text": "and now?"},
        ],
    },
]
_BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hello"}], "system": "Be kind.", "temperature": 0.5, "top_k": 3},
    {"messages": _CALLED, "tools": [_READ], "tool_choice": {"type": "any"}},
    {"messages": _CALLED, "tools": [_READ], "stop_sequences": ["\n\n", "END"], "top_p": 0.9},
    {
        "messages": [{"role": "user", "content": "a number"}],
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMAS["variants"]}},
    },
    {
        "messages": [*_CALLED[:1], {"role": "assistant", "content": "It says"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "max_tokens": 2000,
    },
    {"messages": _CALLED, "tools": [{"name": tool.name, "input_schema": tool.schema} for tool in TOOLS[:6]]},
]
_NAMES = [
    *("role", "content", "type", "text", "name", "input", "input_schema", "id", "tool_use_id", "is_error", "schema"),
    *("cache_control", "description", "tool_name", "source", "thinking", "signature", "budget_tokens", *KEYWORDS),
]


def body(dice: random.Random) -> dict[str, Any]:
    """A request's body. Half of them have only a part changed in which everything is allowed."""
    made: Any = copy.deepcopy(dice.choice(_BODIES))
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if dice.random() < 0.5:
            _change_free_part(made, dice)
        else:
            made = mutated(made, dice, _NAMES, [*_SEEDS, *_CALLED])
    return {"model": "m", "max_tokens": 3, **made}


def _change_free_part(made: Any, dice: random.Random) -> None:
    """What a client says freely: texts, arguments, schemas."""
    keys = ("text", "input", "content", "input_schema", "schema", "system")
    free = [(holder, key) for holder, key in _places(made) if key in keys]
    if free:
        holder, key = dice.choice(free)
        if isinstance(holder[key], str):
            holder[key] = "".join(str(dice.choice(ODD)) for _ in range(dice.randrange(1, 5))) + "."
        else:
            holder[key] = mutated(holder[key], dice, KEYWORDS, _SEEDS)
