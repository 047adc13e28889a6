"""A sidecar started by a test itself, real or fake, and spoken to without a shim."""

import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from sidecar.shared.protocol import LEASE_PATH, STATUS_PATH, LeaseEvent, LeaseRequest
from tests.support import fake_sidecar

TOKEN = "a token"
REAL = [sys.executable, "-I", "-m", "sidecar.serve"]
FAKE = [sys.executable, "-IS", fake_sidecar.__file__]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class Lease:
    """An open lease connection."""

    def __init__(self, path: Path, **changes: Any) -> None:
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        wanted = LeaseRequest(**{**LeaseRequest(digest, os.getpid(), "sh", "/", 1, "")._asdict(), **changes})
        self._connection = UnixConnection(path)
        self._connection.request("POST", LEASE_PATH, wanted.encode())
        self._answer = self._connection.getresponse()

    def event(self) -> LeaseEvent | None:
        line = self._answer.readline()
        return LeaseEvent.decode(line) if line else None

    def until(self, name: str) -> LeaseEvent:
        while event := self.event():
            if event.event == name:
                return event
            assert event.event not in ("failed", "refused", "retry"), event
        raise AssertionError(f"the lease ended before {name}")

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


class Sidecar:
    """One run directory, and sidecars started in it."""

    def __init__(self, folder: Path, command: list[str], model: str, **variables: str) -> None:
        self.folder, self.command, self.model = folder, command, model
        self.variables = {"CLAUDE_LOCAL_GRACE": "0.5", **variables}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.opened: list[Lease | UnixConnection] = []

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def start(self, log: Path | None = None) -> str:
        """Start one, its stderr going to `log` if there is one; returns its line on the readiness pipe."""
        reader, writer = os.pipe()
        command = [*self.command, "--run-dir", str(self.folder), "--ready-fd", str(writer)]
        environment = {**os.environ, **self.variables}
        said = log.open("ab") if log else None
        self.processes.append(
            subprocess.Popen(command, pass_fds=[writer], env=environment, stdin=subprocess.DEVNULL, stderr=said)
        )
        if said:
            said.close()
        os.close(writer)
        with os.fdopen(reader) as ready:
            return ready.read()

    def ask(self, method: str, path: str, body: Any = None, token: str = TOKEN) -> tuple[int, Any]:
        connection = UnixConnection(self.socket)
        try:
            content = json.dumps(body) if body is not None else None
            connection.request(method, path, content, {"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def lease(self, **changes: Any) -> Lease:
        lease = Lease(self.socket, **{"model": self.model, **changes})
        self.opened.append(lease)
        return lease

    def begin(self, max_tokens: int, stream: bool = False, token: str = TOKEN, **fields: Any) -> UnixConnection:
        """Send a request and leave its answer to the test. Greedy: the model of noise does not end by itself then."""
        connection = UnixConnection(self.socket)
        self.opened.append(connection)
        words = [{"role": "user", "content": "hi"}]
        body = {"model": self.model, "max_tokens": max_tokens, "stream": stream, "messages": words, "temperature": 0}
        connection.request("POST", "/v1/messages", json.dumps(body | fields), {"authorization": f"Bearer {token}"})
        return connection

    def status(self) -> Any:
        return self.ask("GET", STATUS_PATH)[1]

    def message(self, words: str = "hello", **fields: Any) -> tuple[int, Any]:
        body = {"model": self.model, "max_tokens": 8, "messages": [{"role": "user", "content": words}], **fields}
        return self.ask("POST", "/v1/messages", body)

    def close(self) -> None:
        for each in self.opened:
            each.close()
        for process in self.processes:
            process.kill()
            process.wait()
