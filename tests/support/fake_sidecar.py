"""A sidecar without a model, for the shim's tests: leases, tokens and a few paths that answer, stall or die.

Runs as a process (`python -IS fake_sidecar.py --run-dir DIR --ready-fd N`), started by the shim itself. It keeps the
start protocol of the real one (life.lock, bind aside, rename) but spells it in threads and blocking sockets.
CLAUDE_LOCAL_FAKE, a JSON object, changes its ways: {"events": [...], "start": "error 69 no disk", "first": "refused"}.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sidecar.shared import protocol, run_directory  # noqa: E402
from sidecar.shared.protocol import LeaseEvent, LeaseRequest  # noqa: E402

LIMITS = {"model": "fake", "context_window": 12345, "output_limit": 678}


class FakeSidecar:
    """All of it: `serve` accepts for ever, one thread for each connection."""

    def __init__(self, directory: run_directory.RunDirectory, ways: dict) -> None:
        self.directory = directory
        self.ways = ways
        self.leases: dict[int, LeaseRequest] = {}
        self.lock = threading.Lock()
        self.total = 0
        self.idle_since = time.monotonic()

    def publish(self) -> socket.socket:
        self.life = os.open(self.directory.life_lock, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.life, fcntl.LOCK_EX)
        private = f"{self.directory.socket}.{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(private)
        listener.listen(128)
        os.rename(private, self.directory.socket)
        return listener

    def serve(self, listener: socket.socket) -> None:
        threading.Thread(target=self.leave_when_idle, daemon=True).start()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def leave_when_idle(self) -> None:
        while True:
            time.sleep(0.2)
            with self.lock:
                if self.leases:
                    self.idle_since = time.monotonic()
                elif time.monotonic() - self.idle_since > float(self.ways.get("grace", 5)):
                    os.unlink(self.directory.socket)
                    os._exit(0)

    def talk(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while self.one_request(connection, stream):
                    pass
                connection.shutdown(socket.SHUT_WR)  # alone: our own decision, not a death
                while stream.read1():
                    pass
        except (OSError, ValueError):
            pass

    def one_request(self, connection: socket.socket, stream) -> bool:
        first = stream.readline().split()
        if len(first) != 3:
            return False
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        path = first[1].decode().partition("?")[0]
        if path == protocol.LEASE_PATH:
            self.lease(connection, stream.read(int(headers["content-length"])))
            return False
        if not path.startswith(("/control/", "/health")) and not self.knows(headers):
            answer(connection, b"fake: unknown token", "401 Unauthorized")
            return False
        self.total += 1
        return self.route(path, headers, connection, stream)

    def knows(self, headers: dict) -> bool:
        token = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
        hashed = hashlib.sha256(token.encode()).hexdigest()
        with self.lock:
            return hashed in [lease.token_sha256 for lease in self.leases.values()]

    def route(self, path: str, headers: dict, connection: socket.socket, stream) -> bool:
        if path == "/control/status":
            answer(connection, json.dumps(self.status()).encode())
        elif path == "/control/stop":
            stream.read(int(headers.get("content-length", "0")))
            answer(connection, b'{"stopping": true, "running": 0}')
            os.unlink(self.directory.socket)
            os._exit(0)
        elif path == "/health":
            table = {"pid": os.getpid(), "status": "healthy", "engine": {"state": "ready"}}
            answer(connection, json.dumps(table).encode())
        elif path == "/echo":
            body = stream.read(int(headers.get("content-length", "0")))
            answer(connection, body)
        elif path == "/swallow":
            left = int(headers["content-length"])
            while left and (data := stream.read1(min(left, 1 << 20))):
                left -= len(data)
            answer(connection, b"swallowed")
        elif path == "/until-end":  # half-close: the request ends with the client's direction
            answer(connection, hashlib.sha256(stream.read()).hexdigest().encode())
            return False
        elif path == "/megabytes":
            count = int(headers["x-count"])
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (count << 20))
            for _ in range(count):
                connection.sendall(bytes(range(256)) * 4096)
        elif path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif path == "/die-once":
            body = stream.read(int(headers.get("content-length", "0")))
            if len(Path(self.directory.path, "starts").read_text().split()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            answer(connection, body)
        elif path == "/mirror":  # both directions at once, the request's end is the answer's
            connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
            while data := stream.read1(1 << 20):
                connection.sendall(data)
            return False
        elif path == "/slowly":
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(20):
                time.sleep(0.003)
                connection.sendall(b"4\r\nword\r\n")
            connection.sendall(b"0\r\n\r\n")
        elif path == "/begin-and-die":
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            stream.read(1)  # dies when told that the beginning has arrived
            os.kill(os.getpid(), signal.SIGKILL)
        elif path == "/begin-and-wait":
            connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
            stream.read()
            Path(self.directory.path, "saw-the-end").write_text("yes")
            return False
        elif path == "/close":
            answer(connection, b"bye", more="connection: close\r\n")
            return False
        else:
            answer(connection, b"nothing here", "404 Not Found")
        return True

    def lease(self, connection: socket.socket, body: bytes) -> None:
        request = LeaseRequest.decode(body)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        first = self.ways.get("first", "granted")
        if first != "granted":
            send_event(connection, LeaseEvent(first, reason="fake: no", exit_code=self.ways.get("code", 0)))
            return
        with self.lock:
            self.leases[id(connection)] = request
        try:
            send_event(connection, LeaseEvent("granted"))
            for event in self.ways.get("events", [{"event": "loading", **LIMITS}, {"event": "ready", **LIMITS}]):
                time.sleep(event.pop("after", 0)) if isinstance(event, dict) else None
                send_event(connection, LeaseEvent(**event))
            connection.recv(1)  # until it is released
        finally:
            with self.lock:
                del self.leases[id(connection)]

    def status(self) -> dict:
        with self.lock:
            leases = [
                {"pid": each.pid, "command": each.command, "folder": each.folder, "port": each.port}
                | {"strong": each.strong, "since_s": 1.0}
                for each in self.leases.values()
            ]
        return {
            "version": "fake",
            "protocol": protocol.PROTOCOL,
            "pid": os.getpid(),
            "uptime_s": 61.0,
            "model": {"name": "fake", "state": "ready", "context_window": 12345, "output_limit": 678},
            "leases": leases,
            "requests": {"running": 0, "waiting": 0, "total": self.total},
            "memory": {"status": "Safe", "available_gb": "8.13", "engine_gb": "0.01"},
            "recent": [],
            "engine": {"pid": 0, "state": "ready"},
        }


def answer(connection: socket.socket, body: bytes, status: str = "200 OK", more: str = "") -> None:
    connection.sendall(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body)


def send_event(connection: socket.socket, event: LeaseEvent) -> None:
    line = event.encode()
    connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run-dir")
    parser.add_argument("--ready-fd", type=int)
    arguments = parser.parse_args()
    directory = run_directory.run_directory(arguments.run_dir)
    ways = json.loads(os.environ.get("CLAUDE_LOCAL_FAKE", "{}"))
    with Path(directory.path, "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    Path(directory.path, "environment").write_text(json.dumps(dict(os.environ)))
    if start := ways.get("start"):
        os.write(arguments.ready_fd, start.encode() + b"\n")
        return
    sidecar = FakeSidecar(directory, ways)
    listener = sidecar.publish()
    os.write(arguments.ready_fd, b"ready\n")
    os.close(arguments.ready_fd)
    sidecar.serve(listener)


if __name__ == "__main__":
    main()
