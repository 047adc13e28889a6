"""Requests that are as much work to prepare as one can think of: 32 MB of this and that, schemas by the hundred."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MB = 1_000_000
LINE = "2026-11-28 12:00:00 INFO request 17 took 4 ms\n"
WORDS = "the quick brown fox reads a file and runs one command, 12 of 3.5: "
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"


@dataclass(frozen=True)
class Burden:
    """One request. `statuses`: what may come of it."""

    name: str
    make: Callable[[], dict[str, Any]]
    statuses: tuple[int, ...] = (400,)
    path: str = MESSAGES

    def body(self, model: str) -> bytes:
        most = {"max_tokens": 2} if self.path == MESSAGES else {}
        return json.dumps({"model": model, **most, **self.make()}, ensure_ascii=False).encode()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def repeated(piece: str, size: int) -> str:
    return (piece * (size // len(piece.encode()) + 1))[: size * len(piece) // len(piece.encode())]


def tool(number: int, schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": f"tool_{number}", "input_schema": {"type": "object", **schema}, **more}


def chosen(values: int) -> dict[str, Any]:
    return {"properties": {"x": {"enum": [f"value {number}" for number in range(values)]}}, "required": ["x"]}


NASTY: list[dict[str, Any]] = [
    {"properties": {"x": {"type": "string", "pattern": "^(.{0,5000}){0,50}$"}}, "required": ["x"]},
    {"properties": {"x": {"type": "string", "pattern": "^(.*a.*b.*c|.*d.{3,90}e){40}$"}}, "required": ["x"]},
    {"properties": {"x": {"type": "string", "pattern": "^((a|b|ab)*c){1000}$"}}, "required": ["x"]},
    {"properties": {f"p{number}": {"type": "string", "pattern": f"^.*a.{{{number}}}$"} for number in range(60)}},
    {"properties": {"x": {"type": "integer", "multipleOf": 9_991}}, "required": ["x"]},
    {"properties": {"x": {"type": "number", "minimum": -1.79e308, "maximum": 1e-300}}, "required": ["x"]},
    {"properties": {"x": {"type": "array", "items": {"type": "string"}, "minItems": 5_000}}, "required": ["x"]},
    {"properties": {f"property{number}": {"type": "string"} for number in range(300)}},
    {"properties": {"x": {"anyOf": [{"properties": {f"k{n}": {"const": n}}} for n in range(100)]}}},
    {"properties": {"x": {"$ref": "#/$defs/y"}}, "$defs": {"y": {"anyOf": [{"$ref": "#/$defs/y"}, {"type": "null"}]}}},
    {"required": None},
    {"properties": {"x": {"allOf": [{"type": "string", "pattern": f".*{word}.*"} for word in ("abc", "def", "ghi")]}}},
]


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def shown(tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Tools that no prompt lists, since a search has found them: nothing but their schemas is in the way."""
    found = [{"type": "tool_reference", "tool_name": each["name"]} for each in tools]
    return {
        "tools": [{**each, "defer_loading": True} for each in tools],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": tools[0]["name"], "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": found}]},
        ],
    }


def turns(count: int) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": f"word {n}"} for n in range(count + 1 - count % 2)]}


SHORT = [
    Burden("a prompt of 12 MB", lambda: said(repeated(LINE, 12 * MB))),
    Burden("a stop sequence of 10 MB", lambda: said("hi", stop_sequences=["x" * 10 * MB])),
    Burden("an unlisted enum of 100,000", lambda: shown([tool(0, chosen(100_000)), tool(1, NASTY[0])]), (200, 400)),
    Burden("values by the million", lambda: said("hi", tools=[tool(0, {"x": [[]] * 2_000_000})]), (400, 413)),
]

LONG = [
    *SHORT,
    Burden("a prompt of 1 MB without a blank", lambda: said("aGVsbG8" * (MB // 7)), (200, 400)),
    Burden("a count of 1 MB", lambda: said(repeated(LINE, MB)), (200,), COUNT),
    Burden("an enum of 100,000", lambda: said("hi", tools=[tool(0, chosen(100_000))])),
    *(Burden(f"a prompt of {size} MB", lambda size=size: said(repeated(LINE, size * MB))) for size in (1, 2, 4, 8, 16)),
    Burden("a prompt of 32 MB", lambda: said(repeated(WORDS, 32 * MB))),
    Burden("a prompt of 33 MB", lambda: said(repeated(LINE, 33 * MB - 200))),
    Burden("a prompt of 34 MB", lambda: said(repeated(LINE, 34 * MB)), (413,)),
    Burden("32 MB of one letter", lambda: said("x" * 32 * MB)),
    Burden("a count of 10 MB", lambda: said(repeated(WORDS, 10 * MB)), (200,), COUNT),
    Burden("20,000 tools", lambda: said("hi", tools=[tool(n, {}) for n in range(20_000)])),
    Burden("20,000 unlisted tools", lambda: shown([tool(n, {}) for n in range(20_000)]), (200, 400)),
    Burden(
        "500 nasty tools", lambda: said("hi", tools=[tool(n, NASTY[n % len(NASTY)]) for n in range(500)]), (200, 400)
    ),
    Burden("500 unlisted nasty tools", lambda: shown([tool(n, NASTY[n % len(NASTY)]) for n in range(500)]), (200, 400)),
    *(
        Burden(
            f"nasty schema {number}",
            lambda schema=schema: {**shown([tool(0, schema)]), "tool_choice": {"type": "any"}, "max_tokens": 200},
            (200, 400),
        )
        for number, schema in enumerate(NASTY)
    ),
    Burden(
        "10,000 properties", lambda: shown([tool(0, {"properties": {f"p{n}": {} for n in range(10_000)}})]), (200, 400)
    ),
    Burden("a deep schema", lambda: said("hi", tools=[tool(0, deep(300))]), (200, 400)),
    Burden("a schema of a megabyte", lambda: shown([tool(0, {**chosen(9_000), "description": "x" * MB})]), (200, 400)),
    Burden("10,000 messages", lambda: turns(10_000), (200,), COUNT),
    Burden("20,000 messages", lambda: turns(20_000)),
    Burden("90,000 messages", lambda: turns(90_000)),
]
