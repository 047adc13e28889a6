"""Compiled kernels are loaded as code: from no folder that others can write to. Where they fail, one does without."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support import users
from tests.support.real_place import RealPlace

DEVICE = """
import os, sys
from sidecar.supervisor import environment as native
os.execve(sys.executable, [sys.executable, "-I", "-m", "sidecar.engine.device"], native.environment())
"""
"""What mlx is given around it, and kernels that it compiles: an engine without a model."""

BROKEN_COMPILER = """#!/bin/sh
[ "$1" = --version ] || { echo "g++: no input files" >&2; exit 1; }
"""

MARKER = """
#include <cstdlib>
__attribute__((constructor)) static void load() {{ std::system("id -u >> {said}"); }}
"""


class Machine:
    """Two users and the folder for temporary files that they share. The first one's home cannot be written to."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.home, self.shared, self.run = folder / "home", folder / "tmp", folder / "run"
        for each in (self.home, self.shared, self.run):
            each.mkdir()
        self.home.chmod(0o555)
        self.shared.chmod(0o1777)
        self.run.chmod(0o700)
        os.chown(self.run, users.FIRST, users.FIRST)
        self.said = self.shared / "who-loaded-it"
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "TMPDIR": str(self.shared),
            "CLAUDE_LOCAL_RUN_DIR": str(self.run),
        }

    def plant(self, names: list[str]) -> None:
        """Put a library that says who loads it where mlx would look for these kernels."""

        # Looked up here: the other user may not be let into the folder of this checkout.
        folder = self.shared / "mlx" / version("mlx") / "cpu"

        def act() -> None:
            os.umask(0o022)
            folder.mkdir(parents=True)
            source, library = self.shared / "marker.cpp", self.shared / "marker.so"
            source.write_text(MARKER.format(said=self.said))
            subprocess.run(["g++", "-shared", "-fPIC", "-o", library, source], check=True)
            for name in names:
                shutil.copy(library, folder / name)
            self.said.touch()
            self.said.chmod(0o666)

        assert users.run_as(users.SECOND, act) == "None"

    def as_first(self, *words: str) -> subprocess.CompletedProcess[str]:
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 200, "cwd": "/"}
        return subprocess.run(users.command(users.FIRST, *words), env=self.environment, **options)


@pytest.fixture
def machine(short_dir: Path) -> Iterator[Machine]:
    yield Machine(short_dir)


def kernels(folder: Path) -> list[str]:
    """The libraries that mlx has left there."""
    return sorted(file.name for file in folder.rglob("lib*.so"))


@users.needed
def test_what_another_user_has_laid_out_in_tmp_is_not_loaded(machine: Machine, tmp_path: Path) -> None:
    environment = {**machine.environment, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-I", "-c", DEVICE], env=environment, check=True, stdout=subprocess.DEVNULL)
    machine.plant(kernels(tmp_path))
    done = machine.as_first(sys.executable, "-I", "-c", DEVICE)
    assert not machine.said.read_text(), "code of another user ran"
    assert json.loads(done.stdout)["right"], done.stderr
    assert kernels(machine.run) == kernels(tmp_path), "they are compiled where only their owner may write"


@users.needed
@pytest.mark.full
def test_nor_does_the_engine_of_a_whole_installation_load_it(machine: Machine, tmp_path: Path) -> None:
    place = RealPlace(tmp_path, grace=0)
    (place.folder / ".cache").mkdir()
    place.environment.pop("XDG_CACHE_HOME", None)
    assert place.call("run", "Hello").returncode == 0
    machine.plant(kernels(place.folder))
    place.finish()
    place.clean()
    state = str(machine.run)
    machine.environment |= {"CLAUDE_LOCAL_MODEL": "demo", "CLAUDE_LOCAL_GRACE": "0", "CLAUDE_LOCAL_LOG_DIR": state}
    done = machine.as_first(*place.shim, "run", "Hello")
    assert not machine.said.read_text(), "code of another user ran"
    assert done.returncode == 0 and done.stdout, done.stderr
    assert kernels(machine.run)
    assert (machine.run / "sidecar.log").read_text().count(f"compiled kernels are kept in {machine.run}") == 1


def device(environment: dict[str, str], *before: str) -> dict[str, object]:
    command = [*before, sys.executable, "-I", "-c", DEVICE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture
def user(short_dir: Path) -> dict[str, str]:
    """A user's environment, with folders of their own."""
    home, run = short_dir / "home", short_dir / "run"
    home.mkdir()
    run.mkdir(mode=0o700)
    return {"HOME": str(home), "PATH": os.environ["PATH"], "CLAUDE_LOCAL_RUN_DIR": str(run)}


def test_a_home_that_the_shell_would_change_costs_no_kernel(user: dict[str, str]) -> None:
    """mlx names the folder to a shell, between double quotes: `$x` would be another folder, a quote the name's end."""
    user["HOME"] += '/$x "q" `id`'
    Path(user["HOME"]).mkdir()
    assert device(user)["without_kernels"] == ""
    assert kernels(Path(user["CLAUDE_LOCAL_RUN_DIR"]))


@pytest.mark.parametrize("also_full", ["", "run"])
def test_a_full_disk_is_no_reason_not_to_compute(user: dict[str, str], also_full: str) -> None:
    script = 'for place in "$HOME" $FULL; do mount -t tmpfs -o mode=700,size=64k none $place; done; exec "$@"'
    namespace = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("the kernel gives nobody a mount of his own")
    user["FULL"] = user["CLAUDE_LOCAL_RUN_DIR"] if also_full else ""
    about = device(user, *namespace, "sh", "-c", script, "sh")
    assert about["right"]
    assert bool(kernels(Path(user["CLAUDE_LOCAL_RUN_DIR"]))) is not bool(also_full)


@pytest.mark.full
def test_half_a_kernel_that_a_full_disk_has_left_is_compiled_again(user: dict[str, str]) -> None:
    device(user)
    libraries = list(Path(user["HOME"]).rglob("lib*.so"))
    for library in libraries:
        os.truncate(library, 100)
    assert device(user)["without_kernels"] == ""
    assert libraries and all(library.stat().st_size > 100 for library in libraries)


def test_the_engine_answers_where_no_kernel_can_be_compiled(tmp_path: Path) -> None:
    """A compiler that says it is there, and is not: the log says once for each engine what is missing."""
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text(BROKEN_COMPILER)
    compiler.chmod(0o755)
    place = RealPlace(tmp_path, grace=0)
    try:
        place.environment["PATH"] = f"{compiler.parent}:{place.environment['PATH']}"
        place.environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        done = place.call("run", "Hello")
        assert done.returncode == 0 and done.stdout, done.stderr
        log = (tmp_path / "logs" / "sidecar.log").read_text()
        assert log.count("compiled kernels are done without") == 1
        place.finish()
    finally:
        place.clean()


MIDWAY = """
import subprocess, sys
from pathlib import Path
from tests.support.fake_sidecar import Session, wait_until
from tests.support.real_place import RealPlace, persistent_ask

folder = Path(sys.argv[1])
cache = folder / "cache"
cache.mkdir(mode=0o700)
subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700,size=6m", "none", cache], check=True)
place = RealPlace(folder)
place.environment["XDG_CACHE_HOME"] = str(cache)
session = Session(place)
try:
    wait_until(lambda: place.status().get("engine", {}).get("state") == "ready", 200)
    subprocess.run(["sh", "-c", 'cat /dev/zero >"$0"/fill', cache], stderr=subprocess.DEVNULL)
    print(persistent_ask(session, temperature=0.7, top_p=0.9, top_k=20))
finally:
    session.end()
    place.clean()
"""


@users.needed
@pytest.mark.full
def test_a_disk_that_fills_while_the_engine_runs_costs_a_pause(tmp_path: Path) -> None:
    """Sampling takes a kernel that loading the model did not: the engine ends, and the next one finds another place."""
    command = ["unshare", "-m", sys.executable, "-c", MIDWAY, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=ROOT)
    assert done.stdout == "1\n", done.stderr
    log = (tmp_path / "logs" / "sidecar.log").read_text()
    assert "Failed to compile" in log and log.count("compiled kernels are kept in") == 1
