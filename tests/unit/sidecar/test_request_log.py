"""Why a prompt was read again: the first difference from the request before, in words that a user understands."""

from typing import Any

import msgspec
import pytest

from sidecar.conversation import Call, Conversation, Message, Priority, Result, Sampling, Text, Tool
from sidecar.frames import Finished, Generate, Started
from sidecar.requests.prompt_diff import HEAD, Outline, difference
from sidecar.requests.request_log import RECENT, SESSIONS, SLACK, History, Record

SCHEMA: dict[str, Any] = {"type": "object"}
RUN, READ = Tool("Run", "Runs.", SCHEMA), Tool("Read", "Reads.", SCHEMA)
HI, CALLED = Message("user", (Text("hi"),)), Message("assistant", (Text("So."), Call("t1", "Run", {"x": 1})))
GIVEN, DONE = Message("user", (Result("t1", "out"), Text("Go on."))), Message("assistant", (Text("Done."),))
BASE = Conversation("Be kind. " * 5, (HI, CALLED, GIVEN), (RUN, READ), environment=("Monday.", "Folder /a/b"))


def changed(**changes: Any) -> Conversation:
    return msgspec.structs.replace(BASE, **changes)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (BASE, ""),
        (changed(messages=(HI, CALLED, GIVEN, DONE, HI)), ""),
        (
            changed(
                messages=(HI, CALLED, Message("user", (*GIVEN.blocks, Text("Quick.")))),
            ),
            "",
        ),
        (changed(messages=(HI,)), ""),
        (changed(system="Be mean. " * 5), "the system prompt, at character 4"),
        (changed(system=BASE.system + "More."), "the system prompt, at character 46"),
        (changed(tools=(RUN, Tool("Read", "Reads!", SCHEMA))), "tool Read: its description"),
        (changed(tools=(RUN, Tool("Read", "Reads.", {"type": "object", "title": "x"}))), "tool Read: its schema"),
        (changed(tools=(RUN, Tool("Find", "", SCHEMA), READ)), "tool Find, which is new"),
        (changed(tools=(READ,)), "tool Run, which is gone"),
        (changed(tools=(READ, RUN)), "the order of the tools"),
        (changed(tools=(RUN, READ, Tool("Found", "", SCHEMA, listed=False))), ""),
        (changed(answer_schema={"type": "object"}), "the answer's format"),
        (changed(environment=("Tuesday.", "Folder /a/b")), "the environment, at character 1"),
        (changed(messages=(Message("user", (Text("ho"),)), CALLED, GIVEN)), "message 1 (user), text 1 of 1"),
        (
            changed(messages=(HI, Message("assistant", (Text("So."), Call("t1", "Run", {"x": 2}))), GIVEN)),
            "message 2 (assistant), call 2 of 2",
        ),
        (
            changed(messages=(HI, CALLED, Message("user", (Result("t1", "[cleared]"), Text("Go on."))), DONE, HI)),
            "message 3 (user), result 1 of 2",
        ),
        (changed(messages=(HI, Message("assistant", (Text("So."),)), HI)), "message 2 (assistant), which is shorter"),
        (changed(thinking=True), "thinking, switched on"),
    ],
)
def test_the_first_difference_is_named(after: Conversation, said: str) -> None:
    assert difference(Outline.of(BASE), Outline.of(after)) == said


def test_what_comes_first_in_the_prompt_is_named_first() -> None:
    after = changed(system="No.", tools=(), environment=(), messages=(HI,), thinking=True)
    assert difference(Outline.of(BASE), Outline.of(after)).startswith("the system prompt")


def test_a_long_text_is_kept_in_little() -> None:
    long = "word " * HEAD
    one, other = (Outline.of(changed(system=long + end)) for end in ("a", "b"))
    assert difference(one, other) == f"the system prompt, after character {HEAD}"
    assert len(one.system.head) == HEAD


def ask(history: History, conversation: Conversation, cached: int, prompt: int = 3000, **how: Any) -> Record:
    todo = Generate(1, conversation, Sampling(), 8, **({"session": "0123456789ab"} | how))
    visit = history.begin("req_1", "demo", todo, Outline.of(conversation))
    return history.end(visit, Started(1, prompt, cached, cached // 2), Finished(1, "end", prompt, cached, 5), 1.0, 2.0)


def test_a_record_says_where_the_tokens_came_from() -> None:
    record = ask(History(), BASE, 100)
    assert (record.from_memory, record.from_disk, record.read, record.output) == (50, 50, 2900, 5)
    assert "3000 prompt tokens (50 from memory, 50 from disk, 2900 read)" in str(record)
    assert record.describe()["session"] == "01234567"


def test_a_reason_is_given_only_within_a_session_and_a_priority() -> None:
    history = History()
    other = changed(system="No.")
    assert ask(history, BASE, 0).why == ""
    assert ask(history, other, 0, session="another").why == ""
    assert ask(history, other, 0, priority=Priority.SIDE).why == ""
    assert ask(history, other, 0).why == "the system prompt, at character 1"


def test_a_conversation_that_goes_on_but_is_read_again_was_not_kept() -> None:
    history = History()
    ask(history, BASE, 0)
    longer = changed(messages=(*BASE.messages, DONE, HI))
    assert ask(history, longer, 3000 - SLACK).why == ""
    assert ask(history, longer, 0).why == "nothing, but what had been read was no longer kept"


def test_all_tokens_are_counted_by_where_they_came_from() -> None:
    history = History()
    ask(history, BASE, 0)
    ask(history, BASE, 2900)
    assert history.tokens() == {"from_memory": 1450, "from_disk": 1450, "read": 3100, "written": 10}


def test_only_the_last_ones_are_kept() -> None:
    history = History()
    for index in range(2 * SESSIONS):
        ask(history, BASE, 0, session=str(index))
    assert len(history.recent()) == RECENT
    assert len(history._last) == SESSIONS
    assert ask(history, changed(system="No."), 0, session="0").why == ""


def test_a_value_that_cannot_be_passed_on_is_not_this_ones_matter() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert Outline.of(changed(tools=(Tool("Run", "Runs.", {"enum": deep}),))).tools[0][2] == b""


def test_integers_beyond_64_bits_differ_as_others_do() -> None:
    one, other = (changed(messages=(HI, Message("assistant", (Call("t1", "Run", {"x": 10**30 + n}),)))) for n in (1, 2))
    assert "call" in difference(Outline.of(one), Outline.of(other))
