"""What has been read outlives the process that read it, and goes when it is told to."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar import frames
from sidecar.frames import Finished, Started
from tests.support.agent import request
from tests.support.engine_process import long_text, only, running, said, text
from tests.support.processes import is_running
from tests.support.real_sidecar import REAL, Sidecar
from tests.support.waiting import wait_until

SHIM = [sys.executable, "-IS", str(Path(__file__).parents[2] / "shim" / "__main__.py")]
LOTS = 1 << 40


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_an_engine_that_is_told_to_stop_loses_nothing(tiny: Path, tmp_path: Path) -> None:
    conversation = said("hello", system=long_text(400))
    with running(tiny, disk_path=str(tmp_path / "cache"), disk_bytes=LOTS) as engine:
        first = engine.ask(conversation)
        engine.send(frames.Stop())
        engine.process.wait(30)
    with running(tiny, disk_path=str(tmp_path / "cache"), disk_bytes=LOTS) as engine:
        again = engine.ask(conversation)
        assert only(Started, again).cached_tokens == only(Finished, first).prompt_tokens - 1
        assert text(again) == text(first)
        engine.send(frames.Drop())
        assert only(Started, engine.ask(conversation, max_tokens=1)).cached_tokens == 0


@pytest.fixture
def sidecar(short_dir: Path, tmp_path: Path, tiny: Path) -> Iterator[Sidecar]:
    sidecar = Sidecar(short_dir, REAL, str(tiny), CLAUDE_LOCAL_DISK_CACHE=str(tmp_path / "cache"))
    sidecar.start()
    sidecar.lease().until("ready")
    yield sidecar
    sidecar.close()


def usage(sidecar: Sidecar) -> Any:
    status, answer = sidecar.message(long_text(500), max_tokens=2)
    assert status == 200
    return answer["usage"]


def quiet(sidecar: Sidecar) -> None:
    """Until everything that has been read is on disk."""

    def same() -> bool:
        prefixes = sidecar.status()["memory"]["prefixes"]
        return bool(prefixes["disk_nodes"] == prefixes["memory_nodes"] > 0)

    wait_until(same)


def test_a_prefix_survives_kill_9_of_everything(sidecar: Sidecar, tmp_path: Path) -> None:
    assert usage(sidecar)["cache_read_input_tokens"] == 0
    quiet(sidecar)
    engine = sidecar.status()["engine"]["pid"]
    sidecar.processes[0].kill()
    wait_until(lambda: not is_running(engine))
    sidecar.start()
    sidecar.lease().until("ready")
    again = usage(sidecar)
    assert again["cache_read_input_tokens"] > 500 and again["input_tokens"] <= 1
    cache = tmp_path / "cache"
    assert {stat.S_IMODE(path.stat().st_mode) for path in [cache, *cache.iterdir()]} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(cache)} == {0o600}


@pytest.mark.full
def test_a_folders_next_session_finds_its_beginning_in_memory(sidecar: Sidecar) -> None:
    """Made ready from disk by the terminal's lease, before its first request."""
    body = request("/srv/one", "Hello", scale=0.03)
    agent = {name: body[name] for name in ("system", "tools", "messages")}
    assert sidecar.message(**agent)[0] == 200
    quiet(sidecar)
    engine = sidecar.status()["engine"]["pid"]
    sidecar.processes[0].kill()
    wait_until(lambda: not is_running(engine))
    sidecar.start()
    sidecar.lease().until("ready")

    def warm() -> bool:
        prefixes = sidecar.status()["memory"]["prefixes"]
        return bool(prefixes["memory_nodes"] > 0 and sidecar.status()["requests"]["running"] == 0)

    wait_until(warm)
    body["messages"][0]["content"][1]["text"] = "What is this?"
    assert sidecar.message(**agent)[0] == 200
    [record] = sidecar.status()["recent"]
    until_words = record["prompt_tokens"] - 150  # the folder's state and the words, in tokens of two letters
    assert record["from_memory"] >= 0.95 * until_words


def shim(sidecar: Sidecar, *words: str) -> str:
    environment = {**os.environ, **sidecar.variables, "CLAUDE_LOCAL_RUN_DIR": str(sidecar.folder)}
    done = subprocess.run([*SHIM, *words], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_kept_is_listed_and_erased_by_one_command(sidecar: Sidecar, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(exist_ok=True)
    (tmp_path / "cache" / "mine.txt").write_text("the user's own")
    usage(sidecar)
    quiet(sidecar)
    listed = shim(sidecar, "cache").splitlines()
    assert len(listed) == 2 and listed[1].startswith(sidecar.model) and listed[1].endswith("just now")
    assert shim(sidecar, "cache", "clear").startswith("erased ")
    assert [file.name for file in files(tmp_path / "cache")] == ["mine.txt"]
    assert usage(sidecar)["cache_read_input_tokens"] == 0, "it was still in memory"
    assert shim(sidecar, "cache") != ""
