"""settings.json under fire: kills at every step, and crowds that write it at the same time.

In each test the user's keys, and what every writer has written, must be there at every moment that anybody looks; at
the end ours are gone, and what nobody else has touched is what it was, to the last byte.
"""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from shim.errors import Failure
from shim.global_mode import exchange_files, settings_edit, settings_file, undo_journal
from shim.global_mode.settings_file import Settings
from tests.conftest import FULL

FILES = {module.__file__ for module in (settings_file, undo_journal, exchange_files, settings_edit)}

BEFORE = b'{"theme":"dark",  "env": {"MINE": "1", "ANTHROPIC_MODEL": "opus"},\t"permissions": {"allow": ["Bash"]}}\n\n'
"""In a style that no program would choose."""

KEYS = {("env", "ANTHROPIC_MODEL"): "demo", ("env", "ANTHROPIC_BASE_URL"): "http://ours", ("apiKeyHelper",): "cat"}
OTHER_KEYS = {**KEYS, ("env", "ANTHROPIC_MODEL"): "other", ("env", "MORE"): "1"}


class User:
    """A folder with settings.json, and a journal elsewhere."""

    def __init__(self, folder: Path, before: bytes | None = BEFORE) -> None:
        self.file = folder / "claude" / "settings.json"
        self.journal = folder / "journal"
        self.before = before
        if before is not None:
            self.file.parent.mkdir()
            self.file.write_bytes(before)

    def on(self, keys: settings_edit.Keys = KEYS) -> None:
        Settings(self.journal, self.file).on(lambda _: keys)

    def off(self) -> None:
        Settings(self.journal, self.file).off()

    def table(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads(self.file.read_bytes())
        return table

    def text(self) -> bytes | None:
        return self.file.read_bytes() if self.file.exists() else None

    def check(self) -> None:
        """Nothing of the user's is lost, whether we are in it or not."""
        if self.before is not None:
            table = self.table()
            assert table["theme"] == "dark"
            assert table["permissions"] == {"allow": ["Bash"]}
            assert table["env"]["MINE"] == "1"
            assert table["env"]["ANTHROPIC_MODEL"] in ("opus", "demo", "other")

    def check_off(self) -> None:
        assert self.text() == self.before
        left = [path.name for path in self.file.parent.iterdir()] if self.file.parent.exists() else []
        assert left == ([] if self.before is None else ["settings.json"])
        assert not self.journal.exists()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill leaves the lock behind: what is 10 s between people is less where nobody else can hold it."""
    monkeypatch.setattr(settings_file, "STALE", 0.02)
    monkeypatch.setattr(settings_file, "SETTLE", 0.03)


@pytest.fixture(params=[BEFORE, None], ids=["file", "no file"])
def user(request: pytest.FixtureRequest, tmp_path: Path) -> User:
    return User(tmp_path, request.param)


def test_on_and_off(user: User) -> None:
    user.on()
    user.check()
    assert settings_edit.has(user.text(), KEYS)
    user.on(OTHER_KEYS)
    assert settings_edit.has(user.text(), OTHER_KEYS)
    user.off()
    user.check_off()
    user.off()
    user.check_off()


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_the_mode_stays(user: User, mode: int) -> None:
    if user.before is None:
        user.on()
        assert user.file.stat().st_mode & 0o777 == 0o600
        return
    user.file.chmod(mode)
    user.on()
    assert user.file.stat().st_mode & 0o777 == mode
    user.off()
    assert user.file.stat().st_mode & 0o777 == mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = User(tmp_path)
    link = tmp_path / "link.json"
    link.symlink_to("claude/settings.json")
    Settings(real.journal, link).on(lambda _: KEYS)
    assert link.is_symlink()
    assert settings_edit.has(real.text(), KEYS)
    Settings(real.journal, link).off()
    assert link.is_symlink()
    real.check_off()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"// mine\n{}", b'{"env": 1}'])
def test_what_is_not_understood_is_left_alone(tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_file, "PATIENCE", 0.05)
    user = User(tmp_path, text)
    with pytest.raises(Failure, match=r"settings\.json is left as it is: it"):
        user.on()
    assert user.text() == text
    user.off()
    assert user.text() == text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    user = User(tmp_path, None)
    (tmp_path / "claude").write_text("a file")
    with pytest.raises(Failure, match="claude: "):
        user.on()


def test_what_somebody_changed_meanwhile_stays(user: User) -> None:
    user.on()
    table = user.table()
    table["model"] = "opus"
    del table["env"]["ANTHROPIC_BASE_URL"]
    user.file.write_text(json.dumps(table))
    user.off()
    assert user.table() == {**json.loads(user.before or b"{}"), "model": "opus"}


def test_off_when_the_folder_is_gone(user: User) -> None:
    user.on()
    shutil.rmtree(user.file.parent)
    user.off()
    assert not user.journal.exists()


# Kills


def killed_at(step: int, act: Callable[[], None]) -> bool:
    """Do it in another process that kills itself before its `step`th line; whether it came to that."""

    def until_then() -> None:
        _kill_before(step)
        act()

    child = begin(until_then)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def _kill_before(step: int) -> None:
    left = step

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in FILES:
            return None
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


@pytest.mark.parametrize("next_is", ["on", "off"])
@pytest.mark.parametrize("act", ["on", pytest.param("on again", marks=pytest.mark.full), "off"])
def test_a_kill_at_any_step_leaves_a_way_back(
    user: User, act: str, next_is: str, figure: Callable[[str], None]
) -> None:
    """The long run kills before each line; the short one before every 67th."""
    step, stride, kills = 1, 1 if FULL else 67, 0
    while True:
        if act != "on":
            user.on()
        acts = {"on": user.on, "on again": lambda: user.on(OTHER_KEYS), "off": user.off}
        was_killed = killed_at(step, acts[act])
        user.check()
        if next_is == "on":
            user.on()
            assert settings_edit.has(user.text(), KEYS)
            user.check()
        user.off()
        user.check_off()
        if not was_killed:
            break
        kills += 1
        step += stride
    figure(f"{kills} kills")
    assert kills > 2


# Crowds


class Writer:
    """Somebody who sets a key of their own, a few times, in one of the ways in which people write such files."""

    def __init__(self, user: User, way: str, name: str, times: int, pause: float) -> None:
        self.user, self.way, self.name, self.times, self.pause = user, way, name, times, pause

    def run(self) -> None:
        random.seed(self.name)
        for number in range(1, self.times + 1):
            time.sleep(random.random() * self.pause)  # people are not always at it
            with _locked(self.user, self.way):
                table = self.user.table()
                self.user.check()
                expected = {self.name: number - 1} if number > 1 else {}
                assert {key: table[key] for key in [self.name] if key in table} == expected
                table[self.name] = number
                self._write(json.dumps(table, indent=2).encode())

    def _write(self, text: bytes) -> None:
        if self.way == "in place":
            self.user.file.write_bytes(text)
            return
        part = self.user.file.with_name(f"settings.json.tmp.{os.getpid()}")
        part.write_bytes(text)
        part.rename(self.user.file)


class _locked:
    """Writers never lose each other's changes, so that what is lost was lost by us. The client's lock is known to us,
    the other to them alone."""

    def __init__(self, user: User, way: str) -> None:
        self._folder = Path(f"{user.file}.lock") if way == "as the client" else None
        self._private = user.file.parent.parent / "private"

    def __enter__(self) -> None:
        if self._folder is None:
            self._descriptor = os.open(self._private, os.O_RDWR | os.O_CREAT)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        else:
            while not _made(self._folder):
                time.sleep(random.uniform(0.1, 0.4))  # the client's own way of waiting for it
                assert os.getppid() != 1, "the test has ended"

    def __exit__(self, *_: object) -> None:
        if self._folder is None:
            os.close(self._descriptor)
        else:
            self._folder.rmdir()


def _made(folder: Path) -> bool:
    """Make it, or remove what a kill has left of it."""
    with contextlib.suppress(FileNotFoundError):
        try:
            folder.mkdir()
            return True
        except FileExistsError:
            if time.time() - folder.stat().st_mtime > settings_file.STALE:
                folder.rmdir()
    return False


def begin(act: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        act()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.mark.parametrize(
    "way", ["as the client", *(pytest.param(way, marks=pytest.mark.full) for way in ("by rename", "in place"))]
)
def test_a_crowd_loses_nothing(
    tmp_path: Path, way: str, figure: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On and off and kills while others write: whatever they wrote is there in the end, and nothing is torn.

    Who writes in place leaves half a text when somebody looks at the wrong moment; we must not be killed over it, too.
    """
    monkeypatch.setattr(settings_file, "STALE", 2.0)  # a writer may be held up where a thousand run
    monkeypatch.setattr(settings_file, "SETTLE", 0.25)  # the product's own
    user = User(tmp_path)
    writers = 1000 if FULL else 30
    rounds = 100 if FULL else 6
    pause = 40.0 if FULL else 0.4
    times = 1 if FULL else 3
    crowd = [begin(Writer(user, way, f"writer{n}", times, pause).run) for n in range(writers)]
    kills = 0
    for number in range(rounds):
        if way != "in place" and number % 2:
            kills += killed_at(random.Random(number).randrange(1, 400), user.on)
        user.on()
        if way == "as the client":  # the others may have read before us what they write now
            assert settings_edit.has(user.text(), KEYS)
        if way != "in place" and number % 3 == 2:
            kills += killed_at(random.Random(number).randrange(1, 400), user.off)
        user.off()
    failed = [child for child in crowd if os.waitpid(child, 0)[1] != 0]
    assert not failed
    user.off()
    assert user.table() == {**json.loads(BEFORE), **{f"writer{n}": times for n in range(writers)}}
    assert [path.name for path in user.file.parent.iterdir()] == ["settings.json"]
    figure(f"{rounds} times on and off, {kills} kills, {writers} writers")
