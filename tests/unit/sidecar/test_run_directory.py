"""Where shim and sidecar meet, and what they say there."""

import os
import socket
from pathlib import Path

import pytest

from sidecar.shared import protocol, run_directory


def request() -> protocol.LeaseRequest:
    return protocol.LeaseRequest("ab" * 32, 42, "claude", "/home/me", 4242, "demo")


def test_a_lease_request_survives_the_wire() -> None:
    assert protocol.LeaseRequest.decode(request().encode()) == request()


def test_a_newer_clients_extra_keys_are_ignored() -> None:
    assert protocol.LeaseRequest.decode(request().encode()[:-1] + b', "hue": 3}') == request()


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"pid": 1}', b"\xff"])
def test_what_is_no_lease_request_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        protocol.LeaseRequest.decode(body)


def test_events_leave_out_what_is_empty() -> None:
    event = protocol.LeaseEvent("granted", model="demo")
    assert event.encode() == b'{"event": "granted", "model": "demo"}\n'
    assert protocol.LeaseEvent.decode(event.encode()) == event


def test_the_run_directory_is_made_private(short_dir: Path) -> None:
    directory = run_directory.run_directory(str(short_dir / "run"))
    assert directory.path.stat().st_mode & 0o777 == 0o700


def _symlink(path: Path) -> None:
    (path.parent / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.parent / "elsewhere")


def _open_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o750)


@pytest.mark.parametrize(
    ("plant", "says"),
    [
        (_symlink, "not a directory"),
        (_open_to_others, "open to other users"),
        (Path.touch, "File exists|not a directory"),
    ],
)
def test_an_unsafe_run_directory_is_refused_and_not_repaired(short_dir: Path, plant, says: str) -> None:  # type: ignore[no-untyped-def]
    path = short_dir / "run"
    plant(path)
    before = path.lstat()
    with pytest.raises(run_directory.RunDirectoryError, match=says):
        run_directory.run_directory(str(path))
    assert path.lstat() == before


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(run_directory.RunDirectoryError, match="too long"):
        run_directory.run_directory(str(tmp_path / ("x" * 100)))


def test_the_kernel_says_who_the_peer_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert run_directory.peer_uid(ours) == os.geteuid()
        assert run_directory.peer_pid(ours) == os.getpid()


def test_on_macos_the_uid_is_read_from_xucred() -> None:
    class Stub:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option, size) == (0, 1, 76)
            return (0).to_bytes(4, "little") + (501).to_bytes(4, "little") + bytes(68)

    assert run_directory.peer_uid(Stub(), platform="darwin") == 501  # type: ignore[arg-type]


def test_on_macos_the_peers_pid_has_an_option_of_its_own() -> None:
    class Stub:
        def getsockopt(self, level: int, option: int) -> int:
            assert (level, option) == (0, 2)
            return 4711

    assert run_directory.peer_pid(Stub(), platform="darwin") == 4711  # type: ignore[arg-type]


def test_the_run_directory_of_macos_is_in_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/Users/me")
    expected = Path("/Users/me/Library/Application Support/claude-local/run")
    assert run_directory._default_run_directory("darwin") == expected
