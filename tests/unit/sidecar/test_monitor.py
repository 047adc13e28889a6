"""The memory thread's looks and acts, without the thread."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.memory.guard import GB, Level, Lines, Sample
from sidecar.memory.monitor import Memory, View, shortage
from sidecar.server.status import health, memory_in_full
from sidecar.supervisor.engine import Backoff


class Stage:
    """A machine whose free memory the test says, and an engine that notes what is asked of it."""

    def __init__(self, *available: float) -> None:
        self.available: list[float | Exception] = list(available)
        self.shed_bytes: list[int] = []
        self.evacuated: list[str] = []
        self.engine = True
        self.memory = Memory(self.probe, Lines(), lambda: ())

    def probe(self) -> Sample:
        each = self.available.pop(0)
        if isinstance(each, Exception):
            raise each
        return Sample(int(each * GB))

    def shed(self, wanted: int) -> bool:
        self.shed_bytes.append(wanted)
        return self.engine

    def evacuate(self, why: str) -> bool:
        there, self.engine = self.engine, False
        if there:
            self.evacuated.append(why)
        return there

    def run(self, seconds: float = 1.0) -> "Stage":
        now = 0.0
        while self.available:
            self.memory.look(now)
            self.memory.act(now, self.shed, self.evacuate)
            now += seconds
        return self


def test_with_plenty_nothing_is_asked() -> None:
    stage = Stage(8, 8, 8).run()
    assert not stage.shed_bytes and not stage.evacuated and stage.memory.view.refusal() is None


def test_caution_asks_for_what_is_missing_and_critical_for_all() -> None:
    stage = Stage(1.9, 1.9, 1.9, 2.6, 0.9, 0.9, 0.9).run()
    assert stage.shed_bytes[:2] == [600_000_000, 600_000_000], "once in two seconds, and again while it is missing"
    assert stage.shed_bytes[-1] > 10**15
    assert stage.memory.view.sheds == len(stage.shed_bytes)


def test_an_engine_with_nothing_to_give_is_not_counted() -> None:
    stage = Stage(1.9, 1.9)
    stage.engine = False
    assert stage.run().memory.view.sheds == 0


def test_an_emergency_ends_the_engine_once() -> None:
    stage = Stage(*[0.4] * 6).run(0.25)
    assert len(stage.evacuated) == 1 and "0.4 GB were free" in stage.evacuated[0]
    assert stage.memory.view.evacuations == 1


def test_a_failing_probe_is_logged_once_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(8, *[OSError("no /proc")] * 5, 8, ValueError("odd"), 8)  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        stage.run()
    assert [record.getMessage() for record in caplog.records] == [
        "the memory probe fails; the last level stays until it sees again"
    ] * 2
    assert stage.memory.view.level is Level.SAFE and not stage.shed_bytes


def test_a_probe_that_never_worked_refuses_nobody() -> None:
    stage = Stage(*[OSError("no /proc")] * 50).run()  # type: ignore[arg-type]
    assert stage.memory.view.accepting and not stage.shed_bytes and not stage.evacuated


@given(st.lists(st.one_of(st.floats(1.0, 9.0), st.just(OSError("no /proc")), st.just(ValueError("odd"))), max_size=60))
def test_however_often_the_probe_fails_nobody_is_refused_or_ended_for_it(looks: list[float | Exception]) -> None:
    """None of the looks that succeed is below the Critical line."""
    memory = Stage()
    for now, each in enumerate(looks):
        memory.available = [each]
        memory.memory.look(float(now))
        memory.memory.act(float(now), memory.shed, memory.evacuate)
        assert memory.memory.view.refusal() is None and not memory.evacuated


def view(level: Level, available: float, **more: object) -> View:
    return View(Lines(), Sample(int(available * GB)), level, **more)  # type: ignore[arg-type]


def test_a_refusal_has_the_figures_and_what_to_close() -> None:
    low = view(Level.CRITICAL, 0.84, largest=(("firefox", 4_100_000_000), ("Xcode", 1_960_000_000)))
    assert low.refusal() == (
        "only 0.8 GB of memory are free, and new requests begin again above 1.8 GB: "
        "close something (firefox holds 4.1 GB, Xcode holds 2.0 GB) and try again"
    )
    assert "close something and try again" in str(view(Level.EMERGENCY, 0.1).refusal())
    assert view(Level.CAUTION, 1.5).refusal() is None
    assert "begin again in some seconds" in str(view(Level.CRITICAL, 8).refusal())


def test_what_is_missing_is_counted_to_where_caution_ends() -> None:
    assert shortage(view(Level.SAFE, 1.0)) == 0
    assert shortage(view(Level.CAUTION, 2.3)) == 200_000_000
    assert shortage(view(Level.CAUTION, 3.0)) == 0


@pytest.mark.parametrize(
    ("state", "level", "leaving", "status"),
    [
        ("ready", Level.SAFE, False, "healthy"),
        ("absent", Level.SAFE, False, "healthy"),
        ("loading", Level.CAUTION, False, "healthy"),
        ("ready", Level.CRITICAL, False, "degraded"),
        ("ready", Level.SAFE, True, "degraded"),
        ("evacuated", Level.EMERGENCY, False, "degraded"),
        ("refused", Level.SAFE, False, "degraded"),
        ("dead", Level.SAFE, False, "unhealthy"),
        ("stuck", Level.SAFE, False, "unhealthy"),
        ("failed", Level.CRITICAL, False, "unhealthy"),
    ],
)
def test_health_is_never_good_over_a_broken_engine(state: str, level: Level, leaving: bool, status: str) -> None:
    shown = health(state, view(level, 8.126), leaving)  # type: ignore[arg-type]
    assert shown["status"] == status
    assert shown["memory"]["accepting_requests"] is (status == "healthy" or state in ("dead", "stuck"))
    assert shown["memory"] | {"status": level.label, "available_gb": "8.13"} == shown["memory"]
    assert shown["engine"] == {"state": state}


def test_the_status_counts_what_was_done() -> None:
    shown = memory_in_full(view(Level.SAFE, 8, sheds=3, evacuations=1), None, refused=2)
    assert (shown["shed"], shown["refused"], shown["evacuated"]) == (3, 2, 1)


def test_a_model_given_up_again_and_again_waits_longer_each_time_until_all_is_calm() -> None:
    backoff, waits = Backoff(), []
    for now in (0, 10, 20, 30, 40, 50, 60, 70, 1000):
        backoff.push(now)
        waits.append(backoff.until - now)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 5]
