"""A request over which an engine has died does not end another one."""

import pytest

from sidecar.conversation import Conversation, Message, Sampling, Text
from sidecar.errors import InvalidRequest
from sidecar.frames import Count, Generate
from sidecar.requests.suspects import REMEMBERED, Suspects


def asked(words: str, number: int = 0, **more: object) -> Generate:
    conversation = Conversation("", (Message("user", (Text(words),)),))
    return Generate(number, conversation, Sampling(), 8, **more)  # type: ignore[arg-type]


def test_the_same_request_is_refused_the_second_time_whoever_asks() -> None:
    suspects = Suspects()
    suspects.check(asked("a"))
    suspects.blame(asked("a", 1, session="x"), 1.0)
    suspects.check(asked("b"))
    with pytest.raises(InvalidRequest, match="the engine has died"):
        suspects.check(asked("a", 2, session="y"))
    with pytest.raises(InvalidRequest):
        suspects.check(Count(3, asked("a").conversation))


def test_one_that_may_be_innocent_is_tried_again() -> None:
    suspects = Suspects()
    for _ in range(2):
        suspects.blame(asked("a"), 0.4)
        suspects.check(asked("a"))
    suspects.blame(asked("a"), 0.4)
    with pytest.raises(InvalidRequest):
        suspects.check(asked("a"))
    suspects.clear(asked("a"))
    suspects.check(asked("a"))
    suspects.blame(asked("a"), 0.0)
    assert not suspects._guilt


def test_not_more_are_remembered_than_a_few() -> None:
    suspects = Suspects()
    for number in range(REMEMBERED + 10):
        suspects.blame(asked(f"word {number}"), 1.0)
    assert len(suspects._guilt) == REMEMBERED
    suspects.check(asked("word 0"))
    with pytest.raises(InvalidRequest):
        suspects.check(asked(f"word {REMEMBERED + 9}"))
