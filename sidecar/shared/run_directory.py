"""The directory where shim and sidecar meet, and who is at the other end of its socket.

Named tuples, since importing dataclasses takes the shim 15 ms and each relay 2 MB.
"""

import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import NamedTuple

SOCKET_PATH_LIMIT = 100
"""Bytes; sun_path holds 104 on macOS and 108 on Linux, and the private bind name is a little longer."""


class RunDirectoryError(Exception):
    """The run directory cannot be trusted or used; the text says why and what to do."""


class RunDirectory(NamedTuple):
    """The directory where shim and sidecar meet: 0700, ours, never repaired."""

    path: Path

    @property
    def socket(self) -> Path:
        return self.path / "socket"

    @property
    def spawn_lock(self) -> Path:
        """Held by the client that starts a sidecar."""
        return self.path / "spawn.lock"

    @property
    def life_lock(self) -> Path:
        """Held by the sidecar for life; two of them can never serve at once."""
        return self.path / "life.lock"

    def line(self, pid: int) -> Path:
        """What a terminal shows of itself: the sidecar's pid, then one line for people. Kept by the sidecar for as long
        as the lease of the command `pid` lasts."""
        return self.path / f"line-{pid}"


def run_directory(override: str = "") -> RunDirectory:
    """Make sure of the run directory; raises RunDirectoryError rather than repair one that is not safe.

    Not derived from the environment, since ssh, cron and desktop sessions of one user must meet.
    """
    path = Path(override) if override else _default_run_directory()
    if len(os.fsencode(path / "socket")) > SOCKET_PATH_LIMIT:
        raise RunDirectoryError(
            f"{path}: too long for a socket path ({SOCKET_PATH_LIMIT} bytes). Choose a shorter run_dir."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise RunDirectoryError(
            f"{path}: {error.strerror}. Set CLAUDE_LOCAL_RUN_DIR to a directory of yours."
        ) from None
    if status.st_uid != os.geteuid():  # in a folder such as /tmp only that user can remove it
        raise RunDirectoryError(
            f"{path} belongs to user {status.st_uid}, not to you. Set CLAUDE_LOCAL_RUN_DIR to a directory of yours."
        )
    if not stat.S_ISDIR(status.st_mode):
        raise RunDirectoryError(f"{path} is not a directory (a symbolic link?). Remove it.")
    if status.st_mode & 0o077:
        raise RunDirectoryError(
            f"{path} is open to other users (mode {status.st_mode & 0o777:o}). Remove it or chmod 700 it."
        )
    return RunDirectory(path)


def _default_run_directory(platform: str = sys.platform) -> Path:
    if platform == "darwin":
        return Path.home() / "Library/Application Support/claude-local/run"
    per_user = Path(f"/run/user/{os.geteuid()}")
    if per_user.is_dir() and per_user.stat().st_uid == os.geteuid():
        return per_user / "claude-local"
    return Path(f"/tmp/claude-local-{os.geteuid()}")


def peer_uid(connection: socket.socket, platform: str = sys.platform) -> int:
    """The effective uid at the other end of a Unix socket, from the kernel."""
    if platform == "darwin":
        # struct xucred {u_int version; uid_t uid; short ngroups; gid_t groups[16]}: <sys/ucred.h>
        level, local_peercred = 0, 1
        raw = connection.getsockopt(level, local_peercred, 76)
        return int(struct.unpack_from("=II", raw)[1])
    # struct ucred {pid_t pid; uid_t uid; gid_t gid}: unix(7)
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def peer_pid(connection: socket.socket, platform: str = sys.platform) -> int:
    """The process at the other end of a Unix socket, from the kernel."""
    if platform == "darwin":
        level, local_peerpid = 0, 2  # <sys/un.h>
        return connection.getsockopt(level, local_peerpid)
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[0])
