"""A user as the client tests have one: an empty home, a folder to work in, and claude-local started as people do.

Knows nothing of what is asked. What the developer's own environment says must not get in here.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support import kernels
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ.get("CLAUDE_LOCAL_TEST_MODEL", "demo")
SHIM = [sys.executable, "-IS", str(ROOT / "shim" / "__main__.py")]
"""What bin/claude-local ends in."""

PASSED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TERM", "USER", "LOGNAME", "SHELL", "TMPDIR")
"""All that a test takes over from the developer's environment."""

LIMIT = 120
"""Seconds for one command: many times what the slowest needs on two busy cores."""


class Machine:
    """The places that all terminals of a user share: one sidecar, its socket and its logs."""

    def __init__(self, grace: float) -> None:
        # Short, whatever pytest calls its folders: a socket's path has 100 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="cl-", dir="/tmp"))
        self.run = self.folder / "run"
        self.run.mkdir(mode=0o700)
        self.environment = {
            "CLAUDE_LOCAL_RUN_DIR": str(self.run),
            "CLAUDE_LOCAL_DATA_DIR": str(self.folder / "data"),
            "CLAUDE_LOCAL_LOG_DIR": str(self.folder / "logs"),
            "CLAUDE_LOCAL_DISK_CACHE": "off",
            "CLAUDE_LOCAL_GRACE": str(grace),
            "CLAUDE_LOCAL_MODEL": MODEL,
            "CLAUDE_LOCAL_PROFILE": "full",  # what is sent must not depend on how busy the machine was before
        }

    def processes(self) -> list[psutil.Process]:
        """Whatever lives with this machine's run directory in its environment or its arguments."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            words = [*process.environ().values(), *process.cmdline()]
        except psutil.Error:
            return False  # gone, a zombie, or another user's
        return any(str(self.run) in word for word in words)

    def logged(self) -> str:
        """What sidecar and relays have written."""
        return "".join(f"{file.name}:\n{file.read_text()}" for file in sorted((self.folder / "logs").glob("*.log")))

    def wait_until_empty(self, seconds: float) -> None:
        """Until no process of ours is left; fails with their names."""
        try:
            wait_until(lambda: not self.processes(), seconds)
        except AssertionError:
            raise AssertionError(f"still there: {self.processes()}") from None

    def remove(self) -> None:
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        # A log's last line may be written while we are at it.
        shutil.rmtree(self.folder, ignore_errors=True)


class Home:
    """An empty home folder with an empty project in it."""

    def __init__(self, name: str, machine: Machine, claude: Path | None = None, fresh: bool = False) -> None:
        """`fresh`: as if nothing of ours had ever run there."""
        self.folder = machine.folder / name
        self.project = self.folder / "project"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.project.mkdir(parents=True)
        if not fresh:
            kernels.lend(self.folder)
        self.machine = machine
        self.model = MODEL
        self.environment = {name: os.environ[name] for name in PASSED if name in os.environ}
        self.environment |= {"HOME": str(self.folder), **machine.environment}
        if claude:
            self.environment["PATH"] = f"{claude.parent}:{self.environment['PATH']}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command without claude-local, in the project's folder, until it ends."""
        options = {"cwd": self.project, "env": self.environment, "timeout": LIMIT, **options}
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)

    def call(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`claude-local WORDS`, until it ends."""
        return self.run(*SHIM, *words, **options)

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """`claude-local WORDS`, with pipes to it."""
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*SHIM, *words], stdin=pipe, stdout=pipe, stderr=pipe, cwd=self.project, env=self.environment
        )
        self._processes.append(process)
        return process

    def status(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads(self.call("status", "--json").stdout)
        return table

    def engine(self) -> int:
        """The process id of the engine, once the model is loaded."""
        wait_until(lambda: self.status().get("engine", {}).get("state") == "ready", LIMIT)
        return int(self.status()["engine"]["pid"])

    def close(self) -> None:
        """End what the test has left running."""
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                stream.close()


class Bait:
    """A server that a client is told to use by a user's settings: it only notices who comes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def was_taken(self) -> bool:
        try:
            self._listener.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def wait_for_claude(self, home: "Home", environment: dict[str, str]) -> None:
        """Until a `claude` that nobody prefixes with ours comes here."""
        nothing = subprocess.DEVNULL
        words = ["claude", "--print", "hi"]
        with subprocess.Popen(
            words, cwd=home.project, env=environment, stdin=nothing, stdout=nothing, stderr=nothing
        ) as process:
            try:
                wait_until(self.was_taken, 60)
            finally:
                process.kill()

    def close(self) -> None:
        self._listener.close()
