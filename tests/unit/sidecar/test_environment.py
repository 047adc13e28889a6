"""Where mlx may keep the kernels that it compiles and loads as code."""

import os
from pathlib import Path

import pytest

from sidecar.supervisor import environment as mlx_environment


@pytest.fixture
def home(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's, with a run directory beside it; what the system offers for temporary files is open to all."""
    home, run = short_dir / "home", short_dir / "run"
    home.mkdir()
    run.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CLAUDE_LOCAL_RUN_DIR", str(run))
    monkeypatch.setenv("TMPDIR", "/somewhere")
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MLX_PTX_CACHE_DIR", "MLX_DISABLE_COMPILE"):
        monkeypatch.delenv(name, raising=False)
    mlx_environment._say.cache_clear()
    return home


def usual(home: Path) -> Path:
    return home / ".cache" / "claude-local" / "kernels"


def fallback(home: Path) -> Path:
    return home.parent / "run" / "kernels"


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_kernels_lie_where_nobody_else_may_write(home: Path, platform: str) -> None:
    folder = Path(mlx_environment.environment(platform)["TMPDIR"])
    assert folder == usual(home)
    assert folder.stat().st_mode & 0o777 == 0o700


def open_it(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)


def link_it(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def make_it_a_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.touch()


def let_all_into_its_parent(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    folder.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (open_it, "open to others (mode 755)"),
        (link_it, "symbolic link"),
        (make_it_a_file, "File exists"),
        (let_all_into_its_parent, "claude-local, which others can change"),
    ],
)
def test_a_folder_that_others_could_have_a_hand_in_is_left_as_it_is(
    home: Path, spoil: object, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The run directory is used instead, and the log says so once."""
    spoil(usual(home))  # type: ignore[operator]
    before = [each.lstat().st_mode for each in (usual(home), usual(home).parent)]
    for _ in range(2):
        assert mlx_environment.environment()["TMPDIR"] == str(fallback(home))
    assert before == [each.lstat().st_mode for each in (usual(home), usual(home).parent)]
    (said,) = caplog.messages
    assert word in said and str(fallback(home)) in said


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a folder of another user, which only root can make")
@pytest.mark.parametrize("whose", ["kernels", "claude-local", ".cache"])
def test_a_folder_of_another_user_is_not_used_nor_what_lies_in_one(home: Path, whose: str) -> None:
    usual(home).mkdir(mode=0o700, parents=True)
    os.chown(next(each for each in (usual(home), *usual(home).parents) if each.name == whose), 64_102, 64_102)
    assert mlx_environment.find_kernels().folder == fallback(home)


def test_a_folder_for_all_in_which_names_are_their_owners_is_as_good_as_any(home: Path) -> None:
    """As /tmp is, by its sticky bit."""
    usual(home).mkdir(mode=0o700, parents=True)
    home.chmod(0o1777)
    assert mlx_environment.find_kernels() == mlx_environment.Kernels(usual(home))


@pytest.mark.parametrize("name", ["a $HOME", 'a "b"', "a`id`b", "a\\b", "a\nb"])
def test_a_home_that_a_shell_would_read_as_something_else_is_no_place(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(home / name))
    assert mlx_environment.find_kernels().folder == fallback(home)


@pytest.mark.parametrize("name", ["a b", "ä", "it's", "a;b", "(a)", "a&b", "*"])
def test_a_home_with_any_other_name_is_one(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(home / name))
    assert mlx_environment.find_kernels().folder == usual(home / name)


def test_where_there_is_no_place_no_kernel_is_loaded_from_one(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not from the folder for temporary files either, which is everybody's."""
    open_it(usual(home))
    open_it(fallback(home))
    environment = mlx_environment.environment()
    assert environment["MLX_DISABLE_COMPILE"] == "1"
    assert not Path(environment["MLX_PTX_CACHE_DIR"]).exists()
    assert "done without" in caplog.text


def test_a_full_disk_is_no_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(dir: Path) -> object:
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(mlx_environment.tempfile, "TemporaryFile", full)
    found = mlx_environment.find_kernels()
    assert found.folder is None and "No space left" in found.why


def test_a_folder_for_kernels_of_the_gpu_is_kept_if_it_is_safe(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = home / "ptx"
    own.mkdir(mode=0o700)
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(own))
    assert mlx_environment.environment()["MLX_PTX_CACHE_DIR"] == str(own)
    own.chmod(0o777)
    assert "MLX_PTX_CACHE_DIR" not in mlx_environment.environment()


def test_an_error_about_a_kernel_has_them_all_compiled_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sidecar.engine import kernels

    (usual(home) / "mlx" / "1").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(usual(home)))
    kernels.forget(RuntimeError("something else"))
    assert (usual(home) / "mlx").exists()
    monkeypatch.setenv("TMPDIR", str(usual(home).parent))
    kernels.forget(RuntimeError("Could not load C++ shared library x.so: file too short"))
    assert (usual(home) / "mlx").exists(), "only in a folder that is ours to empty"
    monkeypatch.setenv("TMPDIR", str(usual(home)))
    kernels.forget(RuntimeError("[Compile::eval_cpu] Failed to compile function x: y"))
    assert not (usual(home) / "mlx").exists()
