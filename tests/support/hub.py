"""A stand-in of the model hub on loopback: the few paths that huggingface_hub asks for, from a local directory."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "someone/tiny-model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One repository, and what the tests want to know or to go wrong."""

    repository: str
    files: Path
    url: str = ""
    refusal: tuple[int, dict[str, str]] | None = None
    """A status and headers that every question about the repository is answered with."""
    corrupt: bool = False
    """The last byte of the weights is changed on the way."""
    stall_after: int | None = None
    """Bytes of the weights after which the answer stops, until `resume` is set."""
    resume: threading.Event = field(default_factory=threading.Event)
    stalled: threading.Event = field(default_factory=threading.Event)
    ranges: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append(path)
            if hub.repository not in path:
                self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            elif hub.refusal:
                status, headers = hub.refusal
                self._json(status, {"error": "refused"}, headers)
            elif "/resolve/" in path:
                self._file(hub.files / path.rpartition("/")[2])
            elif "/tree/" in path:
                self._json(200, [self._entry(file) for file in sorted(hub.files.iterdir())])
            else:
                siblings = [{"rfilename": file.name} for file in sorted(hub.files.iterdir())]
                self._json(200, {"id": hub.repository, "sha": COMMIT, "siblings": siblings})

        def _entry(self, file: Path) -> dict[str, object]:
            data = file.read_bytes()
            return {"type": "file", "path": file.name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}

        def _json(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self._begin(status, len(data), {"Content-Type": "application/json", **(headers or {})})
            if self.command == "GET":
                self.wfile.write(data)

        def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(length), "X-Repo-Commit": COMMIT, **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def _file(self, file: Path) -> None:
            data = file.read_bytes()
            start = 0
            if wanted := self.headers.get("Range"):
                hub.ranges.append(wanted)
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self._begin(206 if start else 200, len(data) - start, headers)
            if self.command == "HEAD":
                return
            if hub.stall_after is not None and file.name.endswith(".safetensors") and not hub.resume.is_set():
                self.wfile.write(data[start : hub.stall_after])
                self.wfile.flush()
                hub.stalled.set()
                hub.resume.wait(60)
                self.close_connection = True
                return
            if hub.corrupt and file.name.endswith(".safetensors"):
                data = data[:-1] + bytes([data[-1] ^ 1])
            self.wfile.write(data[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.resume.set()
        server.shutdown()
        server.server_close()
        thread.join()
