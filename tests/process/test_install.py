"""An installation, as pip, pipx and uv make one: whatever else is called as our packages are, it is ours that run."""

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT
from tests.support import census
from tests.support.real_place import RealPlace

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
SCRIPT = "#!{python}\nimport re\nimport sys\nfrom {module} import {name}\nsys.exit({name}())\n"
"""What pip makes of an entry point."""
TRAPS = ("sidecar", "shim", "trio", "rich", "msgspec", "socket", "json", "fcntl", "tomllib")


class Installation:
    """Its folder, a user's place, and traps in the folder where they are and in PYTHONPATH."""

    def __init__(self, folder: Path, tmp_path: Path) -> None:
        self.folder = folder
        trap = tmp_path / "trap"
        for name in TRAPS:
            (trap / name).mkdir(parents=True)
            (trap / name / "__init__.py").write_text(f"raise SystemExit('the trap was taken: {name}')")
        self.place = RealPlace(tmp_path, grace=0)
        self.place.shim = [str(folder / "bin" / "claude-local")]
        self.place.environment |= {"PYTHONPATH": str(trap), "XDG_DATA_HOME": str(tmp_path / "data")}
        self.trap = trap

    def call(self, *words: str) -> str:
        done = self.place.call(*words, cwd=self.trap, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)


def laid_out(folder: Path) -> Path:
    """An environment with what the wheel would put there, by the project's own table, and the libraries of this one."""
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for name in WHEEL["only-include"]:
        target = site / WHEEL["sources"].get(name, name)
        target.mkdir(parents=True, exist_ok=True)
        for file in (ROOT / name).rglob("*"):
            path = str(file.relative_to(ROOT))
            if file.is_file() and "__pycache__" not in path and not any(fnmatchcase(path, x) for x in WHEEL["exclude"]):
                copy = target / file.relative_to(ROOT / name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (folder / "bin").mkdir()
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys._base_executable).parent}\n")  # type: ignore[attr-defined]
    (folder / "bin" / "python").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    module, name = PROJECT["project"]["scripts"]["claude-local"].split(":")
    script = folder / "bin" / "claude-local"
    script.write_text(SCRIPT.format(python=folder / "bin" / "python", module=module, name=name))
    script.chmod(0o755)
    return folder


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(laid_out(tmp_path / "installation"), tmp_path)
    yield made
    made.place.clean()


def test_only_our_own_packages_run_whatever_the_user_has_under_their_names(installation: Installation) -> None:
    """The launcher, the sidecar, a look for the model, mlx in a process of its own, the relay of global mode. The
    command finds the user's PYTHONPATH as it was."""
    assert installation.call("version").startswith("claude-local ")
    assert installation.call("sh", "-c", "echo $PYTHONPATH") == f"{installation.trap}\n"
    assert "mlx" in installation.call("doctor", "mlx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    installation.call("global", "on", "--detached", "--port", str(port))
    processes = map(census.words, census.processes(installation.place.run))
    relays = [words for words in processes if "shim.global_mode" in words]
    installation.call("global", "off")
    assert relays and all(str(installation.folder) in " ".join(words) for words in relays)
    installation.place.finish()


def test_an_installation_takes_one_name_beside_others() -> None:
    """And leaves out how the demo model was made."""
    assert {WHEEL["sources"].get(name, name).partition("/")[0] for name in WHEEL["only-include"]} == {"claude_local"}


def test_what_is_pinned_is_what_was_tested_and_ranges_hold_it() -> None:
    """constraints.txt has what CI runs with; who installs without it gets the same, or what should be as good."""
    tested = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "==" in line
    )
    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        assert requirement.specifier.contains(tested[requirement.name]), requirement
        assert any(limit.operator in ("==", "<") for limit in requirement.specifier), requirement


def built(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.full
def test_pipx_installs_all_of_it_man_page_included(tmp_path: Path) -> None:
    """With its libraries, from the package index."""
    wheel, tools = built(tmp_path / "wheel"), tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    subprocess.run([tools / "bin" / "pip", "install", "--quiet", "pipx"], check=True)
    places = {name: str(tmp_path / name.lower()) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "PIPX_MAN_DIR")}
    subprocess.run([tools / "bin" / "pipx", "install", wheel], env={**os.environ, **places}, check=True)
    made = Installation(Path(places["PIPX_HOME"]) / "venvs" / "claude-local", tmp_path)
    made.place.shim = [f"{places['PIPX_BIN_DIR']}/claude-local"]
    try:
        assert made.call("run", "Hello")
        assert made.call("version").split()[1] == version("claude-local")
        page = Path(places["PIPX_MAN_DIR"], "man1", "claude-local.1")
        assert ".TH" in page.read_text("utf-8")
        made.place.finish()
    finally:
        made.place.clean()


@pytest.mark.full
def test_an_editable_installation_runs_the_checkout(tmp_path: Path) -> None:
    folder = tmp_path / "editable"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--no-deps", "-e", ROOT], check=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    made = Installation(folder, tmp_path)
    try:
        assert made.call("version").startswith("claude-local ")
        assert made.call("run", "Hello")
        made.place.finish()
    finally:
        made.place.clean()
