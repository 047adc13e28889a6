"""bin/claude-local, on a checkout whose environment is a stand-in: found through links, trusted only when complete."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.fake_sidecar import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy with a `.venv` whose python is a link: enough for the shim, which needs no packages."""
    checkout = tmp_path / "a checkout"
    for name in ("bin", "shim", "sidecar"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    (checkout / "pyproject.toml").write_text("")
    os.utime(checkout / "pyproject.toml", (1, 1))
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / "complete").touch()
    return checkout


def run(file: Path, *words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([file, *words], capture_output=True, text=True, timeout=60, **options)


def test_it_runs_through_links_from_any_folder(checkout: Path, tmp_path: Path) -> None:
    places = tmp_path / "places"
    places.mkdir()
    (places / "first").symlink_to(checkout / "bin" / "claude-local")
    (places / "second").symlink_to("first")
    expected = run(checkout / "bin" / "claude-local", "version")
    assert expected.stdout.startswith("claude-local ")
    assert run(places / "second", "version", cwd="/").stdout == expected.stdout
    assert run(Path("second"), "version", cwd=places, env={**os.environ, "PATH": f"{places}:/usr/bin:/bin"}).stdout
    sourced = run(Path("/bin/sh"), "claude-local", "version", cwd=checkout / "bin")
    assert sourced.stdout == expected.stdout


def test_the_users_folder_and_python_variables_are_not_looked_at(checkout: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("sidecar", "shim", "os", "json"):
        (trap / f"{name}.py").write_text("raise SystemExit(99)")
    environment = {**os.environ, "PYTHONPATH": str(trap), "PYTHONSTARTUP": str(trap / "os.py")}
    assert run(checkout / "bin" / "claude-local", "version", cwd=trap, env=environment).returncode == 0


def test_without_a_python_it_says_so_in_one_line(checkout: Path, tmp_path: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    old = tmp_path / "old"
    old.mkdir()
    (old / "python3").write_text("#!/bin/sh\nexit 1\n")
    (old / "python3").chmod(0o755)
    result = run(checkout / "bin" / "claude-local", "version", env={"PATH": str(old)})
    assert result.returncode == 69
    assert result.stderr == (
        "claude-local: no Python 3.11 or newer on PATH. Install one (brew install python, apt install python3).\n"
    )


@pytest.mark.parametrize("change", ["pyproject.toml", "constraints.txt"])
def test_a_newer_input_sends_it_to_the_setup(checkout: Path, tmp_path: Path, change: str) -> None:
    """Shown by a setup that cannot work: the stand-in python has no such file to run."""
    (checkout / "shim" / "setup" / "venv.py").write_text("raise SystemExit(42)")
    assert run(checkout / "bin" / "claude-local", "version").returncode == 0
    (checkout / change).touch()
    future = time.time() + 10
    os.utime(checkout / change, (future, future))
    assert run(checkout / "bin" / "claude-local", "version").returncode == 42


def test_the_shell_scripts_are_clean() -> None:
    files = [*sorted(path for path in (ROOT / "bin").iterdir() if path.is_file()), ROOT / "shim" / "setup" / "venv.sh"]
    result = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "-x", *files], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
