"""Whose turn it is, over tables and over made-up crowds."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.conversation import Priority
from sidecar.engine.scheduling.policy import (
    MAX_PER_SESSION,
    MAX_READING,
    MAX_ROWS,
    PROMOTED_S,
    TOLERANCE_S,
    Rank,
    Shares,
    Want,
    entrants,
    has_place,
    rank,
    waits,
)

RATE = 100.0
MAIN, SUBAGENT, SIDE, PREWARM = Priority


def turn(
    session: str = "a", priority: Priority = MAIN, unread: int = 1000, waited: float = 0.0, ahead: float = 0.0
) -> Rank:
    return rank(Want(session, priority, unread, waited), ahead, RATE)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (turn(unread=5000), turn(priority=SUBAGENT, unread=10)),
        (turn(priority=SUBAGENT, unread=5000), turn(priority=SIDE, unread=10)),
        (turn(priority=SIDE, unread=5000, ahead=50), turn(priority=PREWARM, unread=10)),
        (turn(unread=20), turn(unread=5000)),  # a question passes a book
        (turn(unread=5000, waited=50), turn(unread=100)),  # but not one that should be read by now
        (turn(priority=SIDE, waited=PROMOTED_S + 11), turn()),  # nor does the main conversation pass for ever
        (turn("b", SIDE, 5000), turn("a", MAIN, 10, ahead=TOLERANCE_S)),  # other sessions have their share
        (turn("a", MAIN, 10, ahead=TOLERANCE_S - 0.1), turn("b", MAIN, 5000)),  # within reason
    ],
)
def test_who_comes_before_whom(first: Rank, second: Rank) -> None:
    assert first < second


def test_who_may_begin() -> None:
    short, long = turn(unread=10), turn(unread=9000)
    full = [turn(unread=1000)] * MAX_READING
    assert entrants([long, short], []) == [1, 0]
    assert entrants([long, short], full) == [1]  # only what would be read before all of these


@pytest.mark.parametrize(
    ("session", "priority", "rows", "expected"),
    [
        ("a", MAIN, {}, True),
        ("a", SUBAGENT, {"a": MAX_PER_SESSION - 1}, True),
        ("a", MAIN, {"a": MAX_PER_SESSION}, False),  # room for another terminal
        ("b", MAIN, {"a": MAX_PER_SESSION}, True),
        ("c", MAIN, {"a": MAX_PER_SESSION, "b": MAX_ROWS - MAX_PER_SESSION}, False),
        ("a", PREWARM, {"b": 1}, False),  # nobody waits for it, and somebody else is at work
        ("a", PREWARM, {}, True),
    ],
)
def test_who_has_a_place(session: str, priority: Priority, rows: dict[str, int], expected: bool) -> None:
    assert has_place(Want(session, priority, 10, 0.0), rows) is expected


def test_how_long_the_others_wait() -> None:
    reading = [(turn(unread=500), 500), (turn(priority=SIDE, unread=300), 300)]
    waiting = [(turn(priority=SIDE, unread=400), 400), (turn(unread=600), 600)]
    assert waits(waiting, reading, RATE, free=5, row_s=9.0) == [5.0, 14.0]
    assert waits(waiting, [], RATE, free=0, row_s=9.0) == [9.0, 18.0]
    assert waits([], reading, RATE, free=5, row_s=9.0) == []


@dataclass(eq=False)
class Reader:
    session: str
    priority: Priority
    unread: int
    arrived: float

    def want(self, now: float) -> Want:
        return Want(self.session, self.priority, self.unread, now - self.arrived)


SLICE = 15
"""Tokens of one slice: 0.15 s at RATE."""


def read_one(readers: list[Reader], shares: Shares, now: float) -> tuple[Reader, float]:
    """One slice for whoever's turn it is: who it was, and how long it took."""
    reader = min(readers, key=lambda each: rank(each.want(now), shares.ahead(each.session), RATE))
    tokens = min(SLICE, reader.unread)
    reader.unread -= tokens
    shares.charge(reader.session, tokens / RATE, {each.session for each in readers})
    return reader, tokens / RATE


crowds = st.lists(
    st.builds(
        Reader,
        st.sampled_from("abc"),
        st.sampled_from([MAIN, SUBAGENT, SIDE]),
        st.integers(1, 3000),
        st.just(0.0),
    ),
    min_size=1,
    max_size=8,
)


@given(crowds)
def test_everybody_is_read_in_the_end_and_no_time_is_lost(readers: list[Reader]) -> None:
    shares, now, todo = Shares(), 0.0, sum(each.unread for each in readers)
    while readers:
        _, seconds = read_one(readers, shares, now)
        now += seconds
        readers = [each for each in readers if each.unread]
    assert now == pytest.approx(todo / RATE)


@given(
    st.lists(st.sampled_from("abcb"), min_size=2, max_size=12),
    st.lists(st.sampled_from(Priority), min_size=12, max_size=12),
)
def test_sessions_that_always_want_get_the_same_however_many_requests_they_have(
    sessions: list[str], priorities: list[Priority]
) -> None:
    readers = [
        Reader(session, min(SIDE, priority), 1_000_000, 0.0)
        for session, priority in zip(sessions, priorities, strict=False)
    ]
    shares, now, had = Shares(), 0.0, Counter[str]()
    for _ in range(400):
        reader, seconds = read_one(readers, shares, now)
        had[reader.session] += seconds
        now += seconds
        counts = [had[session] for session in set(sessions)]
        assert max(counts) - min(counts) <= TOLERANCE_S + 2 * SLICE / RATE


@given(st.integers(500, 3000), st.sampled_from([MAIN, SUBAGENT, SIDE]), st.booleans())
def test_nobody_starves_though_shorter_and_more_urgent_ones_come_all_the_time(
    unread: int, priority: Priority, same_session: bool
) -> None:
    """As much as can be read comes in, always a little before the one that is watched."""
    patient = Reader("a", priority, unread, 0.0)
    readers, shares, now, others = [patient], Shares(), 0.0, 0
    while patient.unread:
        if not [each for each in readers if each is not patient]:
            others += 1
            readers.append(Reader("a" if same_session else f"other {others}", MAIN, SLICE, now))
        reader, seconds = read_one(readers, shares, now)
        now += seconds
        readers = [each for each in readers if each.unread]
        assert now < PROMOTED_S + 4 * unread / RATE, (reader, now)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0.01, 1.0), st.sets(st.sampled_from("abcdef")))))
def test_shares_hold_nothing_of_sessions_that_only_one_wanted(charges: list[tuple[str, float, set[str]]]) -> None:
    shares = Shares()
    for session, seconds, wanting in charges:
        shares.charge(session, seconds, wanting | {session})
        assert all(shares.ahead(each) >= 0 for each in "abcdef")
        assert min(shares.ahead(each) for each in wanting | {session}) == 0
    for _ in range(len(charges) + 1):
        shares.charge("alone", 1.0, {"alone"})
    assert len(shares) == 0
