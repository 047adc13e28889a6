"""How `.venv` is made: what counts as complete, and what a failure says."""

import shutil
import sys
from pathlib import Path

import pytest

from shim.errors import Failure
from shim.setup import venv as environment


@pytest.mark.parametrize(
    ("lines", "says", "code"),
    [
        (["ERROR: Could not install: [Errno 28] No space left on device"], "no space left", 74),
        (["WARNING: Retrying after NewConnectionError('…')", "ERROR: No matching distribution"], "network", 69),
        (["ERROR: Could not find a version that satisfies hatchling (from versions: none)"], "network", 69),
        (["note: x", "ERROR: Cannot install h11 because of y", "", "hint"], "Cannot install h11 because of y", 69),
        (["error: subprocess-exited-with-error", "it broke"], "it broke", 69),
        ([], "ended without a word", 69),
    ],
)
def test_a_failure_is_two_lines_with_the_cause_and_a_remedy(lines: list[str], says: str, code: int) -> None:
    failure = environment.failed("cannot install the packages", lines)
    assert says in failure.reason
    assert failure.reason.count("\n") == 1
    assert failure.exit_code == code


def test_big_downloads_are_worth_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    lines = [
        "Collecting mlx\n",
        "  Downloading mlx_cpu-0.32.4-py3-none-manylinux_2_35_x86_64.whl (10.5 MB)\n",
        "  Downloading h11-0.16.0-py3-none-any.whl (37 kB)\n",
        "Installing collected packages: h11, mlx\n",
    ]
    assert list(environment.show(iter(lines), terminal=False)) == [line.strip() for line in lines]
    assert capfd.readouterr().err.splitlines() == [
        "claude-local: downloading mlx_cpu-0.32.4 (10.5 MB)",
        "claude-local: unpacking 2 packages …",
    ]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose environment is made by a stand-in for pip that fails when told to."""
    (tmp_path / "pyproject.toml").write_text("[dependency-groups]\ntest = ['pytest']\n")

    def create(venv: Path, uv: str | None) -> None:
        shutil.rmtree(venv, ignore_errors=True)
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)
        (venv / "made").touch()

    def install(root: Path, venv: Path, uv: str | None, group: str, lock: int) -> None:
        if (root / "offline").exists():
            raise Failure("no network")

    monkeypatch.setattr(environment, "_create", create)
    monkeypatch.setattr(environment, "_install", install)
    return tmp_path


def test_an_environment_is_made_once(checkout: Path) -> None:
    environment.make(checkout, "")
    (checkout / ".venv" / "made").unlink()
    environment.make(checkout, "")
    assert not (checkout / ".venv" / "made").exists()


def test_other_inputs_make_it_again_and_a_failure_is_not_complete(checkout: Path) -> None:
    environment.make(checkout, "")
    complete = checkout / ".venv" / "complete"
    (checkout / "constraints.txt").write_text("h11==0.16\n")
    (checkout / "offline").touch()
    with pytest.raises(Failure):
        environment.make(checkout, "")
    assert not complete.exists()
    (checkout / "offline").unlink()
    environment.make(checkout, "")
    assert "h11==0.16" in complete.read_text()


def test_the_packages_for_tests_come_on_top(checkout: Path) -> None:
    environment.make(checkout, "test")
    assert {path.name for path in (checkout / ".venv").iterdir()} >= {"complete", "complete-test"}
    assert environment.packages(checkout, "test") == ["-e", str(checkout), "pytest"]
    (checkout / "constraints.txt").write_text("")
    assert environment.packages(checkout, "") == ["-e", str(checkout), "-c", str(checkout / "constraints.txt")]


def test_a_link_to_a_python_that_is_gone_is_not_an_environment(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to("/no/such/python")
    assert not environment.works(tmp_path)
