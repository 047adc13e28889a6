"""Who is there: every process of one run directory, by what it is. Linux, since it reads /proc."""

import contextlib
import http.client
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import psutil

from sidecar.shared.protocol import STATUS_PATH

PARTS = {
    "engine": b"sidecar.engine.worker",
    "sidecar": b"sidecar.serve",
    "light": b"light_sidecar",
    "shim": b"shim/__main__",
}
"""What a role's command line holds. A launcher that has become the command has the command's own."""


def processes(run: Path, role: str = "") -> list[int]:
    """Process ids in this directory: of one role (`shim` is a relay or a launcher), or of all."""
    mark = f"CLAUDE_LOCAL_RUN_DIR={run}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if mark not in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                continue
            line = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if not role or PARTS[role] in line:
            found.append(int(name))
    return found


def words(pid: int) -> list[str]:
    """Its command line; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def holders_of(port: int) -> list[int]:
    """Who listens at a port of 127.0.0.1: a relay."""
    listening = psutil.net_connections("tcp4")
    return [each.pid for each in listening if each.status == "LISTEN" and each.laddr.port == port and each.pid]


def private_mb(pid: int) -> float:
    """Memory that is given back when the process ends, in MB."""
    return float(psutil.Process(pid).memory_full_info().uss) / 1e6


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(run: Path, seconds: float = 10.0) -> dict[str, Any] | None:
    """What the sidecar says of itself; None when none answers."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(seconds)
    try:
        connection.sock.connect(str(run / "socket"))
        connection.request("GET", STATUS_PATH)
        return dict(json.loads(connection.getresponse().read()))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
