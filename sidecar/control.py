"""What shim and sidecar say to each other: where they meet, the lease protocol, who the peer is.

Standard library only, since the shim imports it in the fast path; named tuples, since importing dataclasses takes
the shim 15 ms and each relay 2 MB. The HTTP around these lines is ordinary HTTP/1.1 on a Unix socket; this file is the
only place where the lines are spelled.
"""

import json
import os
import socket
import stat
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

from sidecar import __version__

PROTOCOL = 1
"""Raised when a line below changes its meaning: shim and sidecar of different protocols do not talk."""

CONTROL = "/control/"
"""What begins so is for the shim alone, never for a client of a relay's port."""
LEASE_PATH = "/control/lease"
STATUS_PATH = "/control/status"
STOP_PATH = "/control/stop"
FORGET_PATH = "/control/forget"

GLOBAL = "global mode"
"""The command of a lease that stands for all terminals."""

SOCKET_PATH_LIMIT = 100
"""Bytes; sun_path holds 104 on macOS and 108 on Linux, and the private bind name is a little longer."""


def split_target(target: str) -> tuple[str, str]:
    """A request target's authority (empty in the usual form) and the rest of it. Both sides must read it alike, since
    one judges what the other serves."""
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        return "", target
    authority, _, path = rest.partition("/")
    return authority, f"/{path}"


def program(module: str, *arguments: str) -> list[str]:
    """The command line of a module of this very installation.

    Not `-m`: it would look among all that is installed, where an installation has its modules under another name, and
    others may have packages of theirs under these.
    """
    return [sys.executable, "-I", str(Path(__file__).with_name("__main__.py")), module, *arguments]


class RunDirectoryError(Exception):
    """The run directory cannot be trusted or used; the text says why and what to do."""


class LeaseRequest(NamedTuple):
    """The JSON body of `POST /control/lease`: who wants the model for as long as the connection stays open."""

    token_sha256: str
    """Hex digest of the invocation's token: the sidecar can check a token without ever holding one."""
    pid: int
    command: str
    """The command's name alone: arguments may hold secrets."""
    folder: str
    port: int
    model: str
    """Alias, hub id or path; the relay resolves relative paths."""
    strong: bool = True
    """A soft lease keeps the token valid, but only its requests count as use."""
    follow: bool = False
    """Whether its holder wants a `request` event for each request."""
    line: bool = False
    """Whether somebody reads `RunDirectory.line` of this pid."""
    protocol: int = PROTOCOL
    build: str = __version__

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @staticmethod
    def protocol_of(body: bytes) -> object:
        """The protocol of whoever sent this, which is all that may be read of another's request."""
        table = json.loads(body)
        return table.get("protocol", PROTOCOL) if isinstance(table, dict) else PROTOCOL

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raises ValueError when the body is not a lease request; unknown keys are a newer client's and ignored."""
        table = json.loads(body)
        if not isinstance(table, dict):
            raise ValueError("a lease request is a JSON object")
        try:
            return cls(**{name: table[name] for name in cls._fields if name in table})
        except TypeError as error:
            raise ValueError(f"not a lease request: {error}") from None


class LeaseEvent(NamedTuple):
    """One line of the answer to a lease request.

    event: `granted` | `retry` (this sidecar is leaving: start over) | `refused` (reason), then
    `downloading` (done and total bytes), `loading` and `ready` (the model's name, limits and speed; from `loading` on
    the weights are on disk) | `failed` (reason, exit_code). At any time `request`, to who follows.
    """

    event: str
    model: str = ""
    context_window: int = 0
    output_limit: int = 0
    done: int = 0
    total: int = 0
    speed: int = 0
    """Prompt tokens that this machine reads in a second with the model; 0 = not measured yet."""
    reason: str = ""
    exit_code: int = 0
    """What the launcher exits with after `failed` or `refused`; from sysexits.h."""
    protocol: int = 0
    """Of the sidecar that says `retry` or `refused`."""
    request: dict[str, Any] | None = None
    """One that has ended: method, path, status and seconds, and of an answer its tokens (`sidecar.followers.line`)."""

    def encode(self) -> bytes:
        table = {name: value for name, value in self._asdict().items() if value not in ("", 0, None)}
        return json.dumps(table).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        table: dict[str, Any] = json.loads(line)
        return cls(**{name: table[name] for name in cls._fields if name in table})


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
