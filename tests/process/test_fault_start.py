"""Exactly one sidecar, whatever races: crowds of first starts, and attaches just when it leaves for want of use."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shim.errors import Failure
from shim.lease import attach, spawn
from sidecar.shared import protocol, run_directory
from tests.conftest import FULL
from tests.support import attacher, census
from tests.support.real_place import RealPlace
from tests.support.waiting import wait_until

Figure = Callable[[str], None]

CROWD, ROUNDS = (200, 20) if FULL else (15, 1)
ATTACHES, RACERS = (20_000, 20) if FULL else (64, 8)
GRACE_S = 0.003
ABOUT, APART = (0.7, 1.8), 0.2
"""When the first of them comes back after they all left, and within what time the others; in grace periods."""


@pytest.fixture
def light(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, light=True)
    yield place
    place.clean()


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def test_a_crowd_of_first_invocations_gets_one_sidecar(light: RealPlace, figure: Figure) -> None:
    times: list[float] = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        processes = [light.start("sh", "-c", "echo there; read line; exit 3") for _ in range(CROWD)]
        for process in processes:
            assert process.stdout.readline() == b"there\n", process.stderr.read()
            times.append(time.monotonic() - began)
        # Every one of them holds its lease from one and the same.
        (sidecar,) = light.sidecars()
        assert sorted(light.leases()) == sorted(process.pid for process in processes)
        for process in processes:
            process.stdin.close()
        assert [process.wait(60) for process in processes] == [3] * CROWD
        for process in processes:
            process.stdout.close()
            process.stderr.close()
        light.processes.clear()
        light.call("stop")
        wait_until(lambda pid=sidecar: not census.words(pid))
        light.finish()
    figure(f"{ROUNDS} x {CROWD}: one sidecar each, 0 failures; all commands run after {max(times):.1f} s at most")


def test_a_crowd_attaches_while_the_model_still_loads(light: RealPlace, figure: Figure) -> None:
    """The lease does not wait for the model, however long it takes."""
    light.environment["CLAUDE_LOCAL_TEST_LOAD_S"] = "10"
    times: list[float] = []
    for _ in range(ROUNDS):
        command = [sys.executable, "-IS", attacher.__file__, str(light.run), str(light.folder / "logs")]
        start, go = os.pipe()
        crowd = [
            subprocess.Popen(command, stdin=start, stdout=subprocess.PIPE, env=light.environment, text=True)
            for _ in range(CROWD)
        ]
        os.close(start)
        lines = [process.stdout for process in crowd if process.stdout]
        try:
            assert {line.readline() for line in lines} == {"here\n"}
            os.close(go)
            said = [line.readline().split() for line in lines]
        finally:
            for process in crowd:
                process.terminate()
                process.wait()
            for line in lines:
                line.close()
        assert {tuple(words[:1]) for words in said} == {("granted",)}, said
        assert len({words[1] for words in said}) == 1, "more than one sidecar"
        times += [float(words[2]) for words in said]
        light.call("stop", "--now")
        light.finish()
    figure(
        f"{ROUNDS} x {CROWD} with a 10 s load: attach p50 {percentile(times, 0.5):.0f} ms, "
        f"p99 {percentile(times, 0.99):.0f} ms, slowest {max(times):.0f} ms"
    )


def test_nobody_is_lost_when_it_leaves_just_as_somebody_comes(
    light: RealPlace, figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grace period of 3 ms, and clients who all go and come back about then: into the leaving one, or the next."""
    for name, value in {**light.environment, "CLAUDE_LOCAL_GRACE": str(GRACE_S)}.items():
        monkeypatch.setenv(name, value)
    directory, logs = run_directory.RunDirectory(light.run), light.folder / "logs"
    lock, lost, done, starts = threading.Lock(), [], [], []
    all_there = threading.Barrier(RACERS)

    def start(deadline: float) -> None:
        with lock:
            starts.append(None)
        spawn.start(directory, logs, "/", deadline)

    def race(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(ATTACHES // RACERS):
            request = protocol.LeaseRequest(f"{seed}-{number}", os.getpid(), "racer", "/", 1, "demo")
            lease, what = None, ""
            try:
                lease = attach.attach(directory, request, start)
            except (Failure, OSError) as failure:
                what = str(failure)
            if lease is not None:
                ready = any(event.event == "ready" for event in lease.events)  # from here on a model is held
                what = "" if ready else "ended by the sidecar"
            all_there.wait(120)
            if lease is not None:
                lease.close()
            with lock:
                done.append(None)
                if what:
                    lost.append(what)
            moment = random.Random(number).uniform(*ABOUT) + chance.uniform(0, APART)
            time.sleep(GRACE_S * moment)  # the moment is the test's input

    racers = [threading.Thread(target=race, args=(seed,)) for seed in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(done) == ATTACHES // RACERS * RACERS
    assert not lost, lost[:5]
    assert light.overlaps() == 0
    light.finish()
    figure(f"{len(done)} attaches over {len(starts)} generations: 0 lost, 0 overlaps of two models")
