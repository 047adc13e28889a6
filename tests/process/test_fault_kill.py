"""kill -9 of everything, at any moment: the next use works, leases end at once, and nothing stays.

The shim, the relays and the sidecar are real; the engine is too where it is the one that is killed.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import FULL
from tests.support import census
from tests.support.place import Session
from tests.support.real_place import RealPlace, persistent_ask
from tests.support.waiting import wait_until

Figure = Callable[[str], None]

RELEASED_S = 1.0 if FULL else 5.0
"""From a command's end to its lease's; the short run may share its machine with anything."""


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(10**6) if FULL else 7
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, grace=0.5)
    yield place
    place.clean()


@pytest.fixture
def light(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, light=True, grace=0.5)
    yield place
    place.clean()


def test_a_sidecar_killed_at_any_moment_costs_a_client_nothing_but_retries(
    light: RealPlace, chance: random.Random, figure: Figure
) -> None:
    light.environment["CLAUDE_LOCAL_TEST_ANSWER_S"] = "0.1"
    session, count, tries, killed = Session(light), 500 if FULL else 6, [], 0
    while killed < count:
        asking = threading.Thread(target=lambda: tries.append(persistent_ask(session)))
        asking.start()
        if chance.random() < 0.5:
            wait_until(lambda asking=asking: light.is_answering() or not asking.is_alive())
        time.sleep(chance.choice((0.0, 0.1, 0.6)) * chance.random())  # the moment is the test's input
        for pid in light.sidecars():
            census.kill(pid)
            killed += 1
        asking.join()
        assert len(light.sidecars()) <= 2  # one, or the moment between a fork and its exec
    persistent_ask(session)  # what the last one left is cleared away by the next use
    assert session.end() == 0
    light.finish()
    assert light.overlaps() == 0
    again = sum(number > 1 for number in tries)
    figure(
        f"{killed} kills, all {len(tries)} questions answered ({again} of them more than once, {max(tries)} "
        "times at most), 0 overlaps, nothing left"
    )


def test_an_engine_killed_at_any_moment_costs_a_client_nothing_but_retries(
    place: RealPlace, chance: random.Random, figure: Figure
) -> None:
    session, count, tries, killed = Session(place), 200 if FULL else 2, [], 0
    persistent_ask(session)
    (sidecar,) = place.sidecars()
    while killed < count:
        asking = threading.Thread(target=lambda: tries.append(persistent_ask(session, "Say one two three")))
        asking.start()
        time.sleep(chance.choice((0.0, 0.05, 0.5, 3.0)) * chance.random())
        engines = place.engines()
        assert len(engines) <= 1
        for pid in engines:
            census.kill(pid)
            killed += 1
        asking.join()
    assert place.sidecars() == [sidecar]
    assert session.end() == 0
    place.finish()
    figure(f"{killed} kills, all {len(tries)} questions answered, most tries {max(tries)}, sidecar untouched")


@pytest.mark.parametrize("victim", ["launcher", "relay", "both"] if FULL else ["both"])
def test_a_start_killed_at_any_moment_is_in_nobodys_way(
    light: RealPlace, chance: random.Random, figure: Figure, victim: str
) -> None:
    """Nothing runs, somebody begins, and is killed somewhere between the first line and the command."""
    light.environment["CLAUDE_LOCAL_GRACE"] = "0.2"
    count, slowest, longest = (200 if victim == "launcher" else 100) if FULL else 1, 0.0, 0.0
    for number in range(count):
        process = light.start("sh", "-c", "read line")
        time.sleep(0.5 * chance.random())
        shims = [pid for pid in census.processes(light.run, "shim") if pid != process.pid]
        for pid in {"launcher": [process.pid], "relay": shims, "both": [process.pid, *shims]}[victim]:
            census.kill(pid)
        began = time.monotonic()
        result = light.call("sh", "-c", "exit 7")
        assert result.returncode == 7, result.stderr
        longest = max(longest, time.monotonic() - began)
        process.kill()
        process.wait()
        slowest = max(slowest, light.seconds_until_released(process.pid))
        if number % 2:
            wait_until(lambda: not light.sidecars(), 60)  # or else it is warm for the next
    assert slowest < RELEASED_S
    light.environment["CLAUDE_LOCAL_GRACE"] = "0"
    light.call("stop")
    light.finish()
    figure(f"{count} kills, the next use took {longest:.2f} s at most, a release {slowest * 1000:.0f} ms, nothing left")


def test_a_killed_command_frees_its_lease_at_once(light: RealPlace, chance: random.Random, figure: Figure) -> None:
    keeper, count, times = Session(light), 500 if FULL else 5, []
    for _ in range(count):
        process = light.start("sh", "-c", "read line")
        time.sleep(0.2 * chance.random())
        process.kill()
        process.wait()
        times.append(light.seconds_until_released(process.pid))
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
    assert max(times) < RELEASED_S
    persistent_ask(keeper)
    assert keeper.end() == 0
    light.finish()
    times.sort()
    figure(f"{count} kills, release median {times[count // 2] * 1000:.1f} ms, slowest {times[-1] * 1000:.1f} ms")


def test_a_killed_relay_ends_its_lease_and_not_its_command(
    light: RealPlace, chance: random.Random, figure: Figure
) -> None:
    keeper, count, times = Session(light), 200 if FULL else 3, []
    for _ in range(count):
        session = Session(light)
        asking = session.connect()
        asking.sendall(session.head("/v1/models"))
        time.sleep(0.02 * chance.random())
        (relay,) = census.holders_of(session.port)
        os.kill(relay, 9)
        times.append(light.seconds_until_released(session.process.pid))
        asking.close()
        assert session.end() == 0
    assert max(times) < RELEASED_S
    persistent_ask(keeper)
    assert keeper.end() == 0
    light.finish()
    times.sort()
    figure(f"{count} kills, release median {times[count // 2] * 1000:.1f} ms, slowest {times[-1] * 1000:.1f} ms")
