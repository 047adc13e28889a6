"""Processes that a test looks for."""

import os
import socket
from pathlib import Path


def find_relay(port: int) -> int:
    """The relay's process id: it alone listens on the port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if sockets & {os.readlink(link) for link in (folder / "fd").iterdir()}:
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"nobody listens on port {port}")


def resident(pid: int) -> int:
    """Kilobytes of memory of a process."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1])


def is_fake(pid: int) -> bool:
    """Whether this process id is still one of ours."""
    try:
        return b"fake_sidecar" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()  # it has ended just now, if there is a /proc at all


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
