"""claude-local uninstall: a home folder is listed before and after. Whatever was there before us is there after us."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import census
from tests.support.place import Place, Session
from tests.support.processes import free_port
from tests.support.real_place import persistent_ask
from tests.support.waiting import wait_until

STANDARD = {".cache", ".config", ".local", ".local/share", ".local/state", ".cache/huggingface"}
"""Folders that belong to nobody in particular: whoever needs them makes them."""


class User(Place):
    """A user who has let everything lie where it does by itself, with the real sidecar and the demo model."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("LOG_DIR", "DATA_DIR", "TEST_SIDECAR", "DISK_CACHE"):
            self.environment.pop(f"CLAUDE_LOCAL_{name}", None)
        for name in [name for name in self.environment if name.startswith(("XDG_", "HF_"))]:
            del self.environment[name]
        self.environment |= {"CLAUDE_LOCAL_MODEL": "demo"}
        (folder / ".claude").mkdir()
        (folder / ".claude" / "settings.json").write_text('{"theme":"dark"}')
        (folder / "work").mkdir()
        (folder / "work" / "notes.txt").write_text("mine")

    def tree(self) -> dict[str, str]:
        """Every path under the home, and what is in it."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if name not in STANDARD:
                found[name] = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else "/"
        return found

    def uninstall(self, *more: str, code: int = 0) -> str:
        result = self.call("uninstall", *more)
        assert result.returncode == code, result
        return str(result.stdout + result.stderr)

    def plant(self, name: str, text: str = "x" * 1000) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def clean(self) -> None:
        for pid in census.processes(self.run):
            census.kill(pid)
        super().clean()


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    user = User(tmp_path)
    yield user
    user.clean()


def plant_everything(user: User) -> None:
    """What months of use leave behind."""
    user.plant(".local/share/claude-local/claude-code/2.1.330/node_modules/.bin/claude")
    user.plant(".local/share/claude-local/claude-code/install.lock", "")
    user.plant(".local/share/claude-local/speeds.json", "{}")
    user.plant(".cache/claude-local/prefixes/" + "a" * 32 + "/about.json", "{}")
    user.plant(".cache/claude-local/kernels/one.so")
    for name in ("sidecar.log", "sidecar.log.1", "relay.log"):
        user.plant(f".local/state/claude-local/logs/{name}")
    for name in ("life.lock", "spawn.lock", "claude-settings-1-ab.json"):
        (user.run / name).touch()


def test_nothing_of_ours_is_left_after_real_use(user: User) -> None:
    """A command, an answer, global mode, then the end of it all, with a terminal still open."""
    before = user.tree()
    port = free_port()
    assert user.call("global", "on", "--detached", "--port", str(port)).returncode == 0
    assert user.call("sh", "-c", "true").returncode == 0
    session = user.start("sh", "-c", "echo open; read line")
    assert session.stdout is not None
    assert session.stdout.readline() == b"open\n"
    assert user.tree() != before
    said = user.uninstall("--yes")
    assert "the model of: sh" in said
    assert user.tree() == before
    assert not user.run.exists()
    assert not [words for words in map(census.words, census.processes(user.run)) if "shim.global_mode" in words]


def test_everything_goes_and_only_that(user: User) -> None:
    before = user.tree()
    plant_everything(user)
    said = user.uninstall("--dry-run")
    kinds = ("Claude Code", "measured speeds", "what has been read", "compiled kernels", "logs", "sockets and locks")
    assert [kind for kind in kinds if kind not in said] == []
    planted = user.tree()
    assert planted != before
    assert user.uninstall("--dry-run") == said
    assert user.tree() == planted
    user.uninstall("--yes")
    assert user.tree() == before
    assert not user.run.exists()


def test_again_is_no_failure(user: User) -> None:
    user.uninstall("--yes")
    assert "nothing of claude-local" in user.uninstall("--yes")


def test_without_a_yes_nothing_goes(user: User) -> None:
    plant_everything(user)
    before = user.tree()
    assert "Say so with --yes" in user.uninstall(code=64)
    assert user.tree() == before


def test_the_configuration_goes_when_that_is_said(user: User) -> None:
    file = user.plant(".config/claude-local/config.toml", 'model = "demo"\n')
    assert f"{file} stays" in user.uninstall("--yes")
    assert file.exists()
    user.uninstall("--yes", "--all")
    assert not file.parent.exists()


def test_links_are_removed_and_never_followed(user: User, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A folder that somebody has moved to a bigger disk, and links that lead out of ours."""
    outside = tmp_path_factory.mktemp("outside")
    for name in ("claude-code/kept", "global/kept", "kept", "a" * 32 + "/kept"):
        (outside / name).parent.mkdir(exist_ok=True)
        (outside / name).write_text("mine")
    before = user.tree()
    plant_everything(user)
    data = user.folder / ".local/share/claude-local"
    (data / "claude-code" / "2.1.330" / "link").symlink_to(outside)
    (user.folder / ".cache/claude-local/prefixes" / ("b" * 32)).symlink_to(outside / ("a" * 32))
    logs = user.folder / ".local/state/claude-local/logs"
    (logs / "relay.log.1").symlink_to(outside / "kept")
    kernels = user.folder / ".cache/claude-local/kernels"
    (kernels / "one.so").unlink()
    kernels.rmdir()
    kernels.symlink_to(outside)
    assert f"{kernels} is a link" in user.uninstall("--yes").replace("\n", " ")
    assert user.tree() == before
    assert len([path for path in outside.rglob("kept") if path.read_text() == "mine"]) == 4


def test_a_place_that_is_a_link_goes_and_its_target_stays(user: User, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "speeds.json").write_text("{}")
    place = user.folder / ".local/share/claude-local"
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    user.uninstall("--yes")
    assert not place.is_symlink()
    assert (outside / "speeds.json").exists()


def test_a_configured_folder_keeps_what_is_not_ours(user: User) -> None:
    """Somebody may have configured their home."""
    for name in ("DATA_DIR", "LOG_DIR", "DISK_CACHE"):
        user.environment[f"CLAUDE_LOCAL_{name}"] = str(user.folder)
    user.environment["CLAUDE_LOCAL_RUN_DIR"] = str(user.folder)
    user.folder.chmod(0o700)
    user.plant("claude-code/source/main.c")
    user.plant("global/tokens/notes")
    user.plant("global/mine")
    user.plant("b" * 32 + "/mine")
    for name in ("poetry.lock", "socket.io", "speeds.json.old", "sidecar.log.notes"):
        user.plant(name)
    before = user.tree()
    for name in ("claude-code/2.1.330/file", "sidecar.log", "sidecar.log.1", "a" * 32 + "/about.json", "life.lock"):
        user.plant(name)
    assert f"{user.folder} stays" in user.uninstall("--yes")
    assert user.tree() == before


def test_models_go_when_that_is_said_and_others_stay(user: User) -> None:
    hub = ".cache/huggingface/hub"
    for repository in ("mlx-community--Some-Model-4bit", "somebody--for-another-program"):
        user.plant(f"{hub}/models--{repository}/snapshots/1/model.safetensors")
        user.plant(f"{hub}/models--{repository}/blobs/1")
    user.plant(f"{hub}/datasets--somebody--data/blobs/1")
    assert "Some-Model" not in user.uninstall("--yes")
    said = user.uninstall("--yes", "--models")
    assert "mlx-community/Some-Model-4bit" in said
    assert "another-program" not in said
    left = {path.name for path in (user.folder / hub).iterdir() if not path.name.startswith(".")}
    assert left == {"models--somebody--for-another-program", "datasets--somebody--data"}


@pytest.mark.full
def test_what_has_been_read_goes_too(user: User) -> None:
    """Written by the engine itself, as its sidecar ends."""
    user.environment["CLAUDE_LOCAL_GRACE"] = "0"
    before = user.tree()
    session = Session(user)
    persistent_ask(session, tools=[{"name": "look", "input_schema": {"type": "object"}}])
    session.end()
    prefixes = user.folder / ".cache/claude-local/prefixes"
    wait_until(lambda: {file.suffix for file in prefixes.rglob("*.*")} == {".json", ".place", ".safetensors"})
    user.uninstall("--yes")
    assert user.tree() == before


def test_sizes_are_those_on_disk_and_settings_are_spoken_of_only_where_we_wrote_them(user: User) -> None:
    """npm links its binary to a second name; a `global on` that failed has left its token."""
    binary = user.plant(".local/share/claude-local/claude-code/2.1.330/claude", "x" * 3_000_000)
    binary.with_name("twin").hardlink_to(binary)
    user.plant(".local/share/claude-local/global/token")
    said = user.uninstall("--dry-run")
    assert " 3.0 MB" in said and "6.0 MB" not in said
    assert "settings.json" not in said
