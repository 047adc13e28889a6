"""A connection to a terminal's port, with nothing between the test and the bytes."""

import json
from dataclasses import dataclass
from typing import Any, Self

import h11

from tests.client.api import HELLO, Terminal

LONG: Any = {
    "max_tokens": 8000,
    "tool_choice": {"type": "tool", "name": "write"},
    "tools": [
        {
            "name": "write",
            "input_schema": {
                "type": "object",
                "properties": {"text": {"type": "string", "minLength": 1500}},
                "required": ["text"],
            },
        }
    ],
}
"""An answer that takes seconds, since it may not end before."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes]
    """The body as it was cut by the sender."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        """The error's type, of an answer that is one in the API's form."""
        assert self.json["request_id"] == self.headers["request-id"]
        return str(self.json["error"]["type"])


class Wire:
    """One connection. `send` bytes, then read each answer; h11 is the judge of what comes back."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.socket = terminal.session.connect()
        self._h11 = h11.Connection(h11.CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def head(self, path: str, method: str = "GET", **headers: object) -> bytes:
        return self.terminal.session.head(path, method, **headers)

    def message(self, **fields: Any) -> bytes:
        """A whole request for a message."""
        body = message(self.terminal, **fields)
        return self.head("/v1/messages", "POST", content_length=len(body)) + body

    def count(self, words: str) -> bytes:
        """A whole request for a count, which tells one answer from another."""
        body = json.dumps({"model": self.terminal.model, "messages": [{"role": "user", "content": words}]}).encode()
        return self.head("/v1/messages/count_tokens", "POST", content_length=len(body)) + body

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, method: str = "GET") -> Reply:
        """The next answer, whole; raises h11.RemoteProtocolError for one that is cut off."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        self._h11.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._h11.send(h11.EndOfMessage())
        status, headers, chunks = 0, {}, []
        while not isinstance(event := self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                chunks.append(bytes(event.data))
        return Reply(status, headers, b"".join(chunks), chunks)

    def is_closed(self) -> bool:
        """Whether nothing but the end comes."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(self.socket.recv(1 << 16))
        return event


def message(terminal: Terminal, **fields: Any) -> bytes:
    return json.dumps({"model": terminal.model, "max_tokens": 5, "messages": HELLO, **fields}).encode()
