"""The little HTTP that the shim speaks on the Unix socket to ask for a lease.

Not http.client: it imports the mail parser, 30 ms and 5 MB for every relay, to read an answer that our own sidecar
writes. Our own commands, which nobody waits for, use http.client (`control_client`).
"""

import io
import socket
from collections.abc import Iterator

LINE_LIMIT = 64 * 1024
"""Bytes of one header line or chunk: a lease event is a few hundred."""


class BrokenAnswer(Exception):
    """The other end does not speak as a sidecar does."""


def post(connection: socket.socket, path: str, body: bytes) -> None:
    """Send one request. The answer is read with `answer`."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)


def answer(stream: io.BufferedReader) -> tuple[int, dict[str, str]]:
    """Read status and headers; raises EOFError when the other end closes first."""
    parts = _line(stream).split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise BrokenAnswer("not an HTTP answer")
    headers = {}
    while line := _line(stream):
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return int(parts[1]), headers


def lines(stream: io.BufferedReader, headers: dict[str, str]) -> Iterator[bytes]:
    """The lines of a body, as they come; ends with the body, raises EOFError when it is cut."""
    rest = b""
    for piece in _pieces(stream, headers):
        *whole, rest = (rest + piece).split(b"\n")
        yield from filter(None, whole)
    if rest:
        yield rest


def _pieces(stream: io.BufferedReader, headers: dict[str, str]) -> Iterator[bytes]:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        yield _exactly(stream, int(headers.get("content-length", "0")))
        return
    while True:
        try:
            size = int(_line(stream).partition(b";")[0], 16)
        except ValueError:
            raise BrokenAnswer("not a chunk") from None
        if size == 0:
            return
        yield _exactly(stream, size)
        _line(stream)


def _line(stream: io.BufferedReader) -> bytes:
    line = stream.readline(LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise EOFError if len(line) < LINE_LIMIT else BrokenAnswer("a line too long")
    return line.rstrip(b"\r\n")


def _exactly(stream: io.BufferedReader, size: int) -> bytes:
    if not 0 <= size <= LINE_LIMIT:
        raise BrokenAnswer("a chunk too long")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
