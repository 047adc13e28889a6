"""Answers are taken apart into text, thinking and calls, whatever pieces they arrive in."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from sidecar.engine.tools import AnswerParser, render_call
from sidecar.frames import Call, TextDelta, ThinkingDelta, Tool, ToolArguments, ToolStart

TOOLS = (Tool("Read", "", {"type": "object"}),)
READ = render_call(Call("", "Read", {"path": "a}b \n", "deep": {"x": [1, {}]}}))
ARGUMENTS = '{"path": "a}b \\n", "deep": {"x": [1, {}]}}'


@dataclass
class Tokenizer:
    """The part of mlx-lm's tokenizer wrapper that the parser looks at."""

    has_thinking: bool = True
    think_start: str = "<think>"
    think_end: str = "</think>"
    tool_call_start: str = "<tool_call>"
    tool_call_end: str = "</tool_call>"
    tool_parser: Any = field(default=None)


def parse(text: str, size: int, stop: tuple[str, ...] = (), opening: str = "", tools: tuple[Tool, ...] = TOOLS) -> Any:
    parser = AnswerParser(1, Tokenizer(), tools, native=False, stop=stop, opening=opening)  # type: ignore[arg-type]
    events = [event for start in range(0, len(text), size) for event in parser.feed(text[start : start + size])]
    return parser, merged([*events, *parser.finish(ended=True)])


def merged(events: list[Any]) -> list[tuple[str, str]]:
    """(kind, text) with pieces of one kind joined."""
    parts: list[tuple[str, str]] = []
    for event in events:
        kind = {TextDelta: "text", ThinkingDelta: "thinking", ToolStart: "call", ToolArguments: "arguments"}[
            type(event)
        ]
        value = getattr(event, {"call": "name", "arguments": "json"}.get(kind, "text"))
        if parts and parts[-1][0] == kind and kind != "call":
            parts[-1] = (kind, parts[-1][1] + value)
        else:
            parts.append((kind, value))
    return [part for part in parts if part[1]]


CASES: list[tuple[str, list[tuple[str, str]]]] = [
    ("hello", [("text", "hello")]),
    ("a < b <tool", [("text", "a < b <tool")]),
    (READ, [("call", "Read"), ("arguments", ARGUMENTS)]),
    (f"I look.\n{READ}\n", [("text", "I look.\n"), ("call", "Read"), ("arguments", ARGUMENTS), ("text", "\n")]),
    (
        f"{READ}\n{READ}",
        [("call", "Read"), ("arguments", ARGUMENTS), ("text", "\n"), ("call", "Read"), ("arguments", ARGUMENTS)],
    ),
    ("<think>hm</think>yes", [("thinking", "hm"), ("text", "yes")]),
    (f"<think>hm</think>{READ}", [("thinking", "hm"), ("call", "Read"), ("arguments", ARGUMENTS)]),
]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("text", "expected"), CASES)
def test_an_answer_reads_the_same_in_any_pieces(text: str, expected: list[tuple[str, str]], size: int) -> None:
    parser, events = parse(text, size)
    assert events == expected
    assert parser.calls == sum(kind == "call" for kind, _ in expected)


def test_arguments_stream_before_the_call_is_complete() -> None:
    parser = AnswerParser(1, Tokenizer(), TOOLS, native=False, stop=(), opening="")  # type: ignore[arg-type]
    assert merged(parser.feed(READ[: READ.index("deep")])) == [("call", "Read"), ("arguments", '{"path": "a}b \\n", "')]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("text", "before", "sequence"),
    [("BACKEND here", "BACK", "END"), ("a\n\nb", "a", "\n\n"), ("EN", "EN", None), ("no stops", "no stops", None)],
)
def test_a_stop_sequence_ends_the_answer_and_never_shows(
    text: str, before: str, sequence: str | None, size: int
) -> None:
    parser, events = parse(text, size, stop=("\n\n", "END"))
    assert (events, parser.stopped) == ([("text", before)], sequence)


def test_a_stop_sequence_inside_arguments_is_no_stop() -> None:
    parser, events = parse(READ, 4, stop=("path",))
    assert events == [("call", "Read"), ("arguments", ARGUMENTS)] and parser.stopped is None


def test_thinking_that_the_template_opened_is_thinking() -> None:
    assert parse("hm</think>yes", 3, opening="<|assistant|>\n<think>\n")[1] == [("thinking", "hm"), ("text", "yes")]


def test_without_tools_a_marker_is_text() -> None:
    assert parse(READ, 7, tools=())[1] == [("text", READ)]


def test_a_foreign_format_is_parsed_whole_and_one_that_does_not_parse_is_text() -> None:
    def reader(text: str, tools: Any) -> Any:
        if text == "bad":
            raise ValueError
        return [{"name": "Read", "arguments": {"path": text}}]

    tokenizer = Tokenizer(tool_call_start="[CALL]", tool_call_end="[END]", tool_parser=reader)
    parser = AnswerParser(1, tokenizer, TOOLS, native=True, stop=(), opening="")  # type: ignore[arg-type]
    events = merged([*parser.feed("[CALL]x[END][CALL]bad[END]"), *parser.finish(ended=True)])
    assert events == [("call", "Read"), ("arguments", '{"path": "x"}'), ("text", "bad")]
    assert parser.calls == 1
