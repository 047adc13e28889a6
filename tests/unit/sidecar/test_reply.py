"""Engine events become API events: strict order, strict block lifecycles, true figures."""

import itertools
import json
from typing import Any

import msgspec
import pytest

from sidecar.anthropic.reply import Reply, collect, sse
from sidecar.frames import Finished, Started, TextDelta, ThinkingDelta, ThinkingEnd, ToolArguments, ToolStart

END = Finished(1, "end", prompt_tokens=10, cached_tokens=4, output_tokens=3)


def events(*engine: Any) -> list[dict[str, Any]]:
    ids = itertools.count(1)
    reply = Reply("msg_1", "demo", lambda: f"toolu_{next(ids)}")
    started = [reply.start(Started(1, 10, 4))]
    return started + [event for each in engine for event in reply.feed(each)]


def shape(*engine: Any) -> list[str]:
    """Event types, with block index and kind."""
    names = []
    for event in events(*engine):
        block = event.get("content_block", event.get("delta", {})).get("type", "")
        names.append(" ".join(str(part) for part in (event["type"], event.get("index", ""), block) if part != ""))
    return names


def test_text_alone() -> None:
    assert shape(TextDelta(1, "a"), TextDelta(1, "b"), END) == [
        "message_start",
        "content_block_start 0 text",
        "content_block_delta 0 text_delta",
        "content_block_delta 0 text_delta",
        "content_block_stop 0",
        "message_delta",
        "message_stop",
    ]


def test_thinking_text_and_two_calls_each_have_their_own_block() -> None:
    calls = [ToolStart(1, "A"), ToolArguments(1, "{}"), ToolStart(1, "B"), ToolArguments(1, "{"), ToolArguments(1, "}")]
    assert shape(ThinkingDelta(1, "hm"), ThinkingEnd(1, "s"), TextDelta(1, "x\n"), *calls, END) == [
        "message_start",
        "content_block_start 0 thinking",
        "content_block_delta 0 thinking_delta",
        "content_block_delta 0 signature_delta",
        "content_block_stop 0",
        "content_block_start 1 text",
        "content_block_delta 1 text_delta",
        "content_block_stop 1",
        "content_block_start 2 tool_use",
        "content_block_delta 2 input_json_delta",
        "content_block_stop 2",
        "content_block_start 3 tool_use",
        "content_block_delta 3 input_json_delta",
        "content_block_delta 3 input_json_delta",
        "content_block_stop 3",
        "message_delta",
        "message_stop",
    ]


def test_blank_text_opens_no_block() -> None:
    """The API refuses blank text blocks when they come back as history."""
    assert shape(TextDelta(1, "\n"), ToolStart(1, "A"), ToolArguments(1, "{}"), TextDelta(1, "\n"), END)[1:4] == [
        "content_block_start 0 tool_use",
        "content_block_delta 0 input_json_delta",
        "content_block_stop 0",
    ]


def test_leading_blanks_are_left_out_and_inner_ones_kept() -> None:
    message = collect(events(TextDelta(1, "\n "), TextDelta(1, " a"), TextDelta(1, "\n"), TextDelta(1, "b"), END))
    assert message["content"] == [{"type": "text", "text": "a\nb"}]


def test_a_begun_answer_goes_on_with_its_blank() -> None:
    reply = Reply("msg_1", "demo", lambda: "toolu_1", begun=True)
    fed = [TextDelta(1, " "), TextDelta(1, "a"), ToolStart(1, "R"), ToolArguments(1, "{}"), TextDelta(1, "\nb"), END]
    message = collect([reply.start(None), *(event for each in fed for event in reply.feed(each))])
    assert [block.get("text") for block in message["content"]] == [" a", None, "b"]


def test_the_whole_message_equals_the_streamed_one() -> None:
    message = collect(
        events(TextDelta(1, "a"), ToolStart(1, "R"), ToolArguments(1, '{"p":'), ToolArguments(1, " 1}"), END)
    )
    assert json.loads(msgspec.json.encode(message)) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "demo",
        "content": [
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "toolu_1", "name": "R", "input": {"p": 1}},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 0},
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "inference_geo": "not_available",
            "service_tier": "standard",
        },
    }


def test_half_a_call_is_no_call() -> None:
    cut = Finished(1, "length", 10, 4, 3, cut="R")
    message = collect(events(TextDelta(1, "a"), ToolStart(1, "R"), ToolArguments(1, '{"p'), cut))
    told = "(The call of R was cut off: max_tokens was reached after 3 tokens.)"
    assert [block["text"] for block in message["content"]] == ["a", told]
    assert message["stop_reason"] == "max_tokens"


def test_a_stream_whose_call_is_cut_off_says_so_behind_it() -> None:
    cut = Finished(1, "window", 10, 4, 3, cut="R")
    seen = events(ToolStart(1, "R"), ToolArguments(1, '{"p'), cut)
    blocks = [event["content_block"]["type"] for event in seen if event["type"] == "content_block_start"]
    assert blocks == ["tool_use", "text"]
    [text] = [event["delta"]["text"] for event in seen if event.get("delta", {}).get("type") == "text_delta"]
    assert text == "(The call of R was cut off: the context window is full after 3 tokens.)"


@pytest.mark.parametrize(
    ("reason", "api"),
    [
        ("end", "end_turn"),
        ("length", "max_tokens"),
        ("stop", "stop_sequence"),
        ("window", "model_context_window_exceeded"),
        ("tool", "tool_use"),
    ],
)
def test_stop_reasons_have_the_apis_names(reason: Any, api: str) -> None:
    delta = events(Finished(1, reason, 1, 0, 1, stop_sequence="END" if reason == "stop" else None))[-2]
    stopped = {"stop_sequence": "END" if reason == "stop" else None, "stop_details": None}
    assert delta["delta"] == {"stop_reason": api, **stopped}


def test_a_stream_says_of_its_usage_what_the_apis_does_at_either_end() -> None:
    start, *_, delta, _ = events(TextDelta(1, "a"), END)
    assert start["message"]["usage"]["output_tokens"] == 1
    assert {"cache_creation", "inference_geo", "service_tier"} <= start["message"]["usage"].keys()
    assert not {"cache_creation", "inference_geo", "service_tier"} & delta["usage"].keys()
    assert "context_management" not in delta


def test_who_asks_for_edits_of_the_context_is_told_that_there_were_none() -> None:
    reply = Reply("msg_1", "demo", lambda: "toolu_1", edits=True)
    fed = [reply.start(None), *reply.feed(TextDelta(1, "a")), *reply.feed(END)]
    assert fed[-2]["context_management"] == collect(fed)["context_management"] == {"applied_edits": []}


def test_an_event_is_two_lines_and_a_blank_one() -> None:
    name, data, *rest = sse({"type": "ping", "text": "é\n"}).decode().split("\n")
    assert (name, json.loads(data.removeprefix("data: ")), rest) == (
        "event: ping",
        {"type": "ping", "text": "é\n"},
        ["", ""],
    )


def test_a_hidden_thought_leaves_nothing_that_another_answer_could_not_replace() -> None:
    hidden, omitted = (Reply("m", "x", str, how) for how in ("never", "omitted"))
    assert not hidden.shows(ThinkingDelta(1, "hm")) and not hidden.shows(ThinkingEnd(1, "s"))
    assert not omitted.shows(ThinkingDelta(1, "hm")) and omitted.shows(ThinkingEnd(1, "s"))
    assert Reply("m", "x", str).shows(ThinkingDelta(1, "hm")) and hidden.shows(TextDelta(1, "a"))


def test_an_answer_that_starts_anew_forgets_what_it_was() -> None:
    reply = Reply("m", "x", str)
    first = [reply.start(None), *reply.feed(TextDelta(1, "a"))]
    assert [reply.start(None), *reply.feed(TextDelta(1, "a"))] == first
