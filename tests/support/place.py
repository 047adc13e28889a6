"""A private run directory, the shim started in it as users start it, and a command that runs under it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.support import fake_sidecar
from tests.support.fake_sidecar import ROOT
from tests.support.processes import is_fake


class Place:
    """A private run directory, and the shim started in it as users start it."""

    def __init__(self, folder: Path) -> None:
        # Short, whatever pytest calls its folders: a socket's path has 100 bytes.
        self.run = Path(f"/tmp/cl-{os.getpid()}-{os.urandom(4).hex()}")
        self.run.mkdir(mode=0o700)
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CLAUDE", "ANTHROPIC"))},
            "HOME": str(folder),
            "CLAUDE_LOCAL_RUN_DIR": str(self.run),
            "CLAUDE_LOCAL_LOG_DIR": str(folder / "logs"),
            "CLAUDE_LOCAL_DATA_DIR": str(folder / "data"),
            "CLAUDE_LOCAL_TEST_SIDECAR": f"{sys.executable} -IS {fake_sidecar.__file__}",
        }
        self.processes: list[subprocess.Popen] = []
        self.shim = [sys.executable, "-IS", str(ROOT / "shim" / "__main__.py")]

    def ways(self, **ways: object) -> None:
        """How the next fake sidecar behaves."""
        self.environment["CLAUDE_LOCAL_FAKE"] = json.dumps(ways)

    def call(self, *words: str, **options) -> subprocess.CompletedProcess:
        """`claude-local WORDS`, until it ends."""
        options = {"capture_output": True, "text": True, "timeout": 60, "env": self.environment, **options}
        return subprocess.run([*self.shim, *words], **options)

    def start(self, *words: str, **options) -> subprocess.Popen:
        """`claude-local WORDS`, with pipes for stdin and stdout."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.processes.append(subprocess.Popen([*self.shim, *words], **{**pipes, "env": self.environment, **options}))
        return self.processes[-1]

    def status(self) -> dict:
        return json.loads(self.call("status", "--json").stdout)

    def starts(self) -> list[int]:
        """The process ids of all sidecars that were ever started here."""
        file = self.run / "starts"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def logged(self) -> str:
        log = self.folder / "logs" / "relay.log"
        return log.read_text() if log.exists() else ""

    def clean(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                stream.close()
        for pid in self.starts():
            if is_fake(pid):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.run, ignore_errors=True)


class Session:
    """A command under claude-local that says its variables and then stays until it is told to end."""

    SCRIPT = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"; read line; true'

    def __init__(self, place: Place, script: str = SCRIPT) -> None:
        self.process = place.start("sh", "-c", script)
        line = self.process.stdout.readline().decode().split()
        if len(line) != 2:
            raise AssertionError(self.process.stderr.read().decode())
        self.port = int(line[0].rpartition(":")[2])
        self.token = line[1]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def head(self, path: str, method: str = "GET", **headers: object) -> bytes:
        """A request head that is let in, unless `headers` changes or (None) removes one of its lines."""
        lines = {"host": f"127.0.0.1:{self.port}", "authorization": f"Bearer {self.token}", **headers}
        text = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value is not None)
        return f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode()

    def ask(self, path: str, body: bytes = b"", **head: object) -> bytes:
        """One request on a connection of its own; everything that came back."""
        with self.connect() as connection:
            extra = {"content_length": len(body)} if body else {}
            connection.sendall(self.head(path, **{**extra, "connection": "close", **head}) + body)
            return read_answer(connection)

    def end(self) -> int:
        self.process.stdin.close()
        return self.process.wait(20)


def read_answer(connection: socket.socket) -> bytes:
    """One answer with a content-length, or everything until the end."""
    data = b""
    while True:
        head, end, rest = data.partition(b"\r\n\r\n")
        if end:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if lengths and len(rest) >= int(lengths[0].split(b":")[1]):
                return data
        piece = connection.recv(1 << 20)
        if not piece:
            return data
        data += piece


def relays(place: Place) -> list[int]:
    """Relays in this place, found by their environment (Linux)."""
    mark = f"CLAUDE_LOCAL_RUN_DIR={place.run}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"shim/__main__" in (folder / "cmdline").read_bytes() and mark in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
