"""Answers are taken apart into text, thinking and calls, whatever pieces they arrive in."""

from typing import Any

import pytest

from sidecar.conversation import Call, Text, Thinking
from sidecar.engine.structured_output.answer_parser import AnswerParser, said
from sidecar.engine.structured_output.call_format import OURS, CallFormat
from sidecar.engine.tokenizing.special_tokens import Special
from sidecar.engine.tokenizing.thoughts import Thoughts
from sidecar.frames import TextDelta, ThinkingDelta, ThinkingEnd, ToolArguments, ToolStart

READ = OURS.render(Call("", "Read", {"path": "a}b \n", "deep": {"x": [1, {}]}}))
RUN = OURS.render(Call("", "Run", {}))
ARGUMENTS = '{"path": "a}b \\n", "deep": {"x": [1, {}]}}'


THINKS = Thoughts("<think>", "</think>")
NONE = Special({})


def parse(
    text: str | list[str],
    size: int,
    calls: CallFormat | None = OURS,
    thoughts: Thoughts = THINKS,
    special: Special = NONE,
    **more: Any,
) -> Any:
    """`text`: in its pieces, or to be cut into such of this size."""
    pieces = [text[start : start + size] for start in range(0, len(text), size)] if isinstance(text, str) else text
    parser = AnswerParser(1, thoughts, special, calls, **more)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return parser, merged([*events, *parser.finish()])


def merged(events: list[Any]) -> list[tuple[str, str]]:
    """(kind, text) with pieces of one kind joined."""
    parts: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, ThinkingEnd):
            continue
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
        f"{READ}\n{RUN}",
        [("call", "Read"), ("arguments", ARGUMENTS), ("text", "\n"), ("call", "Run"), ("arguments", "{}")],
    ),
    (f"{READ}\n{READ}", [("call", "Read"), ("arguments", ARGUMENTS), ("text", "\n")]),
    (f"{READ}\n{RUN}"[:-30], [("call", "Read"), ("arguments", ARGUMENTS), ("text", "\n")]),
    ("<think>hm</think>yes", [("thinking", "hm"), ("text", "yes")]),
    ("\n<think>hm</think>yes", [("text", "\n"), ("thinking", "hm"), ("text", "yes")]),
    ("The tags are <think> and </think>.", [("text", "The tags are <think> and </think>.")]),
    ("<think>hm</think>I wrote <think>.", [("thinking", "hm"), ("text", "I wrote <think>.")]),
    (f"<think>hm</think>{READ}", [("thinking", "hm"), ("call", "Read"), ("arguments", ARGUMENTS)]),
]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("text", "expected"), CASES)
def test_an_answer_reads_the_same_in_any_pieces(text: str, expected: list[tuple[str, str]], size: int) -> None:
    parser, events = parse(text, size)
    assert events == expected
    assert parser.calls == sum(kind == "call" for kind, _ in expected)
    assert not parser.cut


def test_arguments_stream_before_the_call_is_complete() -> None:
    parser = AnswerParser(1, THINKS, NONE, OURS)
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
    assert parse("hm</think>yes", 3, thought_open=True)[1] == [("thinking", "hm"), ("text", "yes")]


def test_without_tools_a_marker_is_text() -> None:
    assert parse(READ, 7, calls=None)[1] == [("text", READ)]


BARE = CallFormat("[CALL]", "", "[ARGS]", "", "", "")
"""As Mistral writes calls: a bare name, and nothing that ends one."""


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_that_nothing_ends_are_told_apart(size: int) -> None:
    text = 'ok[CALL]Read[ARGS]{"a": "}"}[CALL]Run[ARGS]{}'
    assert parse(text, size, calls=BARE)[1] == [
        ("text", "ok"),
        ("call", "Read"),
        ("arguments", '{"a": "}"}'),
        ("call", "Run"),
        ("arguments", "{}"),
    ]


@pytest.mark.parametrize("size", [1, 1000])
def test_the_end_marker_inside_an_argument_is_text(size: int) -> None:
    """A model may write a file about tool calls."""
    arguments = {"path": "a </tool_call> b <tool_call>"}
    parser, events = parse(OURS.render(Call("", "Read", arguments)) + OURS.render(Call("", "Run", {})), size)
    assert [kind for kind, _ in events] == ["call", "arguments", "call", "arguments"]
    assert [block.arguments for block in parser.blocks] == [arguments, {}]


def test_half_a_call_is_no_call_and_is_named() -> None:
    parser, _ = parse(READ[:-40], 3)
    assert (parser.in_call, parser.called, parser.cut) == (True, False, "Read")


@pytest.mark.parametrize("left_out", [1, len("</tool_call>"), len("}\n</tool_call>")])
def test_a_call_that_lacks_nothing_but_its_end_is_whole(left_out: int) -> None:
    parser, events = parse(READ[:-left_out], 3)
    assert events == [("call", "Read"), ("arguments", ARGUMENTS)]
    assert (parser.calls, parser.cut) == (1, "")


def test_a_further_call_is_said_when_it_is_whole() -> None:
    parser = AnswerParser(1, THINKS, NONE, OURS)
    parser.feed(f"{READ}\n")
    assert merged(parser.feed(RUN[:-1])) == []
    assert merged(parser.feed(RUN[-1])) == [("call", "Run"), ("arguments", "{}")]


def test_what_was_said_is_what_the_client_sends_back() -> None:
    """Without the white space that the answer's blocks leave out, and with arguments in any order."""
    parser, _ = parse(f"<think>hm</think>\n\nI look.\n{READ}", 4)
    [thought, *_] = parser.blocks
    arguments = {"deep": {"x": [1, {}]}, "path": "a}b \n"}
    history = [Thinking("", thought.signature), Text("I look.\n"), Call("toolu_1", "Read", arguments)]
    assert said(parser.blocks) == said(history)
    assert said(history) != said(history[1:])
