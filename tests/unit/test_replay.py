"""Answers are kept as they were sampled, told apart by what came before them, and forgotten oldest first."""

from sidecar.engine.replay import Replay, digests
from sidecar.frames import Message, Text

ASKED, ELSEWHERE = b"asked", b"elsewhere"


def test_equal_words_in_different_places_keep_their_own_tokens() -> None:
    replay = Replay()
    replay.add("done", ASKED, [1, 2])
    replay.add("done", ELSEWHERE, [3])
    assert (replay.find("done", ASKED), replay.find("done", ELSEWHERE)) == ([1, 2], [3])


def test_after_a_change_of_what_came_before_the_last_answer_in_these_words_serves() -> None:
    replay = Replay()
    replay.add("done", ASKED, [1, 2])
    replay.add("done", ELSEWHERE, [3])
    assert replay.find("done", b"changed") == [3]
    assert replay.find("never said", ASKED) is None


def test_an_answer_given_again_replaces_the_first() -> None:
    replay = Replay(capacity=4)
    for token in range(100):
        replay.add("done", ASKED, [token] * 3)
    assert replay.find("done", ASKED) == [99] * 3


def test_the_least_recently_used_are_forgotten() -> None:
    replay = Replay(capacity=6)
    for word in "abc":
        replay.add(word, ASKED, [1, 1])
    replay.find("a", ASKED)
    replay.add("d", ASKED, [1, 1])
    assert [word for word in "abcd" if replay.find(word, ASKED)] == ["a", "c", "d"]


def test_a_digest_is_of_everything_before() -> None:
    messages = [Message("user", (Text("a"),)), Message("assistant", (Text("b"),))]
    start, middle, end = digests(messages)
    assert len({start, middle, end}) == 3
    assert [*digests(messages[:1])] == [start, middle]
