"""A small machine inside this one: a memory control group, or where none can be made, our own limit; and ballast."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sidecar.memory import probe
from tests.support.real_sidecar import REAL, Sidecar
from tests.support.waiting import wait_until

GB = 10**9

_BALLAST = """
import socket, sys
if len(sys.argv) > 1:
    one_of_ours = socket.socket(socket.AF_UNIX)
    one_of_ours.connect(sys.argv[1])
held = []
for line in sys.stdin:
    held.append(b"x" * int(line))
    print(len(held), flush=True)
"""
_JOIN = 'echo $$ > "$0/cgroup.procs"; exec "$@"'


class Group:
    """A control group of version 1 or 2 with a limit. Raises OSError where none can be made."""

    def __init__(self, limit: int) -> None:
        [parent, *_] = probe.own_groups()
        self.folder = parent.folder / f"claude-local-test-{os.getpid()}-{time.monotonic_ns()}"
        self.folder.mkdir()
        self._version_2 = (self.folder / "memory.max").exists()
        (self.folder / ("memory.max" if self._version_2 else "memory.limit_in_bytes")).write_text(str(limit))

    def command(self, command: list[str]) -> list[str]:
        """The same command, run inside."""
        return ["sh", "-c", _JOIN, str(self.folder), *command]

    def peak(self) -> int:
        return int((self.folder / ("memory.peak" if self._version_2 else "memory.max_usage_in_bytes")).read_text())

    def kills(self) -> int:
        """How often the kernel had to kill somebody in here for want of memory."""
        text = (self.folder / ("memory.events" if self._version_2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def close(self) -> None:
        wait_until(lambda: not (self.folder / "cgroup.procs").read_text())
        self.folder.rmdir()


class SmallMachine:
    """A sidecar that has `limit` bytes of memory; its lines are parts of that, as they are on a machine of 6 GB."""

    def __init__(self, folder: Path, model: str, limit: int, **variables: str) -> None:
        self.limit = limit
        self.caution, self.critical, self.emergency = 0.45 * limit, 0.22 * limit, 0.11 * limit
        lines = {"CAUTION": self.caution, "CRITICAL": self.critical, "EMERGENCY": self.emergency}
        variables |= {f"CLAUDE_LOCAL_MEMORY_{name}_GB": str(line / GB) for name, line in lines.items()}
        try:
            self.group: Group | None = Group(limit)
            command = self.group.command(REAL)
        except (OSError, ValueError):
            self.group, command = None, REAL
            variables["CLAUDE_LOCAL_MEMORY_LIMIT_GB"] = str(limit / GB)
        # Caches as they are: packed ones would fit, and what is tested here is what happens when something does not.
        variables |= {"CLAUDE_LOCAL_GRACE": "60", "CLAUDE_LOCAL_KV_BITS": "16"}
        self.sidecar = Sidecar(folder, command, model, **variables)
        self._ballast: subprocess.Popen[str] | None = None

    def memory(self) -> dict[str, Any]:
        return dict(self.sidecar.status()["memory"])

    def free(self) -> int:
        """Bytes left, looked up here and now: what the sidecar shows may be a second old."""
        if self.group is not None:
            return probe.Group(self.group.folder).available(self.limit)
        ours = [self.sidecar.processes[0].pid, self.sidecar.status()["engine"]["pid"], self._ballast.pid]
        return self.limit - sum(map(probe.process_bytes, filter(None, ours)))

    def fill(self, left: float) -> None:
        """Let ballast grow, piece by piece, until so many bytes are left."""
        if self._ballast is None:
            command = [sys.executable, "-ISc", _BALLAST, *([] if self.group else [str(self.sidecar.socket)])]
            command = self.group.command(command) if self.group else command
            self._ballast = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._ballast.stdin and self._ballast.stdout
        missing = int(self.free() - left)
        while missing > 0:
            piece = min(missing, 50_000_000)
            self._ballast.stdin.write(f"{piece}\n")
            self._ballast.stdin.flush()
            assert self._ballast.stdout.readline(), "the ballast was killed"
            missing -= piece

    def release(self) -> None:
        if self._ballast is not None:
            assert self._ballast.poll() is None, "the ballast was killed"
            self._ballast.kill()
            self._ballast.communicate()
            self._ballast = None

    def unharmed(self) -> bool:
        """Whether nobody was killed and the limit was never reached."""
        return self.group is None or (self.group.kills() == 0 and self.group.peak() < self.limit)

    def close(self) -> None:
        if self._ballast is not None:
            self._ballast.kill()
            self._ballast.communicate()
        self.sidecar.close()
        if self.group is not None:
            self.group.close()
