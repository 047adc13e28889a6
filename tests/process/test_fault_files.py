"""Files that vanish, directories that are not safe, disks that are full: healed, refused, or one clear line."""

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shim.errors import Failure
from shim.lease import attach
from sidecar.shared import protocol, run_directory
from tests.support.place import Session
from tests.support.real_place import RealPlace, persistent_ask
from tests.support.waiting import wait_until

HEALED_S = 30.0


@pytest.fixture
def light(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, light=True, grace=0.5)
    yield place
    place.clean()


def test_a_sidecar_whose_locks_are_removed_puts_its_own_back(light: RealPlace) -> None:
    """Nobody would notice for long: its socket is there. But once it leaves, the next would not wait for its end."""
    session = Session(light)
    directory, (sidecar,) = run_directory.RunDirectory(light.run), light.sidecars()
    for lock in (directory.life_lock, directory.spawn_lock):
        lock.unlink()
    wait_until(lambda: attach.holder(directory) == sidecar and directory.socket.exists(), HEALED_S)
    persistent_ask(session)
    other = Session(light)
    assert light.sidecars() == [sidecar]
    assert other.end() == session.end() == 0
    light.finish()


def test_what_one_left_that_was_killed_while_it_published_is_cleared_away(light: RealPlace) -> None:
    with socket.socket(socket.AF_UNIX) as half_open:
        half_open.bind(str(light.run / "socket.4711"))
    assert light.call("true").returncode == 0
    light.finish()


def unsafe(place: RealPlace, how: str) -> Path:
    if how == "symlinked":
        link = place.run.with_name(place.run.name + "-link")
        link.symlink_to(place.run)
        return link
    if how == "group-writable":
        place.run.chmod(0o770)
    elif os.geteuid() == 0:
        os.chown(place.run, 65534, 65534)
    else:
        return Path("/usr")
    return place.run


@pytest.mark.parametrize("how", ["symlinked", "group-writable", "another's"])
def test_an_unsafe_directory_is_refused_and_whoever_listens_there_hears_nothing(light: RealPlace, how: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(light.run / "socket"))
        listener.listen()
        listener.setblocking(False)
        directory = unsafe(light, how)
        for words in (["true"], ["status"], ["stop"]):
            result = light.call(*words, env={**light.environment, "CLAUDE_LOCAL_RUN_DIR": str(directory)})
            assert result.returncode == 73
            assert result.stderr.startswith(f"claude-local: {directory}") and result.stderr.count("\n") == 1
        with pytest.raises(BlockingIOError):
            listener.accept()
    if directory.is_symlink():
        directory.unlink()
    if os.geteuid() == 0:
        os.chown(light.run, 0, 0)
    light.run.chmod(0o700)
    assert not light.sidecars()


LISTEN = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
if os.geteuid() == 0:
    os.seteuid(65534)
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
print(len(connection.recv(65536)), flush=True)
"""


def test_a_listener_of_another_user_is_refused_before_it_is_told_anything(
    light: RealPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says whose it is: as root a second user is real, else our own number is taken for another's."""
    if os.geteuid() != 0:
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    directory = run_directory.RunDirectory(light.run)
    request = protocol.LeaseRequest("0" * 64, os.getpid(), "sh", "/", 1, "demo")
    command = [sys.executable, "-c", LISTEN, str(directory.socket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as foreign:
        assert foreign.stdout is not None and foreign.stdout.readline() == "listening\n"
        with pytest.raises(Failure, match="another user"):
            attach.try_lease(directory, request, time.monotonic() + 20)
        assert foreign.stdout.readline() == "0\n"


def one_line(result: subprocess.CompletedProcess[str]) -> bool:
    return result.stderr.startswith("claude-local: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"CLAUDE_LOCAL_RUN_DIR": "/tmp/" + "x" * 120}, 73),
        ({"CLAUDE_LOCAL_RUN_DIR": "/proc/nowhere/run"}, 73),
        ({"CLAUDE_LOCAL_RUN_DIR": "/etc/passwd"}, 73),
        ({"HOME": "not/absolute"}, 78),
        ({"HOME": None, "TMPDIR": None}, 0),
        ({"HOME": "/proc/nowhere", "TMPDIR": "/nowhere", "CLAUDE_LOCAL_LOG_DIR": "/proc/nowhere/logs"}, 0),
    ],
    ids=str,
)
def test_a_strange_environment_is_one_clear_line_or_does_not_matter(
    light: RealPlace, changes: dict[str, str | None], code: int
) -> None:
    environment = {name: value for name, value in {**light.environment, **changes}.items() if value is not None}
    result = light.call("true", env=environment)
    assert result.returncode == code
    assert one_line(result) if code else result.stderr == ""


@pytest.mark.parametrize(
    ("options", "runs"),
    [("ro", False), ("nr_inodes=1", False), ("nr_inodes=3", False), ("nr_inodes=9", True)],
    ids=["read-only", "no-file", "two-files", "full"],
)
def test_a_disk_that_takes_nothing_is_one_clear_line(light: RealPlace, options: str, runs: bool) -> None:
    """Where even the locks cannot be made; where only bytes are missing, nothing is."""
    script = f"mount -t tmpfs -o mode=700,size=4k,{options} none {light.run}; "
    script += f"(cat /dev/zero >{light.run}/fill) 2>&-; " if runs else ""
    script += 'exec "$@"'
    namespace = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        light.run.chmod(0o500)  # where the kernel gives nobody a mount of his own
        namespace, script, runs = [], 'exec "$@"', False
    light.environment["CLAUDE_LOCAL_GRACE"] = "0"
    command = [*namespace, "sh", "-c", script, "sh", *light.shim, "true"]
    result = subprocess.run(command, env=light.environment, capture_output=True, text=True, timeout=60)
    light.run.chmod(0o700)
    assert (result.returncode == 0) == runs, result.stderr
    assert result.stderr == "" if runs else one_line(result)


def test_full_logs_are_no_reason_not_to_serve(light: RealPlace) -> None:
    logs = light.folder / "logs"
    logs.mkdir()
    for name in ("sidecar.log", "relay.log"):
        (logs / name).symlink_to("/dev/full")
    assert light.call("sh", "-c", "exit 3").returncode == 3


@pytest.mark.parametrize("number", [5, 10, 18])
def test_too_few_descriptors_are_one_clear_line(light: RealPlace, number: int) -> None:
    limits = (number, number)
    result = light.call("true", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits))
    assert result.returncode > 0
    assert one_line(result)
    assert light.call("sh", "-c", "exit 3").returncode == 3  # it left nothing in the way
    shutil.rmtree(light.folder / "logs")
