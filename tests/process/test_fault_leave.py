"""What an engine has read or loaded is not lost because somebody goes: at a stop, an exit, after a short command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import FULL
from tests.support import changed_sidecar
from tests.support.engine_process import long_text
from tests.support.models import ARCHITECTURES, make_tiny
from tests.support.place import Session
from tests.support.processes import is_running
from tests.support.real_place import RealPlace, persistent_ask
from tests.support.real_sidecar import REAL, Sidecar
from tests.support.waiting import wait_until

Figure = Callable[[str], None]

SHIM = [sys.executable, "-IS", str(Path(__file__).parents[2] / "shim" / "__main__.py")]
CHANGED = [sys.executable, "-I", changed_sidecar.__file__]
COMMANDS = 40
PATIENCE_S, LINGER_S = 1.5, 1.5
"""Instead of three seconds and five."""
SLOW_S = 5.0
"""What this machine may be busy with beside it."""


@pytest.fixture
def light(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, light=True, grace=1)
    changes = {"sidecar.supervisor.process.PATIENCE_S": PATIENCE_S, "sidecar.supervisor.engine.LINGER_S": LINGER_S}
    place.environment["CLAUDE_LOCAL_TEST_CHANGES"] = json.dumps(changes)
    yield place
    place.clean()


def place_with(folder: Path, model: str, cache: Path, command: list[str] = CHANGED, **changes: object) -> Sidecar:
    said = {"CLAUDE_LOCAL_TEST_CHANGES": json.dumps(changes), "CLAUDE_LOCAL_DISK_CACHE": str(cache)}
    return Sidecar(folder, command, model, **{**said, "CLAUDE_LOCAL_GRACE": "60"})


def cached(sidecar: Sidecar, words: int, seed: int = 0) -> tuple[int, int]:
    """Of a prompt of so many words: tokens that were known, and tokens that had to be read."""
    status, answer = sidecar.message(long_text(words, seed), max_tokens=1)
    assert status == 200, answer
    return answer["usage"]["cache_read_input_tokens"], answer["usage"]["input_tokens"]


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def stop(sidecar: Sidecar, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **sidecar.variables, "CLAUDE_LOCAL_RUN_DIR": str(sidecar.folder)}
    return subprocess.run([*SHIM, "stop", *options], env=environment, capture_output=True, text=True, timeout=90)


def test_a_stop_right_after_an_answer_writes_all_that_was_read_and_says_so(
    short_dir: Path, tmp_path: Path, tiny: Path, figure: Figure
) -> None:
    """On a disk that takes 0.4 s for each piece."""
    sidecar = place_with(short_dir, str(tiny), tmp_path / "cache", write_s=0.4)
    try:
        sidecar.start()
        sidecar.lease().until("ready")
        assert cached(sidecar, 250)[0] == 0
        began = time.monotonic()
        stopped = stop(sidecar)
        took = time.monotonic() - began
        assert stopped.stdout == "stopped\n"
        assert stopped.stderr.startswith("claude-local: writing what has been read to disk …")
        assert not sidecar.processes[0].wait(10)
        sidecar.start()
        sidecar.lease().until("ready")
        known, read = cached(sidecar, 250)
        figure(f"stopped in {took:.1f} s; of {known + read} tokens {known} were known after it")
        assert read == 1
    finally:
        sidecar.close()


@pytest.mark.full
def test_a_stop_right_after_the_answers_writes_hundreds_of_megabytes(
    short_dir: Path, tmp_path: Path, figure: Figure
) -> None:
    model, cache, prompts = tmp_path / "heavy", tmp_path / "cache", range(12)
    model.mkdir()
    make_tiny(model, **ARCHITECTURES["heavy"])
    sidecar = place_with(short_dir, str(model), cache, REAL)
    sidecar.variables["CLAUDE_LOCAL_CACHE_GB"] = "2"
    try:
        sidecar.start()
        sidecar.lease().until("ready")
        read = sum(cached(sidecar, 250, seed)[1] for seed in prompts)
        written, began = size(cache), time.monotonic()
        stop(sidecar)
        took, in_all = time.monotonic() - began, size(cache)
        sidecar.start()
        sidecar.lease().until("ready")
        left = [cached(sidecar, 250, seed)[1] for seed in prompts]
        figure(
            f"{read} tokens read, {written / 1e6:.0f} of {in_all / 1e6:.0f} MB on disk at the stop, which took "
            f"{took:.1f} s; {sum(left)} tokens had to be read again"
        )
        assert left == [1] * len(prompts)
    finally:
        sidecar.close()


@pytest.mark.full
def test_an_engine_that_is_told_to_end_by_the_system_writes_what_it_has_read(
    short_dir: Path, tmp_path: Path, tiny: Path
) -> None:
    """At a logout or a shutdown every process is told so, the sidecar no sooner than its engine."""
    sidecar = place_with(short_dir, str(tiny), tmp_path / "cache", REAL)
    try:
        sidecar.start()
        sidecar.lease().until("ready")
        assert cached(sidecar, 250)[0] == 0
        engine = sidecar.status()["engine"]["pid"]
        os.kill(engine, signal.SIGTERM)
        wait_until(lambda: not is_running(engine))
        assert cached(sidecar, 250)[1] == 1
    finally:
        sidecar.close()


def leaving(light: RealPlace, write_s: float) -> int:
    """A sidecar that leaves and whose engine still writes; its process id."""
    light.environment |= {"CLAUDE_LOCAL_TEST_WRITE_S": str(write_s), "CLAUDE_LOCAL_GRACE": "60"}
    session = Session(light)
    persistent_ask(session)
    session.end()
    (sidecar,) = light.sidecars()
    os.kill(sidecar, signal.SIGTERM)
    wait_until(lambda: not (light.run / "socket").exists())
    assert is_running(sidecar)
    return sidecar


def test_a_terminal_that_comes_while_it_writes_waits_for_it_and_not_for_long(light: RealPlace, figure: Figure) -> None:
    sidecar = leaving(light, write_s=60)
    began = time.monotonic()
    assert light.call("true").returncode == 0
    took = time.monotonic() - began
    figure(f"the next terminal waited {took:.1f} s")
    assert not is_running(sidecar)
    assert PATIENCE_S - 0.5 < took < PATIENCE_S + SLOW_S
    light.call("stop", "--now")
    assert light.overlaps() == 0


def test_now_ends_the_writing_at_once(light: RealPlace) -> None:
    sidecar = leaving(light, write_s=60)
    assert "writes what it has read" in light.call("stop").stdout
    assert is_running(sidecar)
    assert light.call("stop", "--now").stdout == "stopped\n"
    assert not is_running(sidecar)


@pytest.mark.full
def test_an_engine_that_is_unloaded_writes_and_who_comes_meanwhile_waits_not_for_long(light: RealPlace) -> None:
    light.environment |= {"CLAUDE_LOCAL_TEST_WRITE_S": "60", "CLAUDE_LOCAL_UNLOAD": "0.2"}
    session = Session(light)
    persistent_ask(session)
    (first,) = light.noted()
    wait_until(lambda: light.noted("stops") == [first])
    began = time.monotonic()
    assert persistent_ask(session) == 1
    assert PATIENCE_S - 0.5 < time.monotonic() - began < PATIENCE_S + SLOW_S
    assert len(light.noted()) == 2 and not is_running(first)
    light.call("stop", "--now")
    session.end()
    assert light.overlaps() == 0


@pytest.mark.parametrize("load_s", [0.3, 2.0] if FULL else [1.0])
def test_a_crowd_of_short_commands_starts_one_engine(light: RealPlace, load_s: float, figure: Figure) -> None:
    """Each of them is done long before the model is there."""
    light.environment |= {"CLAUDE_LOCAL_TEST_LOAD_S": str(load_s), "CLAUDE_LOCAL_GRACE": "60"}
    processes = [light.start("true") for _ in range(COMMANDS)]
    assert [process.wait(60) for process in processes] == [0] * COMMANDS
    wait_until(lambda: light.noted())  # the commands may all be done before the engine's process has begun
    figure(f"{COMMANDS} commands, a load of {load_s} s: {len(light.noted())} engines started")
    assert len(light.noted()) == 1
    session = Session(light)
    persistent_ask(session)
    assert len(light.noted()) == 1, "what the others had begun was thrown away"
    session.end()
    light.call("stop", "--now")
    light.finish()
    said = (light.folder / "logs" / "sidecar.log").read_text()
    assert said.count("ended with status") == 1, said


@pytest.mark.full
def test_a_load_that_nobody_waits_for_ends_after_a_while_or_when_it_is_told_to(light: RealPlace) -> None:
    light.environment |= {"CLAUDE_LOCAL_TEST_LOAD_S": "100", "CLAUDE_LOCAL_GRACE": "60"}
    began = time.monotonic()
    assert light.call("true").returncode == 0
    wait_until(light.noted)
    (engine,) = light.noted()
    wait_until(lambda: not is_running(engine))
    assert time.monotonic() - began > LINGER_S
    assert light.call("true").returncode == 0
    wait_until(lambda: len(light.noted()) == 2)
    light.call("stop")
    assert not any(map(is_running, light.noted()))
    light.finish()
