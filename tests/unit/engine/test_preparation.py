"""Who is prepared when, and what becomes of what goes wrong."""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from sidecar.engine.scheduling import preparation
from sidecar.engine.scheduling.preparation import LARGE, LARGE_ONES, PER_SESSION, THREADS, Gone, Job, Preparation

LIMIT = 10


class Kitchen:
    """Jobs that go on until they are let end."""

    def __init__(self) -> None:
        self.began: SimpleQueue[int] = SimpleQueue()
        self.ended: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self.preparation = Preparation(
            lambda job: self.ended.put((job.id, job.result)), lambda job, error: self.ended.put((job.id, error))
        )
        self.doors: dict[int, threading.Event] = {}

    def put(self, number: int, session: str = "a", size: int = 100, work: Callable[[Job], Any] | None = None) -> None:
        self.doors[number] = threading.Event()
        self.preparation.put(Job(number, session, size, work or self._wait))

    def _wait(self, job: Job) -> str:
        self.began.put(job.id)
        assert self.doors[job.id].wait(LIMIT)
        job.check()
        return f"{job.id} is done"

    def begins(self, count: int) -> set[int]:
        return {self.began.get(timeout=LIMIT) for _ in range(count)}

    def ends(self) -> tuple[int, Any]:
        return self.ended.get(timeout=LIMIT)


@pytest.fixture
def kitchen() -> Iterator[Kitchen]:
    kitchen = Kitchen()
    yield kitchen
    for door in kitchen.doors.values():
        door.set()


def test_what_is_prepared_is_handed_over(kitchen: Kitchen) -> None:
    kitchen.put(1)
    kitchen.doors[1].set()
    assert kitchen.ends() == (1, "1 is done")


def test_one_session_leaves_threads_to_others(kitchen: Kitchen) -> None:
    for number in range(PER_SESSION + 3):
        kitchen.put(number, "greedy")
    assert kitchen.begins(PER_SESSION) == set(range(PER_SESSION))
    kitchen.put(100, "another")
    assert kitchen.begins(1) == {100}
    kitchen.doors[0].set()
    assert kitchen.ends()[0] == 0
    assert kitchen.begins(1) == {PER_SESSION}


def test_short_ones_pass_large_ones(kitchen: Kitchen) -> None:
    for number in range(LARGE_ONES + 2):
        kitchen.put(number, f"s{number}", LARGE)
    assert kitchen.begins(LARGE_ONES) == set(range(LARGE_ONES))
    kitchen.put(100, "s100", 50)
    assert kitchen.begins(1) == {100}


def test_when_all_threads_are_at_work_the_shortest_is_next(kitchen: Kitchen) -> None:
    for number in range(THREADS):
        kitchen.put(number, f"s{number}")
    kitchen.begins(THREADS)
    kitchen.put(100, "x", 5000)
    kitchen.put(101, "y", 50)
    assert kitchen.preparation.count == THREADS + 2
    kitchen.doors[3].set()
    assert kitchen.begins(1) == {101}


@pytest.mark.parametrize(
    "error", [ValueError("why"), TypeError("x"), SystemExit(3), KeyboardInterrupt(), BaseException()]
)
def test_whatever_is_raised_fails_this_request_alone(kitchen: Kitchen, error: BaseException) -> None:
    """Rust's panics are no Exception in Python, either."""

    def work(job: Job) -> None:
        raise error

    for number in range(2 * THREADS):  # more than there are threads: none of them is lost
        kitchen.put(number, work=work)
        assert kitchen.ends() == (number, error)
    kitchen.put(1000)
    kitchen.doors[1000].set()
    assert kitchen.ends() == (1000, "1000 is done")


def test_what_nobody_waits_for_any_more_says_nothing(kitchen: Kitchen) -> None:
    for number in range(PER_SESSION + 1):
        kitchen.put(number)
    kitchen.begins(PER_SESSION)
    kitchen.preparation.cancel(0)  # at work
    kitchen.preparation.cancel(PER_SESSION)  # in the line
    kitchen.preparation.cancel(77)  # unknown
    for number in range(PER_SESSION):
        kitchen.doors[number].set()
    assert {kitchen.ends()[0] for _ in range(PER_SESSION - 1)} == set(range(1, PER_SESSION))
    kitchen.put(500)
    assert kitchen.begins(1) == {500}
    assert kitchen.ended.empty()


def test_a_job_is_told_that_nobody_waits() -> None:
    job = Job(1, "a", 1, lambda job: None)
    job.check()
    job.gone = True
    with pytest.raises(Gone):
        job.check()


def test_what_never_ends_is_given_up_and_its_thread_replaced(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "THREADS", 1)
    kitchen.put(1)
    kitchen.begins(1)
    kitchen.preparation.give_up(0.0)
    assert kitchen.ended.empty()
    kitchen.put(2, "b")
    kitchen.preparation.give_up(float("inf"))
    number, error = kitchen.ends()
    assert number == 1 and isinstance(error, TimeoutError)
    kitchen.doors[1].set()  # and when it ends after all, nobody hears of it
    kitchen.doors[2].set()
    assert kitchen.ends() == (2, "2 is done")
    assert kitchen.ended.empty()
