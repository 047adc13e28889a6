"""Nothing that a client keeps in its history is refused: it would be sent again with every turn, for good."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from sidecar import frames
from sidecar.anthropic import request as api
from sidecar.anthropic.content.blocks import media
from sidecar.anthropic.content.remarks import Extract
from sidecar.conversation import Call, Conversation, Result, Text
from sidecar.errors import InvalidRequest
from tests.support.strategies import encoded, sdk_blocks, sdk_histories

CALL = {"type": "tool_use", "id": "t1", "name": "t", "input": {}}


def conversation(messages: list[Any], **extracts: Extract) -> Conversation:
    body = encoded({"model": "m", "max_tokens": 1, "messages": messages})
    asked = api.conversation(api.parse_messages(body), extracts)
    [sent] = frames.Decoder(frames.ToEngine).feed(frames.encode(frames.Count(1, asked)))
    assert sent.conversation == asked
    return asked


def history(*blocks: Any, role: str = "user") -> list[Any]:
    """The blocks in an earlier message, and after it a turn in which nothing is wrong."""
    before = [{"role": "user", "content": "a"}] if role == "assistant" else []
    after = [{"role": "assistant", "content": "b"}] if role == "user" else []
    return [*before, {"role": role, "content": list(blocks)}, *after, {"role": "user", "content": "c"}]


def said(*blocks: Any, role: str = "user") -> list[str]:
    """What the model is told in the place of these."""
    asked = conversation(history(*blocks, role=role))
    return [block.text for block in asked.messages[int(role == "assistant")].blocks if isinstance(block, Text)]


@settings(suppress_health_check=[*HealthCheck])
@given(sdk_histories())
def test_whatever_the_official_types_allow_is_accepted_in_a_history(messages: list[Any]) -> None:
    conversation(messages)


@settings(suppress_health_check=[*HealthCheck])
@given(sdk_blocks())
def test_whatever_they_allow_is_the_same_at_each_turn(block: Any) -> None:
    """Or all behind it would be read again."""
    messages = history(block)
    later = conversation([*messages, {"role": "assistant", "content": "d"}, {"role": "user", "content": "e"}])
    assert later.messages[:2] == conversation(messages).messages[:2]


TEXT_ONLY = "this model reads text only"


def image(**source: Any) -> dict[str, Any]:
    return {"type": "image", "source": source}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "source": source}


MIXED = document(type="content", content=[{"type": "text", "text": "a"}, image(type="url")])
FAR, KEPT = "it was not sent, and nothing is fetched", "it lies on the vendor's servers"
ODD: list[tuple[Any, list[str]]] = [
    ({"type": "hologram", "depth": 3}, ["[a block of the type hologram: it cannot be read]"]),
    ({"text": "a"}, ["[a block of no type: it cannot be read]"]),
    (3, ["[a block of no type: it cannot be read]"]),
    ({"type": "text"}, ["[a block of the type text: it cannot be read]"]),
    ({"type": "text", "text": 3}, ["[a block of the type text: it cannot be read]"]),
    ({"type": "text", "text": ""}, []),
    ({"type": "image"}, ["[a block of the type image: it cannot be read]"]),
    (image(type="base64", media_type="image/x", data="?"), [f"[a picture, image/x, 0 bytes: {TEXT_ONLY}]"]),
    (image(type="url", url="http://x/y.png"), [f"[a picture at http://x/y.png: {TEXT_ONLY}]"]),
    (image(type="file", file_id="file_1"), [f"[a picture, file file_1: {TEXT_ONLY}]"]),
    (image(type="hologram"), [f"[a picture: {TEXT_ONLY}]"]),
    (document(type="url", url="http://x/y.pdf"), [f"[a document at http://x/y.pdf: {FAR}]"]),
    (document(type="file", file_id="file_1"), [f"[a document, file file_1: {KEPT}]"]),
    (document(type="base64", media_type="text/plain", data="YcOk"), ["aä"]),
    (document(type="base64", media_type="a/b", data="YcOk"), [f"[a document, a/b, 3 bytes: {TEXT_ONLY}]"]),
    (MIXED, [f"a\n[a picture: {TEXT_ONLY}]"]),
    ({"type": "container_upload", "file_id": "file_1"}, [f"[a file, file_1: {KEPT}]"]),
    ({"type": "container_upload"}, [f"[a file: {KEPT}]"]),
    ({"type": "browser_state", "tabs": []}, []),
    ({"type": "tool_reference", "tool_name": "x"}, []),
    ({"type": "server_tool_use", "id": 3}, []),
    (CALL, ["[a block of the type tool_use: it cannot be read]"]),
    ({"type": "thinking", "thinking": "hm", "signature": "s"}, []),
    ({"type": "tool_result", "tool_use_id": "t9", "content": "nine"}, ["nine"]),
    ({"type": "tool_result"}, ["[a block of the type tool_result: it cannot be read]"]),
]


@pytest.mark.parametrize(("block", "expected"), ODD, ids=[json.dumps(block)[:60] for block, _ in ODD])
def test_what_cannot_be_read_becomes_a_remark(block: Any, expected: list[str]) -> None:
    assert said(block) == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "thinking", "thinking": 3, "signature": None}, []),
        ({"type": "redacted_thinking"}, []),
        ({"type": "image", "source": {"type": "url"}}, ["[a picture: this model reads text only]"]),
        ({"type": "document", "source": {"type": "text", "data": "a"}}, ["a"]),
        ({"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}]}, ["a"]),
    ],
)
def test_an_answer_of_another_program_may_hold_anything(block: Any, expected: list[str]) -> None:
    assert said(block, role="assistant") == expected


@pytest.mark.parametrize("content", [None, 3, {"type": "text", "text": "a"}, "", []])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_message_without_content_may_stand_in_a_history(role: str, content: Any) -> None:
    middle = [{"role": "user", "content": "a"}, {"role": role, "content": content}]
    conversation([*middle, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}])


INPUTS: list[tuple[str, dict[str, Any]]] = [
    ('{"id": 101430401067733731908}', {"id": 101430401067733731908}),
    ('{"id": [-%s]}' % ("9" * 3999), {"id": [-int("9" * 3999)]}),
    ('{"id": %s}' % ("9" * 5000), {"id": "9" * 5000}),
    ('{"x": 1e400, "y": -1e999, "z": 1.5}', {"x": "1e400", "y": "-1e999", "z": 1.5}),
    ('{"x": NaN, "y": [-Infinity, 101430401067733731908]}', {"x": "NaN", "y": ["-Infinity", 101430401067733731908]}),
    ("null", {}),
    ('""', {}),
    ('"{\\"a\\": 1}"', {"a": 1}),
    ('"words"', {"input": '"words"'}),
    ("[1, 2]", {"input": "[1, 2]"}),
    ("3", {"input": "3"}),
    ('{"a": "\\ud83d"}', {"a": "\ufffd"}),
    ('{"a": "\\ud83d\\ude00 \\\\ud83d"}', {"a": "\U0001f600 \\ud83d"}),
    ("[" * 300 + "]" * 300, {"input": "[" * 300 + "]" * 300}),
]  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), INPUTS, ids=[written[:40] for written, _ in INPUTS])
def test_arguments_come_back_as_they_were_written(written: str, expected: dict[str, Any]) -> None:
    called = json.dumps([{**CALL, "input": "HERE"}, {"type": "text", "text": "so"}]).replace('"HERE"', written)
    result = '{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "none"}]}'
    messages = f'[{{"role": "user", "content": "a"}}, {{"role": "assistant", "content": {called}}}, {result}]'
    request = api.parse_messages(f'{{"model": "m", "max_tokens": 1, "messages": {messages}}}'.encode())
    assert api.conversation(request).messages[1].blocks == (Call("t1", "t", expected), Text("so"))


def test_half_a_character_is_shown_as_one_that_is_missing() -> None:
    """Programs that cut a text where they count 16 bits leave one."""
    assert said({"type": "text", "text": "cat \ud83d"}) == ["cat \ufffd"]
    assert said({"type": "text", "text": "\ude00\U0001f600\ud83d\ud83d"}) == ["\ufffd\U0001f600\ufffd\ufffd"]


def test_halves_are_told_from_whole_ones_and_from_what_only_looks_so() -> None:
    for length in range(1, 5):
        for pieces in itertools.product(["\\\\", "\\ud83d", "\\ude00", "ud83d", "a"], repeat=length):
            written = f'"{"".join(pieces)}"'
            body = f'{{"model": "m", "max_tokens": 1, "messages": [{{"role": "user", "content": {written}}}]}}'
            [block] = api.conversation(api.parse_messages(body.encode())).messages[0].blocks
            expected = json.loads(written).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            assert block == Text(expected), written


def result(**fields: Any) -> list[Any]:
    """A tool's result in the request's own message."""
    returned = {"type": "tool_result", "tool_use_id": "t1", **fields}
    return [*history(CALL, role="assistant")[:2], {"role": "user", "content": [returned]}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": [{"type": "audio", "data": "x"}]}, Result("t1", "[a block of the type audio: it cannot be read]")),
        ({"content": [3, {"type": "text", "text": "a"}]}, Result("t1", "[a block of no type: it cannot be read]\na")),
        ({"content": 3}, Result("t1", "")),
        ({"content": "a", "is_error": "yes"}, Result("t1", "a")),
        ({"content": [image(type="x")]}, Result("t1", f"[a picture: {TEXT_ONLY}]")),
    ],
)
def test_what_a_tool_returned_is_never_refused(fields: dict[str, Any], expected: Result) -> None:
    """It is no mistake of who sends it, and the next message would go out together with it."""
    assert conversation(result(**fields)).messages[2].blocks == (expected,)


@pytest.mark.parametrize("odd", [{"type": "hologram"}, {"type": "text", "text": 3}, {"type": "image"}, CALL, 3])
def test_a_fault_in_the_requests_own_message_is_told_by_its_place(odd: Any) -> None:
    """Whoever made it is there to read it; what stood in the history before is no matter."""
    messages = history(odd)
    with pytest.raises(InvalidRequest, match=r"^messages\.2\.content\.0"):
        conversation([*messages[:-1], {"role": "user", "content": [odd]}])


PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}


def test_documents_are_found_wherever_they_stand() -> None:
    inside = {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "image", "source": {"type": "url"}}]},
    }
    body = {"model": "m", "max_tokens": 1, "messages": [*history(PDF, inside), *result(content=[PDF])]}
    kinds = [type(block).__name__ for block in media(api.parse_messages(encoded(body)))]
    assert kinds == ["Document", "Document", "Image", "Document"]


@pytest.mark.parametrize(
    ("extract", "expected"),
    [
        (Extract(1, ("words",)), "[a PDF document, 1 page, 5 bytes]\nwords"),
        (Extract(2, ("one", "two")), "[a PDF document, 2 pages, 5 bytes]\n[page 1]\none\n[page 2]\ntwo"),
        (
            Extract(3, ("one", None), "it takes too long"),
            "[a PDF document, 3 pages, 5 bytes]\n[page 1]\none\n[page 2]\n[it cannot be read]\n"
            "[the pages behind it are left out: it takes too long]",
        ),
        (
            Extract(2, ("", "")),
            "[a PDF document, 2 pages, 5 bytes: its text could not be extracted (there is none, as in a scan)]",
        ),
        (
            Extract(problem="it is encrypted"),
            "[a PDF document, 5 bytes: its text could not be extracted (it is encrypted)]",
        ),
    ],
)
def test_a_documents_text_stands_in_its_place_or_a_remark_does(extract: Extract, expected: str) -> None:
    asked = conversation(history({**PDF, "title": "A", "context": "B"}), **{"JVBERi0=": extract})
    assert asked.messages[0].blocks == (Text(f"A\nB\n{expected}"),)


def test_a_documents_text_is_cut_where_the_window_would_have_no_room_for_more() -> None:
    request = api.parse_messages(encoded({"model": "m", "max_tokens": 1, "messages": history(PDF)}))
    [block] = api.conversation(request, {"JVBERi0=": Extract(1, ("word " * 100,))}, most=12).messages[0].blocks
    assert isinstance(block, Text)
    assert block.text.endswith("\nword word wo\n[the rest, 488 characters, is left out]")
