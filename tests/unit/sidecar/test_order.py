"""Every call has one result right behind it, and every result a call, whatever a client's history lacks."""

import json
from typing import Any

import pytest

from sidecar.anthropic import request as api
from sidecar.anthropic.content.order import MISSING
from sidecar.conversation import Call, Conversation, Result, Text
from sidecar.errors import InvalidRequest


def call(id_: str, name: str = "t") -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": {}}


def result(id_: str, words: str = "") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_, "content": words or id_}


def conversation(*contents: Any, system_at: int | None = None) -> Conversation:
    """The user and the assistant in turns."""
    said = [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]
    if system_at is not None:
        said.insert(system_at, {"role": "system", "content": "reminder"})
    return api.conversation(api.parse_messages(json.dumps({"model": "m", "max_tokens": 1, "messages": said}).encode()))


def paired(asked: Conversation) -> list[tuple[str, str]]:
    """The name of each call and its result's text; fails where one of the two is missing or stands elsewhere."""
    found, waiting, seen = [], dict[str, str](), set[str]()
    for message in asked.messages:
        calls = {block.id: block.name for block in message.blocks if isinstance(block, Call)}
        results = {block.call_id: block.text for block in message.blocks if isinstance(block, Result)}
        assert results.keys() == waiting.keys()
        assert not seen & calls.keys()
        found += [(waiting[id_], text) for id_, text in results.items()]
        waiting, seen = calls, seen | calls.keys()
    assert not waiting
    return found


def test_a_call_that_was_interrupted_in_an_earlier_turn_has_a_result_that_says_so() -> None:
    assert paired(conversation("a", [call("1")], "stop", "well", "b")) == [("t", MISSING)]


def test_one_of_two_calls_may_lack_its_result() -> None:
    asked = conversation("a", [call("1", "x"), call("2", "y")], [result("2", "two")], "well", "b")
    assert sorted(paired(asked)) == [("x", MISSING), ("y", "two")]


def test_a_result_without_a_call_is_text() -> None:
    asked = conversation([result("9", "nine")], "well", "b")
    assert asked.messages[0].blocks == (Text("nine"),)


def test_a_result_that_comes_a_turn_too_late_is_text_and_its_call_has_none() -> None:
    asked = conversation("a", [call("1")], "b", "well", [result("1", "late")], "well", "c")
    assert paired(asked) == [("t", MISSING)]
    assert asked.messages[4].blocks == (Text("late"),)


def test_a_second_result_of_one_call_is_text() -> None:
    asked = conversation("a", [call("1")], [result("1", "one"), result("1", "two")], "well", "b")
    assert paired(asked) == [("t", "one")]


def test_an_id_that_comes_again_in_a_later_turn_is_another_calls() -> None:
    asked = conversation("a", [call("1", "x")], [result("1", "one")], [call("1", "y")], [result("1", "two")])
    assert paired(asked) == [("x", "one"), ("y", "two")]


def test_an_id_that_comes_twice_in_one_turn_is_that_of_two_calls() -> None:
    asked = conversation(
        "a", [call("1", "x"), call("1", "y"), call("1~2", "z")], [result("1"), result("1"), result("1~2")]
    )
    assert paired(asked) == [("x", "1"), ("y", "1"), ("z", "1~2")]


def test_one_result_may_answer_two_calls_of_one_id() -> None:
    asked = conversation("a", [call("1", "x"), call("1", "y")], [result("1", "one")])
    assert sorted(paired(asked)) == [("x", "one"), ("y", MISSING)]


def test_a_mended_history_is_the_same_at_each_turn() -> None:
    """Or all behind it would be read again."""
    broken: list[Any] = ["a", [call("1"), call("1")], [result("2")], "well"]
    shorter, longer = conversation(*broken, "b"), conversation(*broken, "b", "c", "d")
    assert longer.messages[: len(shorter.messages)] == shorter.messages


LOST = "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: 1. Each `tool_use` block"


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (["a", [call("1")], "b"], LOST),
        (["a", [call("1")]], LOST),
        (["a", [call("1")], [result("2")]], LOST),
        (
            ["a", "b", [{"type": "text", "text": "c"}, result("1")]],
            "messages.2.content.1: unexpected `tool_use_id` found",
        ),
    ],
)
def test_what_the_requests_own_message_lacks_is_told_in_the_apis_words(contents: list[Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{says.replace('.', '[.]')}"):
        conversation(*contents)


def test_what_was_refused_once_is_not_refused_for_good() -> None:
    """The client keeps what it has sent, says the next thing, and sends both."""
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [call("1")]}]
    said += [{"role": "user", "content": "refused"}, {"role": "user", "content": "again"}]
    body = {"model": "m", "max_tokens": 1, "messages": said}
    assert paired(api.conversation(api.parse_messages(json.dumps(body).encode()))) == [("t", MISSING)]


def test_a_reminder_between_a_call_and_its_result_parts_them_not() -> None:
    assert paired(conversation("a", [call("1")], [result("1", "one")], system_at=2)) == [("t", "one")]
