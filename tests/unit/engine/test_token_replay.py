"""Answers are kept as they were sampled, told apart by what came before them, and forgotten oldest first."""

import tracemalloc

import pytest

from sidecar.conversation import Message, Text
from sidecar.engine.prompting.token_replay import DIGEST, ENTRY, PLACES, Replay, digests

ASKED, ELSEWHERE = b"asked".ljust(DIGEST), b"elsewhere".ljust(DIGEST)


def test_equal_words_in_different_places_keep_their_own_tokens() -> None:
    replay = Replay()
    replay.add("done", ASKED, [1, 2])
    replay.add("done", ELSEWHERE, [3])
    assert (replay.find("done", ASKED), replay.find("done", ELSEWHERE)) == ([1, 2], [3])


def test_after_a_change_of_what_came_before_the_last_answer_in_these_words_serves() -> None:
    replay = Replay()
    replay.add("done", ASKED, [1, 2])
    replay.add("done", ELSEWHERE, [3])
    assert replay.find("done", b"changed".ljust(DIGEST)) == [3]
    assert replay.find("never said", ASKED) == []


def test_what_was_found_for_a_place_stays_whatever_is_said_later() -> None:
    """Of a conversation that goes on, no word may change: all after it would be read again."""
    replay = Replay()
    replay.add("done", ELSEWHERE, [3])
    places = [bytes([number]).ljust(DIGEST) for number in range(2)]
    first = replay.find("done", places[0]), replay.find("from before a restart", places[1])
    replay.add("done", b"later".ljust(DIGEST), [4])
    replay.add("from before a restart", b"later".ljust(DIGEST), [5])
    assert (replay.find("done", places[0]), replay.find("from before a restart", places[1])) == first == ([3], [])
    assert replay.find("from before a restart", b"new".ljust(DIGEST)) == [5]


def test_an_answer_given_again_replaces_the_first() -> None:
    replay = Replay(capacity=ENTRY + DIGEST + 12)
    for token in range(100):
        replay.add("done", ASKED, [token] * 3)
    assert replay.find("done", ASKED) == [99] * 3


def test_the_least_recently_used_are_forgotten() -> None:
    replay = Replay(capacity=3 * (ENTRY + DIGEST + 8))
    for word in "abc":
        replay.add(word, ASKED, [1, 1])
    replay.find("a", ASKED)
    replay.add("d", ASKED, [1, 1])
    assert [word for word in "acdb" if replay.find(word, ASKED)] == ["a", "c", "d"]


def test_what_is_said_everywhere_is_kept_for_the_last_places() -> None:
    replay = Replay()
    for number in range(100):
        replay.add("done", bytes([number]).ljust(DIGEST), [number])
    last_first = reversed(range(99))
    kept = [number for number in last_first if replay.find("done", bytes([number]).ljust(DIGEST)) == [number]]
    assert kept == [*reversed(range(100 - PLACES, 99))]


@pytest.mark.parametrize("tokens", [4, 400])
def test_what_is_counted_is_what_is_held(tokens: int) -> None:
    """Short answers are mostly overhead: counted by their tokens alone they would fill a hundred times the capacity."""
    tracemalloc.start()
    try:
        replay, before = Replay(capacity=500_000), tracemalloc.get_traced_memory()[0]
        for number in range(5000):
            replay.add(f"answer {number}", number.to_bytes(DIGEST, "big"), [number] * tokens)
        assert 350_000 < tracemalloc.get_traced_memory()[0] - before < 550_000
    finally:
        tracemalloc.stop()
    assert replay.find("answer 4999", ASKED) == [4999] * tokens and replay.find("answer 0", ASKED) == []


def test_a_digest_is_of_everything_before() -> None:
    messages = [Message("user", (Text("a"),)), Message("assistant", (Text("b"),))]
    start, middle, end = digests(messages)
    assert len({start, middle, end}) == 3
    assert [*digests(messages[:1])] == [start, middle]
