"""Real memory pressure, in a control group: each level's act, the way back, and more requests than memory."""

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from sidecar.memory.probe import process_bytes
from tests.conftest import FULL
from tests.support.confined import GB, SmallMachine
from tests.support.models import ARCHITECTURES, make_tiny
from tests.support.processes import is_running
from tests.support.real_sidecar import REAL, TOKEN, Sidecar, UnixConnection
from tests.support.waiting import wait_until

ACT_S, BACK_S = 3.0, 20.0 if FULL else 60.0
"""How soon a level's act must have happened, and requests be served again once memory is free. The latter is a load of
the model, which other tests beside this one slow down; the full run has none."""


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of 32 kB a token."""
    return str(make_tiny(tmp_path_factory.mktemp("heavy"), **ARCHITECTURES["heavy"]))


@pytest.fixture
def machine(short_dir: Path, heavy: str, request: pytest.FixtureRequest) -> Iterator[SmallMachine]:
    machine = SmallMachine(short_dir, heavy, getattr(request, "param", 1_500_000_000))
    yield machine
    machine.close()


def words(tokens: int, seed: int) -> str:
    """A prompt of about so many tokens that shares no beginning with others."""
    chance = random.Random(seed)
    return " ".join(f"w{chance.randrange(997)}" for _ in range(tokens // 4))


def within(seconds: float, condition: Callable[[], bool]) -> float:
    """Wait for it; returns how long it took, and fails when that was too long."""
    began = time.monotonic()
    wait_until(condition, 2 * seconds)
    took = time.monotonic() - began
    assert took <= seconds
    return took


def served(sidecar: Sidecar) -> bool:
    return sidecar.message()[0] == 200


def post(sidecar: Sidecar, prompt: str, max_tokens: int) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of one answer, however long it takes."""
    connection = UnixConnection(sidecar.socket)
    try:
        connection.connect()
        connection.sock.settimeout(900)
        body = {"model": sidecar.model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": prompt}]}
        connection.request("POST", "/v1/messages", json.dumps(body), {"authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("run", range(20 if FULL else 1))
def test_every_level_acts_in_time_and_what_is_released_is_used_again(machine: SmallMachine, run: int) -> None:
    sidecar = machine.sidecar
    sidecar.start()
    sidecar.lease().until("ready")
    assert machine.memory()["status"] == "Safe"
    assert [post(sidecar, words(600, seed), 4)[0] for seed in range(2)] == [200] * 2
    wait_until(lambda: machine.memory()["prefix_cache_gb"] > 0.03)  # with the next heartbeat
    kept = machine.memory()["prefix_cache_gb"]

    machine.fill(0.9 * machine.caution)
    shed = within(ACT_S, lambda: machine.memory()["shed"] > 0 and machine.memory()["prefix_cache_gb"] < kept)
    assert sidecar.message()[0] == 200, "Caution refuses nobody"

    stream = sidecar.begin(max_tokens=6000, stream=True, temperature=0).getresponse()
    while b"text_delta" not in stream.readline():
        pass
    machine.fill(0.8 * machine.critical)
    refused = within(ACT_S, lambda: sidecar.ask("GET", "/health")[1]["status"] == "degraded")
    status, headers, text = post(sidecar, "hello", 4)
    assert status == 503 and headers["retry-after"] == "10"
    assert re.search(r"only \d\.\d GB of memory are free, .*close something \(python\S* holds \d+\.\d GB", text), text
    assert b"text_delta" in b"".join(stream.readline() for _ in range(6)), "what runs goes on"

    engine = sidecar.status()["engine"]["pid"]
    machine.fill(0.8 * machine.emergency)
    evacuated = within(ACT_S, lambda: not is_running(engine))
    with pytest.raises((HTTPException, ConnectionError)):
        stream.read()
    assert machine.memory()["evacuated"] == 1
    assert post(sidecar, "hello", 4)[0] == 503

    machine.release()
    back = within(BACK_S, lambda: sidecar.ask("GET", "/health")[1]["status"] == "healthy" and served(sidecar))
    assert machine.unharmed()
    print(f"run {run}: shed {shed:.1f} s, refused {refused:.1f} s, evacuated {evacuated:.1f} s, back {back:.1f} s")


def test_a_request_cut_off_by_an_emergency_is_told_why(machine: SmallMachine) -> None:
    sidecar = machine.sidecar
    sidecar.start()
    sidecar.lease().until("ready")
    waiting = sidecar.begin(max_tokens=6000, temperature=0)
    wait_until(lambda: sidecar.status()["requests"]["running"] == 1)
    machine.fill(0.8 * machine.emergency)
    answer = waiting.getresponse()
    assert (answer.status, answer.getheader("retry-after")) == (503, "10")
    assert "memory ran out" in json.loads(answer.read())["error"]["message"]
    assert sidecar.ask("GET", "/health")[1]["engine"] == {"state": "evacuated"}
    assert machine.unharmed()


def test_a_model_that_does_not_fit_is_refused_and_a_smaller_one_named(machine: SmallMachine, heavy: str) -> None:
    """Before it is loaded: the machine must not notice."""
    big = Path(machine.sidecar.folder, "big")
    big.mkdir()
    for file in Path(heavy).iterdir():
        (big / file.name).write_bytes(file.read_bytes())
    (big / "model.safetensors.index.json").unlink()
    grow_weights(big, 900_000_000)
    machine.sidecar.start()
    lease = machine.sidecar.lease(model=str(big))
    event = lease.event()
    while event is not None and event.event != "failed":
        event = lease.event()
    assert event is not None and event.exit_code == 75
    assert "big takes 1.1 GB" in event.reason and "CLAUDE_LOCAL_MODEL=demo fits" in event.reason
    status, body = machine.sidecar.message(model=str(big))
    assert status == 503 and "big takes 1.1 GB" in body["error"]["message"]
    assert machine.sidecar.status()["engine"]["pid"] is None
    assert machine.sidecar.message(model=heavy)[0] == 200 and machine.unharmed()


def grow_weights(model: Path, size: int) -> None:
    """Add a tensor that is nothing but a hole in the file: large to whoever looks, no bytes on the disk."""
    file = model / "model-2.safetensors"
    header = json.dumps({"hole": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with file.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + size)


@pytest.mark.full
@pytest.mark.parametrize("machine", [640_000_000], indirect=True)
def test_requests_that_need_more_than_there_is_all_end_in_an_answer_or_a_clear_refusal(machine: SmallMachine) -> None:
    """A hundred at once, short and long: their rows alone would fill the machine three times over."""
    sidecar, count = machine.sidecar, 100
    sidecar.start()
    sidecar.lease().until("ready")
    chance = random.Random(5)
    lengths = [chance.choice([50, 200, 800, 1600]) for _ in range(count - 1)]
    assert sum(length * 32_768 for length in lengths) > 3 * machine.limit
    lengths.append(6000)  # beyond the window that this memory allows
    with ThreadPoolExecutor(count) as pool:
        asked = [(words(length, seed), chance.choice([1, 8, 24])) for seed, length in enumerate(lengths)]
        ends = list(pool.map(lambda each: post(sidecar, *each), asked))
    assert {status for status, _, _ in ends[:-1]} <= {200, 503}
    assert ends[-1][0] == 400 and "prompt is too long" in ends[-1][2], ends[-1]
    for status, headers, text in ends:
        if status == 503:
            assert headers["retry-after"] and "GB" in text and "close something" in text, text
    answered = sum(status == 200 for status, _, _ in ends)
    assert answered > count / 2
    assert machine.unharmed() and machine.memory()["evacuated"] == 0
    if machine.group is not None:
        print(f"{answered} of {count} answered, peak {machine.group.peak() / GB:.2f} of {machine.limit / GB:.2f} GB")


def test_memory_does_not_grow_with_the_number_of_requests(short_dir: Path, tiny: Path) -> None:
    """Beside a model that weighs nothing: what would be lost in one of gigabytes shows here."""
    count = 2000 if FULL else 200
    # Few prefixes are kept, since what happens to be kept differs from request to request.
    limits = {"CLAUDE_LOCAL_CACHE_GB": "0.001", "CLAUDE_LOCAL_CONTEXT": "1024"}
    sidecar = Sidecar(short_dir, REAL, str(tiny), CLAUDE_LOCAL_GRACE="60", **limits)
    try:
        sidecar.start()
        sidecar.lease().until("ready")
        held: list[int] = []
        for number in range(1, count + 1):
            assert post(sidecar, words(50 + 2 * (number % 100), number), 4)[0] == 200  # every hundred is of one mix
            if number % 100 == 0:
                counted = {"model": sidecar.model, "messages": [{"role": "user", "content": "hello"}]}
                # The engine counts only when it has cleared up after the last answer.
                assert sidecar.ask("POST", "/v1/messages/count_tokens", counted)[0] == 200
                held.append(sum(map(process_bytes, (sidecar.processes[0].pid, sidecar.status()["engine"]["pid"]))))
        print("MB after each hundred:", [round(size / 1e6, 1) for size in held])
        assert held[-1] / held[0] <= 1.02
    finally:
        sidecar.close()


def health_times(sidecar: Sidecar, during: Callable[[], Any]) -> list[float]:
    """Seconds that /health takes, asked all the while that `during` runs."""
    times = []
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(during)
        connection = UnixConnection(sidecar.socket)
        while not done.done():
            began = time.perf_counter()
            connection.request("GET", "/health")
            answer = connection.getresponse()
            answer.read()
            times.append(time.perf_counter() - began)
            assert answer.status == 200
        done.result()
    connection.close()
    return sorted(times)


def test_health_answers_at_once_while_the_model_loads_and_reads(short_dir: Path) -> None:
    sidecar = Sidecar(short_dir, REAL, "demo", CLAUDE_LOCAL_GRACE="60")
    try:
        sidecar.start()
        lease = sidecar.lease()
        loading = health_times(sidecar, lambda: lease.until("ready"))
        reading = health_times(sidecar, lambda: post(sidecar, words(1200, 1), 4))
        for name, times in (("loading", loading), ("reading", reading)):
            middle = times[len(times) // 2]
            print(
                f"{name}: {len(times)} asked, p50 {middle * 1e3:.2f} ms, p99 {times[len(times) * 99 // 100] * 1e3:.2f}"
            )
            assert middle < 0.005
    finally:
        sidecar.close()


def test_health_says_so_when_the_engine_hangs_or_is_dead(short_dir: Path, tiny: Path) -> None:
    import psutil

    sidecar = Sidecar(short_dir, REAL, str(tiny), CLAUDE_LOCAL_GRACE="60")
    try:
        sidecar.start()
        sidecar.lease().until("ready")

        def health() -> tuple[int, str, str]:
            status, body = sidecar.ask("GET", "/health")
            return status, body["status"], body["engine"]["state"]

        assert health() == (200, "healthy", "ready")
        engine = psutil.Process(sidecar.status()["engine"]["pid"])
        engine.suspend()
        wait_until(lambda: health() == (503, "unhealthy", "stuck"), 8)
        engine.resume()
        wait_until(lambda: health() == (200, "healthy", "ready"), 8)
        engine.kill()
        wait_until(lambda: health() == (503, "unhealthy", "dead"), 8)
        assert sidecar.message()[0] == 200
        assert health() == (200, "healthy", "ready")
    finally:
        sidecar.close()
