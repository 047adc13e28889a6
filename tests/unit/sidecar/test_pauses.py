"""The clock that leaves pauses out, with times that are made up; real ones are in the process tier."""

import os

import pytest

from sidecar.shared.pauses import LATE_S, TICK_S, Clock


class Machine:
    """What a process sees of the time, and of what its threads have computed."""

    def __init__(self) -> None:
        self.time, self.computed = 100.0, 0.0
        self.clock = Clock(lambda: self.time, lambda: self.computed)

    def run(self, seconds: float, computing: float = 0.0) -> None:
        """With its thread that looks at the clock."""
        for _ in range(round(seconds / TICK_S)):
            self.time += TICK_S
            self.computed += computing * TICK_S
            self.clock.tick()

    def pause(self, seconds: float) -> None:
        self.time += seconds

    def hold(self, seconds: float) -> None:
        """One thread computes and lets no other run."""
        self.time += seconds
        self.computed += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    machine = Machine()
    machine.clock._kept = 1  # the test is its thread
    return machine


def test_time_passes_while_the_process_runs(machine: Machine) -> None:
    began = machine.clock.now()
    machine.run(60, computing=1.0)
    assert machine.clock.now() - began == pytest.approx(60)


def test_a_pause_does_not_count_whoever_asks_first_after_it(machine: Machine) -> None:
    """The event loop may be awake before the thread that looks for pauses: its deadlines must not have passed."""
    began = machine.clock.now()
    for _ in range(3):
        machine.run(10)
        machine.pause(3600)
    assert machine.clock.now() - began == pytest.approx(30, abs=3 * TICK_S)
    machine.run(10)
    assert machine.clock.now() - began == pytest.approx(40, abs=3 * TICK_S)


def test_what_is_not_late_by_much_counts(machine: Machine) -> None:
    began = machine.clock.now()
    machine.run(5)
    machine.pause(LATE_S)
    assert machine.clock.now() - began == pytest.approx(5 + LATE_S)


def test_a_thread_that_lets_no_other_run_is_no_pause(machine: Machine) -> None:
    """Or a tokenizer that holds the interpreter's lock for ever would never be found out."""
    began = machine.clock.now()
    machine.run(1)
    machine.hold(20)
    assert machine.clock.now() - began == pytest.approx(21)


def test_time_never_goes_back(machine: Machine) -> None:
    seen = [machine.clock.now()]
    for _ in range(20):
        machine.pause(7)
        seen += [machine.clock.now(), machine.clock.now()]
        machine.run(1)
        seen.append(machine.clock.now())
    assert seen == sorted(seen)


def test_a_clock_that_nobody_keeps_is_the_systems(machine: Machine) -> None:
    machine.clock._kept = 0
    began = machine.clock.now()
    machine.pause(50)
    assert machine.clock.now() - began == 50
    with machine.clock.kept():
        assert machine.clock.now() - began == 50
