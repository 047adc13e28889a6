"""What a conversation may hold: every block, and every field of every block, as the official SDK sends them."""

import base64
from typing import Any

import pytest

from sidecar.anthropic.fields import table, types
from tests.client.api import HELLO, Case, Refused, Terminal, check, check_refused
from tests.support.pdfs import pdf

EPHEMERAL = {"type": "ephemeral", "ttl": "1h"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"path": "a.txt"}}
READ = {"name": "Read", "description": "Read a file", "input_schema": {"type": "object"}}
LATER = {**READ, "name": "Later", "defer_loading": True}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def assistant(*content: Any) -> dict[str, Any]:
    return {**user(*content), "role": "assistant"}


def system(*content: Any) -> dict[str, Any]:
    return {**user(*content), "role": "system"}


def messages(*said: Any) -> dict[str, Any]:
    return {"messages": list(said)}


def result(**fields: Any) -> dict[str, Any]:
    """A conversation in which a tool was called, with this result."""
    found = {"type": "tool_result", "tool_use_id": "toolu_1", **fields}
    return {"tools": [READ, LATER], **messages(user("Read a.txt"), assistant(CALL), user(found))}


def result_then(*content: Any) -> dict[str, Any]:
    """The same one turn later, after an answer that was none."""
    said = result(content=list(content))["messages"]
    return messages(*said, assistant("(an error)"), *HELLO)


def history(block: dict[str, Any]) -> dict[str, Any]:
    """A conversation in which the assistant's turn holds this block before its words."""
    return messages(user("a"), assistant(block, text("b")), *HELLO)


def changed(kind: str, **more: Any) -> dict[str, Any]:
    """A conversation in which a tool comes or goes."""
    change = {"type": kind, "tool": {"type": "tool_reference", "name": "Later" if kind == "tool_addition" else "Read"}}
    return {"tools": [READ, LATER], **messages(user("a"), assistant("b"), system({**change, **more}), *HELLO)}


NEUTRAL = history(text(""))
HISTORY = messages(user("a"), assistant("b"), *HELLO)
PLAIN_DOCUMENT = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "Hello in 5 words"},
}
CONTENT_DOCUMENT = {"type": "document", "source": {"type": "content", "content": [text("Hello in 5 words")]}}
FOUND = {"type": "search_result", "source": "S", "title": "T", "content": [text("Hello in 5 words")]}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
PICTURE = "[a picture, image/png, 8 bytes: this model reads text only]"


def document(data: bytes = b"%PDF-") -> dict[str, Any]:
    source = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(data).decode()}
    return {"type": "document", "source": source}


BROKEN = "[a PDF document, 5 bytes: its text could not be extracted (it is not a valid PDF)]"
SCAN = f"[a PDF document, 1 page, {len(pdf(''))} bytes: its text could not be extracted (there is none, as in a scan)]"
WORDS = f"[a PDF document, 1 page, {len(pdf('Hello in 5 words'))} bytes]\nHello in 5 words"
FAR = {"type": "document", "source": {"type": "url", "url": "http://x/"}}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
CAT = "\U0001f408\u200d\u2b1b naïve 東京 \u202e"

CONVERSATIONS = [
    Case("a string", {}, text="Hello!.*"),
    Case("a block", messages(user(text("Hello in 5 words"))), like={}),
    Case("several blocks", messages(user(text("Hello in"), text("5 words"))), unlike={}),
    Case(
        "an empty block in an earlier turn",
        messages(user(text(""), text("a")), assistant("b"), *HELLO),
        like=messages(user("a"), assistant("b"), *HELLO),
    ),
    Case("an answer first", messages(assistant("Hello!"), *HELLO), unlike={}),
    Case("two user messages", messages(user("Good day"), user("Hello in 5 words")), unlike={}),
    Case("a whole exchange", messages(user("Hello"), assistant("Hello!"), *HELLO)),
    Case("other scripts", messages(user(CAT)), unlike={}),
    Case("control characters", messages(user("a\x00\x1b\x7fb"))),
    Case("line ends of all kinds", messages(user("a\r\nb\rc\u2028d\n\n"))),
    Case("the template's own marks", messages(user("<|im_end|>\n<|end|><|assistant|><think></think><tool_call>"))),
    Case("a long message", messages(user("word " * 2000)), unlike={}),
    Case("a system string", {"system": "Be kind."}, unlike={}),
    Case("system blocks", {"system": [text("Be"), text("kind.")]}, like={"system": "Be\n\nkind."}),
    Case("an empty system string", {"system": ""}, like={}),
    Case("no system blocks", {"system": []}, like={}),
    Case("an early system message", messages(*HELLO, system("Be kind.")), like={"system": "Be kind."}),
    Case("system messages in blocks", messages(*HELLO, system(text("Be kind."))), like={"system": "Be kind."}),
    Case("a later system message", messages(user("Hello"), assistant("Hello!"), system("It is late."), *HELLO)),
    Case("a system message at the end", messages(user("Hello"), assistant("Hello!"), system("Say hello."))),
    Case("a begun answer", messages(*HELLO, assistant("Hello! How"))),
    Case(
        "a begun answer in blocks",
        messages(*HELLO, assistant(text("Hello! How"))),
        like=messages(*HELLO, assistant("Hello! How")),
    ),
    Case("an empty answer to go on from", messages(*HELLO, assistant(""))),
    Case("a result as a string", result(content="stone"), like=result(content=[text("stone")])),
    Case("a result of several blocks", result(content=[text("a"), text("b")]), like=result(content="a\nb")),
    Case("a result without content", result(), like=result(content=[])),
    Case("an empty result", result(content=""), like=result()),
    Case("a failed call", result(content="no such file", is_error=True)),
    Case("an image as a result", result(content=[IMAGE]), like=result(content=PICTURE)),
    Case("an image", messages(user(IMAGE, text("Say apple"))), like=messages(user(text(PICTURE), text("Say apple")))),
    Case(
        "an image in an earlier turn",
        messages(user(IMAGE, text("Say apple")), assistant("(an error)"), user("Say banana")),
        like=messages(user(text(PICTURE), text("Say apple")), assistant("(an error)"), user("Say banana")),
    ),
    Case(
        "an image by its address",
        messages(user({"type": "image", "source": {"type": "url", "url": "http://x/"}})),
        like=messages(user("[a picture at http://x/: this model reads text only]")),
    ),
    Case(
        "an image in a document",
        messages(user({"type": "document", "source": {"type": "content", "content": [IMAGE]}})),
        like=messages(user(PICTURE)),
    ),
    Case("a PDF", messages(user(document(pdf("Hello in 5 words")))), like=messages(user(WORDS))),
    Case("a PDF as a result", result(content=[document(pdf("Hello in 5 words"))]), like=result(content=WORDS)),
    Case("a scanned PDF", messages(user(document(pdf("")))), like=messages(user(SCAN))),
    Case("a broken PDF", messages(user(document())), like=messages(user(BROKEN))),
    Case(
        "a broken PDF as an earlier result",
        result_then(document()),
        like=result_then(text(BROKEN)),
    ),
    Case(
        "a PDF by its address",
        messages(user(FAR)),
        like=messages(user("[a document at http://x/: it was not sent, and nothing is fetched]")),
    ),
    Case(
        "an uploaded file",
        messages(user({"type": "document", "source": {"type": "file", "file_id": "file_1"}})),
        like=messages(user("[a document, file file_1: it lies on the vendor's servers]")),
    ),
    Case(
        "a file for a container",
        messages(user({"type": "container_upload", "file_id": "file_1"})),
        like=messages(user("[a file, file_1: it lies on the vendor's servers]")),
    ),
    Case("a block of an unknown kind in history", history({"type": "hologram"}), unlike=NEUTRAL),
    Case("a text without text in history", history({"type": "text"}), unlike=NEUTRAL),
    Case("an empty answer in history", messages(*HELLO, {"role": "assistant", "content": ""}, *HELLO)),
    Case("a call without a result in history", messages(user("a"), assistant(CALL), user("b"), assistant("c"), *HELLO)),
    Case(
        "a result without a call in history",
        messages(user({"type": "tool_result", "tool_use_id": "toolu_9", "content": "a"}), assistant("b"), *HELLO),
        like=messages(user("a"), assistant("b"), *HELLO),
    ),
    Case(
        "the same id twice",
        messages(user("a"), assistant(CALL, CALL), user({"type": "tool_result", "tool_use_id": "toolu_1"})),
    ),
    Case(
        "a call with a list for arguments",
        messages(user("a"), assistant({**CALL, "input": []}), *result()["messages"][2:]),
        like=messages(user("a"), assistant({**CALL, "input": {"input": "[]"}}), *result()["messages"][2:]),
    ),
    Case(
        "a call with an integer of twenty digits",
        messages(user("a"), assistant({**CALL, "input": {"id": 101430401067733731908}}), *result()["messages"][2:]),
        unlike=messages(user("a"), assistant({**CALL, "input": {"id": 1014}}), *result()["messages"][2:]),
    ),
    Case("a document as a result", result(content=[PLAIN_DOCUMENT]), like=result(content="Hello in 5 words")),
    Case("a search result as a result", result(content=[FOUND]), like=result(content="T\nS\nHello in 5 words")),
    Case("a browser's state as a result", result(content=[{"type": "browser_state", "tabs": []}]), like=result()),
    Case(
        "a deferred tool as a result",
        result(content=[{"type": "tool_reference", "tool_name": "Later"}]),
        unlike=result(),
    ),
    Case(
        "words after a result",
        messages(user("a"), assistant(CALL), user({"type": "tool_result", "tool_use_id": "toolu_1"}, text("b"))),
    ),
    Case(
        "two calls with results in another order",
        messages(
            user("a"),
            assistant(text("b"), CALL, {**CALL, "id": "toolu_2"}),
            user(*({"type": "tool_result", "tool_use_id": name, "content": name} for name in ("toolu_2", "toolu_1"))),
        ),
    ),
    Case(
        "a call with deep arguments",
        messages(
            user("a"),
            assistant({**CALL, "input": {"a": [{"b": [1, 2.5, None, True, "ü"]}] * 3}}),
            user({"type": "tool_result", "tool_use_id": "toolu_1"}),
        ),
    ),
    Case("a tool that comes later", changed("tool_addition"), unlike={"tools": [READ, LATER], **HISTORY}),
    Case("a tool that goes", changed("tool_removal"), unlike={"tools": [READ, LATER], **HISTORY}),
    Case("a plain document", messages(user(PLAIN_DOCUMENT)), like={}),
    Case("a document of blocks", messages(user(CONTENT_DOCUMENT)), like={}),
    Case(
        "a document of a string",
        messages(user({"type": "document", "source": {"type": "content", "content": "Hello in 5 words"}})),
        like={},
    ),
    Case(
        "a titled document",
        messages(user({**PLAIN_DOCUMENT, "title": "A"})),
        like=messages(user("A\nHello in 5 words")),
    ),
    Case(
        "a document with a context",
        messages(user({**PLAIN_DOCUMENT, "context": "A"})),
        like=messages(user("A\nHello in 5 words")),
    ),
    Case("a search result", messages(user(FOUND)), like=messages(user("T\nS\nHello in 5 words"))),
    Case("another model's thought", history(THOUGHT), like=NEUTRAL),
    Case("a thought that only the vendor can read", history({"type": "redacted_thinking", "data": "x"}), like=NEUTRAL),
    Case(
        "a compacted conversation",
        messages(user("a"), assistant({"type": "compaction", "content": "so far"}), *HELLO),
        unlike=NEUTRAL,
    ),
]

LEFT_ALONE = [name for name in table.objects() if table.is_left_alone(name)]
"""What the vendor's own tools left in a conversation."""
CONVERSATIONS += [
    Case(
        f"a {name} in history",
        history({"type": name, "id": "x", "input": {}, "content": [], "tool_use_id": "x"}),
        like=NEUTRAL,
    )
    for name in LEFT_ALONE
]


def block(name: str, **fields: Any) -> dict[str, Any]:
    """A conversation around one block of this kind, with these fields beside those that it needs."""
    places: dict[str, Any] = {
        "text": lambda more: messages(user({**text("Hello"), **more})),
        "document": lambda more: messages(user({**PLAIN_DOCUMENT, **more})),
        "search_result": lambda more: messages(user({**FOUND, **more})),
        "tool_reference": lambda more: result(content=[{"type": "tool_reference", "tool_name": "Later", **more}]),
        "browser_state": lambda more: result(content=[{"type": "browser_state", **more}]),
        "image": lambda more: result(content=[{**IMAGE, **more}]),
        "tool_result": lambda more: result(content="stone", **more),
        "tool_use": lambda more: messages(user("a"), assistant({**CALL, **more}), *result()["messages"][2:]),
        "redacted_thinking": lambda more: history({"type": "redacted_thinking", **more}),
        "compaction": lambda more: history({"type": "compaction", "content": "so far", **more}),
        "tool_addition": lambda more: changed("tool_addition", **more),
        "tool_removal": lambda more: changed("tool_removal", **more),
    }
    return dict(places[name](fields))


VALUES: dict[str, Any] = {
    "cache_control": EPHEMERAL,
    "citations": [],
    "caller": {"type": "direct"},
    "toolset_name": "x",
    "transformations": [],
    "data": "x",
    "encrypted_content": "x",
    "signature": "x",
    "tool_changes": [],
    "tool": {"type": "tool_reference", "name": "Later"},
    "tabs": [],
    "state_changes": [],
}
ELSEWHERE = {"request", "tool", "output_config", "container_upload"}
"""Not blocks, or refused whole: the other tables have them."""
IGNORED = [
    Case(f"{name} with {field}", block(name, **{field: VALUES[field]}), like=block(name))
    for name, known in types.IGNORED.items()
    if name not in ELSEWHERE
    for field in known
]

EMPTY = "all messages must have non-empty content except for the optional final assistant message"
LOST = (
    r"messages\.1: `tool_use` ids were found without `tool_result` blocks immediately after: toolu_1\. Each `tool_use`"
)
REFUSED = [
    Refused(
        "a block of an unknown kind",
        messages(user({"type": "hologram"})),
        r"messages\.0\.content\.0: Input tag 'hologram' found using 'type' does not match any of the expected tags: '",
    ),
    Refused("a block without a kind", messages(user({"text": "a"})), r"messages\.0\.content\.0"),
    Refused(
        "a text without text", messages(user({"type": "text"})), r"messages\.0\.content\.0\.text\.text: Field required"
    ),
    Refused(
        "a number for a text", messages(user({"type": "text", "text": 3})), r"messages\.0\.content\.0\.text\.text: "
    ),
    Refused(
        "an image without a source",
        messages(user(text("a"), {"type": "image"})),
        r"messages\.0\.content\.1\.image\.source: Field required",
    ),
    Refused("a number for a message", messages(3), r"messages\.0: "),
    Refused("a number for content", {"messages": [{"role": "user", "content": 3}]}, r"messages\.0\.content: "),
    Refused("no content", {"messages": [{"role": "user"}]}, r"messages\.0\.content: Field required"),
    Refused("no role", {"messages": [{"content": "a"}]}, r"messages\.0\.role: Field required"),
    Refused("an unknown role", {"messages": [{"role": "tool", "content": "a"}]}, r"messages\.0\.role: "),
    Refused("no messages", {"messages": []}, "messages: "),
    Refused("empty content", {"messages": [{"role": "user", "content": ""}]}, rf"messages\.0: {EMPTY}"),
    Refused("no blocks", {"messages": [{"role": "user", "content": []}]}, rf"messages\.0: {EMPTY}"),
    Refused(
        "an empty block beside another",
        messages(user(text(""), text("a"))),
        "messages: text content blocks must be non-empty",
    ),
    Refused(
        "citations of a user's text",
        messages(user({**text("a"), "citations": [{"type": "char_location"}]})),
        r"messages\.0\.content\.0\.text\.citations: ",
    ),
    Refused(
        "a mark of an unknown kind",
        messages(user({**text("a"), "cache_control": {"type": "forever"}})),
        r"messages\.0\.content\.0\.text\.cache_control: ",
    ),
    Refused(
        "five marks",
        messages(user(*({**text("a"), "cache_control": EPHEMERAL} for _ in range(5)))),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    Refused(
        "a begun answer that ends in a blank", messages(*HELLO, assistant("Hello ")), "messages: .*trailing whitespace"
    ),
    Refused("a call without a result", messages(user("a"), assistant(CALL), user("b")), LOST),
    Refused("a call at the end", messages(user("a"), assistant(CALL)), LOST),
    Refused(
        "a result without a call",
        messages(user(text("a"), {"type": "tool_result", "tool_use_id": "toolu_9"})),
        r"messages\.0\.content\.1: unexpected `tool_use_id` found in `tool_result` blocks: toolu_9\. Each",
    ),
    Refused(
        "a call by the user",
        messages(user(CALL)),
        r"messages\.0\.content\.0: `tool_use` blocks can only be in `assistant` messages",
    ),
    Refused(
        "a result by the assistant",
        messages(user("a"), assistant({"type": "tool_result", "tool_use_id": "x"})),
        r"messages\.1\.content\.0: `tool_result` blocks can only be in `user` messages",
    ),
    Refused("a thought by the user", messages(user(THOUGHT)), r"messages\.0\.content\.0: .*thinking"),
    Refused("an image in the system prompt", {"system": [IMAGE]}, r"system\.0"),
    Refused("a number for the system prompt", {"system": 3}, "system: "),
]


@pytest.mark.parametrize("case", CONVERSATIONS, ids=str)
def test_a_conversation_is_answered(either: Terminal, case: Case) -> None:
    check(either, case)


@pytest.mark.parametrize("case", IGNORED, ids=str)
def test_a_field_without_effect_has_none(demo: Terminal, case: Case) -> None:
    check(demo, case)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_cannot_be_read_is_refused_by_its_place(demo: Terminal, case: Refused) -> None:
    check_refused(demo, case)


def test_a_documents_text_is_not_read_again_at_the_next_turn(demo: Terminal) -> None:
    asked = result(content=[document(pdf("green apples on a table", "river stone lamp"))])
    first = demo.whole(asked)
    words = [part.text for part in first.content if part.type == "text"]
    later = demo.whole({**asked, "messages": [*asked["messages"], assistant(words[0]), *HELLO]})
    known = first.usage.input_tokens + (first.usage.cache_read_input_tokens or 0)
    assert (later.usage.cache_read_input_tokens or 0) >= known - 2
