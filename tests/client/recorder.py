"""Between the real Claude Code and its port: every byte passes, and requests are kept to be looked at.

A program called `claude`, found before the real one, points the settings that it is started with at the recorder.
Only the port in Host is changed, since a relay refuses another one's.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import h11

from tests.support.home import Home

DETOUR = """\
#!{python} -IS
import json, os, sys
path = sys.argv[sys.argv.index("--settings") + 1]
with open(path) as file:
    settings = json.load(file)
with open({target!r}, "w") as file:
    file.write(settings["env"]["ANTHROPIC_BASE_URL"].rpartition(":")[2])
settings["env"]["ANTHROPIC_BASE_URL"] = os.environ["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:{port}"
with open(path, "w") as file:
    json.dump(settings, file)
os.execv({claude!r}, ["claude", *sys.argv[1:]])
"""


class Recorder:
    """Requests of one home's `claude`, as long as it is open."""

    def __init__(self, home: Home, claude: Path) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self._target = home.folder / "port"
        self._recorded: list[bytearray] = []
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        detour = home.folder / "bin" / "claude"
        detour.parent.mkdir()
        names = {"python": sys.executable, "target": str(self._target), "claude": str(claude)}
        detour.write_text(DETOUR.format(port=self._port, **names))
        detour.chmod(0o755)
        home.environment["PATH"] = f"{detour.parent}:{home.environment['PATH']}"
        self._run(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ends = [self._listener, *self._ends]
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in ends:
            end.close()

    def messages(self) -> list[tuple[int, Any]]:
        """The size in bytes and the body of each request for a message, in the order of their connections."""
        found = []
        for stream in list(self._recorded):
            for request, body in _requests(bytes(stream)):
                if request.method == b"POST" and request.target.startswith(b"/v1/messages?"):
                    found.append((len(body), json.loads(body)))
        return found

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                port = self._target.read_text()
                server = socket.create_connection(("127.0.0.1", int(port)))
                self._ends += [client, server]
                self._recorded.append(kept := bytearray())
                host = f":{self._port}\r\n".encode(), f":{port}\r\n".encode()
                self._run(_pass, client, server, kept, host)
                self._run(_pass, server, client, bytearray(), None)

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        self._threads.append(thread := threading.Thread(target=work, args=arguments, daemon=True))
        thread.start()


def _pass(source: socket.socket, sink: socket.socket, kept: bytearray, host: tuple[bytes, bytes] | None) -> None:
    """`host`: the end of the source's Host, and what it becomes."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            kept += data
            sink.sendall(data.replace(*host, 1) if host else data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _requests(stream: bytes) -> list[tuple[h11.Request, bytes]]:
    """All whole requests of a connection."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    found, body, request = [], b"", None
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            found.append((request, body))
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        else:
            return found
