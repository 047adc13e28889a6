"""Requests that nobody thought of: bodies that are nearly right, and bytes that are nearly HTTP."""

import json
import random
import types as types_
import typing
from functools import lru_cache
from os import PathLike
from typing import Any, get_args, get_origin

from anthropic.types import ContentBlockParam
from anthropic.types.beta import BetaContentBlockParam
from anthropic.types.tool_result_block_param import Content
from hypothesis import strategies as st
from pydantic import BaseModel

from sidecar.anthropic.fields import table, types

SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=12)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
IDS = st.sampled_from(["t1", "t2", ""])
NAMES = st.sampled_from(["a", "b", "c", "a" * 128, "a b"])
SCHEMAS = st.sampled_from(
    [
        {},
        {"type": "object"},
        {"type": "object", "properties": {"x": {"type": "integer", "maximum": 9}}, "required": ["x"]},
        {"type": "object", "properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {"enum": ["a"]}}},
        {"$ref": "#"},
        {"type": "object", "properties": {"x": {"type": "string", "pattern": "("}}},
        {"type": "object", "properties": 3},
        {"type": "object", "required": "x"},
        {"type": "object", "minProperties": 10**30},
        {"allOf": [{"type": "object"}, False]},
    ]
)
SOURCES = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "content", "base64", "url"])},
    optional={"data": st.text(max_size=9), "content": JSON},
)
VALUES: dict[str, Any] = {
    "text": st.text(max_size=30)
    | st.sampled_from(["<total_tokens>1</total_tokens>", "x-anthropic-billing-header: a", " "]),
    "tool_use_id": IDS,
    "id": IDS,
    "name": NAMES,
    "tool_name": NAMES,
    "input": st.dictionaries(st.text(max_size=4), JSON, max_size=3),
    "source": SOURCES,
    "is_error": st.booleans(),
    "cache_control": st.sampled_from([None, {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]),
    "tool": st.fixed_dictionaries(
        {"type": st.sampled_from(["tool_reference", "tool_definition", "mcp_tool_reference"])},
        optional={"name": NAMES, "definition": st.fixed_dictionaries({"name": NAMES, "input_schema": SCHEMAS}) | JSON},
    ),
}
KINDS = [str(block.__struct_config__.tag) for block in get_args(types.AnyBlock)]


def _block(inner: Any) -> Any:
    def of(kind: str) -> Any:
        known = {name: VALUES.get(name, JSON) for name in table.fates(kind)} if not table.is_left_alone(kind) else {}
        if kind in ("tool_result", "search_result", "document"):
            known["content"] = st.lists(inner, max_size=2) | st.text(max_size=9)
        optional = {name: right | JSON for name, right in known.items()}
        return st.fixed_dictionaries({"type": st.just(kind)}, optional=optional)

    return st.sampled_from(KINDS).flatmap(of)


PLAIN = st.fixed_dictionaries({"type": st.just("text"), "text": VALUES["text"]})
BLOCKS = PLAIN | st.recursive(PLAIN, _block, max_leaves=4)
CONTENTS = st.text(max_size=20) | st.lists(BLOCKS, max_size=3)
ROLES = st.sampled_from(["user", "user", "assistant", "system"])
WILD = st.lists(st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}), min_size=1, max_size=5)
WORDS = st.text(min_size=1, max_size=20).map(lambda words: f"{words}.")
RESULTS = st.none() | st.text(max_size=20) | st.lists(PLAIN, max_size=2)


@st.composite
def conversations(draw: Any) -> list[dict[str, Any]]:
    """With every call's result where it belongs."""
    said = [{"role": "user", "content": draw(WORDS | st.lists(PLAIN, min_size=1, max_size=3))}]
    for turn in range(draw(st.integers(0, 3))):
        ids = [f"t{turn}{number}" for number in range(draw(st.integers(0, 2)))]
        calls = [{"type": "tool_use", "id": id_, "name": "a", "input": draw(VALUES["input"])} for id_ in ids]
        said.append({"role": "assistant", "content": [{"type": "text", "text": draw(WORDS)}, *calls]})
        if draw(st.booleans()):
            said.append({"role": "system", "content": draw(WORDS)})
        results = [{"type": "tool_result", "tool_use_id": id_, "content": draw(RESULTS)} for id_ in ids]
        said.append({"role": "user", "content": [*results, {"type": "text", "text": draw(WORDS)}]})
    return said


MESSAGES = st.one_of(conversations(), conversations(), conversations(), WILD)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "input_schema": SCHEMAS},
        optional={
            "type": st.sampled_from(["custom", "bash_20250124", "memory_20250818", "tool_search_tool_x", "x"]),
            "description": st.text(max_size=9),
            "defer_loading": st.booleans(),
        },
    ),
    max_size=3,
    unique_by=lambda tool: tool["name"],
)
FIELDS: dict[str, Any] = {
    "max_tokens": st.integers(0, 4),
    "messages": MESSAGES,
    "system": st.text(max_size=20) | st.lists(PLAIN, max_size=2),
    "tools": TOOLS,
    "tool_choice": st.fixed_dictionaries(
        {"type": st.sampled_from(["auto", "any", "tool", "none"])},
        optional={"name": NAMES, "disable_parallel_tool_use": st.booleans()},
    ),
    "thinking": st.fixed_dictionaries(
        {"type": st.sampled_from(["adaptive", "disabled", "between_tools", "enabled"])},
        optional={"budget_tokens": st.integers(0, 3000), "display": st.text(max_size=9)},
    ),
    "output_config": st.fixed_dictionaries(
        {},
        optional={"format": st.fixed_dictionaries({"type": st.just("json_schema"), "schema": SCHEMAS}), "effort": JSON},
    ),
    "stop_sequences": st.lists(st.text(max_size=9), max_size=3),
    "stream": st.booleans(),
    "temperature": st.floats(0, 1),
    "top_p": st.floats(0, 1),
    "top_k": st.integers(0, 2**31),
    "metadata": st.fixed_dictionaries({}, optional={"user_id": st.none() | st.text(max_size=9)}),
}


@st.composite
def bodies(draw: Any, model: str = "m") -> dict[str, Any]:
    """Most are answered; in some one field is anything at all."""
    usual = {"max_tokens", "messages"}
    chosen = usual | draw(st.sets(st.sampled_from(sorted(FIELDS)), max_size=4))
    body = {"model": model, **{name: draw(FIELDS[name]) for name in sorted(chosen)}}
    if draw(st.integers(0, 4)) == 0:
        body[draw(st.sampled_from(sorted(chosen)))] = draw(JSON)
    return body


def encoded(body: dict[str, Any]) -> bytes:
    """Lone surrogates stay escapes, as some clients send them."""
    return json.dumps(body).encode()


def spoil(data: bytes, dice: random.Random) -> bytes:
    """The same bytes with a few of them cut, doubled, swapped, or made into others."""
    spoiled = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(spoiled) + 1)
        length = dice.choice([1, 1, 2, 8, 64])
        match dice.randrange(6):
            case 0:
                del spoiled[at : at + length]
            case 1:
                spoiled[at:at] = spoiled[at : at + length]
            case 2:
                spoiled[at : at + length] = dice.randbytes(length)
            case 3:
                spoiled[at:at] = dice.choice(MARKS)
            case 4:
                del spoiled[at:]
            case _:
                other = dice.randrange(len(spoiled) + 1)
                spoiled[at : at + length], spoiled[other : other + length] = (
                    spoiled[other : other + length],
                    spoiled[at : at + length],
                )
        if not spoiled:
            return b"\r\n"
    return bytes(spoiled)


MARKS = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n\r\n", b"\xff\xfe", b"%00", b"..", b"//", b"http://"),
    *(b"HTTP/1.1", b"HTTP/9.9", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n"),
    *(b"\r\nContent-Length: 5", b"\r\nContent-Length: 99999999999999999999", b"\r\nTransfer-Encoding: chunked"),
    *(b"\r\nTransfer-Encoding: x", b"\r\nHost: a", b"\r\nConnection: close", b"\r\nExpect: 100-continue"),
    *(b"\r\nUpgrade: websocket", b"[" * 200, b'"', b"\\", b"}"),
]
"""What readers of HTTP and JSON stumble over."""


SIMPLE: dict[Any, Any] = {
    str: st.text(max_size=12) | st.sampled_from(["t1", "iVBORw0KGgo=", "JVBERi0=", "\ud83d", "http://x/y"]),
    int: st.integers(-(2**70), 2**70),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    object: JSON,
    Any: JSON,
}


def of_type(hint: Any) -> Any:
    """Values of a type of the official SDK's, such as a content block: whatever it says that the API takes."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    if hasattr(hint, "__required_keys__"):
        return _of_fields(hint)
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (typing.Annotated, typing.Required):
        return of_type(inside[0])
    if origin is typing.Literal:
        return st.sampled_from(inside)
    if origin in (typing.Union, types_.UnionType):
        return st.one_of([st.deferred(lambda part=part: of_type(part)) for part in inside if _is_data(part)])
    if origin is dict:
        return st.dictionaries(st.text(max_size=6), of_type(inside[1]), max_size=3)
    return st.lists(st.deferred(lambda: of_type(inside[0])), max_size=2)


def _is_data(hint: Any) -> bool:
    """Not a file, a path or an answer's block, which the SDK makes text and fields of."""
    if get_origin(hint) in (typing.Annotated, typing.Union):
        return any(map(_is_data, get_args(hint)))
    is_answer = isinstance(hint, type) and issubclass(hint, BaseModel)
    return not is_answer and hint is not PathLike and get_origin(hint) is not typing.IO


@lru_cache
def _of_fields(hint: Any) -> Any:
    hints = typing.get_type_hints(hint, include_extras=True)
    values = {name: st.deferred(lambda part=part: of_type(part)) for name, part in hints.items()}
    required = {name for name, part in hints.items() if get_origin(part) is typing.Required}
    return st.fixed_dictionaries(
        {name: value for name, value in values.items() if name in required},
        optional={name: value for name, value in values.items() if name not in required},
    )


def sdk_blocks() -> Any:
    """All blocks that a message or a tool's result may hold."""
    return st.one_of(*map(of_type, (ContentBlockParam, Content, BetaContentBlockParam)))


def sdk_histories() -> Any:
    """A few messages of either role, and then a new one."""
    contents = st.lists(sdk_blocks(), max_size=3) | st.text(max_size=5)
    said = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": contents})
    greeting, words = [{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]
    new = [{"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]
    return st.lists(said, min_size=1, max_size=4).map(lambda middle: [*greeting, *middle, *words, *new])
