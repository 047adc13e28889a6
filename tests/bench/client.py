"""A streaming client that costs next to nothing while it measures: bytes are noted with their time, read afterwards.

Speaks the Messages API or that of chat completions, over TCP. One thread holds all streams of a measurement, so that
the client takes as little as it can of the two cores that the servers are measured on.
"""

import json
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import h11

Api = Literal["messages", "completions"]


class ServerError(Exception):
    """A server answered with an error, or not at all; the text says what."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens on 127.0.0.1, and how it is spoken to."""

    port: int
    token: str
    model: str
    api: Api = "messages"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, before it is spelled for one API or the other. `tools` are spelled as the Messages API does."""

    messages: tuple[dict[str, Any], ...]
    max_tokens: int
    system: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    session: str = ""
    """The conversation it belongs to, for servers that care."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Times are seconds since the request was begun, before the connection was."""

    deltas: tuple[float, ...]
    """When each piece of text arrived."""
    pieces: tuple[str, ...]
    output_tokens: int
    ended: float
    began: float
    """On `time.perf_counter`, to put several answers on one line."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def first(self) -> float:
        """Seconds to the first text."""
        return self.deltas[0]


@dataclass(eq=False)
class Stream:
    """One request under way."""

    endpoint: Endpoint
    ask: Ask
    began: float = 0.0
    ended: float = 0.0
    chunks: list[tuple[float, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        request = encode(self.endpoint, self.ask)
        self.began = time.perf_counter()
        self._socket = socket.create_connection(("127.0.0.1", self.endpoint.port))
        self._socket.sendall(request)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> None:
        data = self._socket.recv(1 << 16)
        now = time.perf_counter()
        if data:
            self.chunks.append((now, data))
        else:
            self.close(now)

    def close(self, now: float = 0.0) -> None:
        """Leave, answered or not."""
        self.ended = now or time.perf_counter()
        self._socket.close()

    def answer(self) -> Answer:
        """Raises ServerError unless the answer is complete and has text."""
        deltas, text, tokens = [], [], 0
        for when, event in events(self.chunks, ended=True):
            words, count = read(event)
            tokens = count or tokens
            if words:
                deltas.append(when - self.began)
                text.append(words)
        if not deltas:
            raise ServerError("no text came back")
        return Answer(tuple(deltas), tuple(text), tokens or len(deltas), self.ended - self.began, self.began)


def ask(endpoint: Endpoint, *asks: Ask, limit: float = 600.0) -> list[Answer]:
    """Send all at once and wait for all answers."""
    streams = [Stream(endpoint, each) for each in asks]
    pump(streams, lambda: all(stream.ended for stream in streams), limit)
    return [stream.answer() for stream in streams]


def pump(streams: list[Stream], until: Callable[[], bool], limit: float) -> None:
    """Receive until `until` holds, which is asked whenever something came, or for `limit` seconds: TimeoutError."""
    deadline = time.perf_counter() + limit
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            if not stream.ended:
                selector.register(stream, selectors.EVENT_READ)
        while not until():
            left = deadline - time.perf_counter()
            ready = selector.select(left) if left > 0 else []
            if not ready:
                raise TimeoutError(f"no answer within {limit:.0f} s")
            for key, _ in ready:
                each = key.fileobj
                assert isinstance(each, Stream)
                selector.unregister(each)
                each.receive()
                if not each.ended:
                    selector.register(each, selectors.EVENT_READ)


def encode(endpoint: Endpoint, ask: Ask) -> bytes:
    """The whole request."""
    body: dict[str, Any] = {"model": endpoint.model, "max_tokens": ask.max_tokens, "stream": True, "temperature": 0}
    messages = list(ask.messages)
    if endpoint.api == "messages":
        path, tools = "/v1/messages", list(ask.tools)
        if ask.system:
            body["system"] = ask.system
    else:
        path, body["stream_options"] = "/v1/chat/completions", {"include_usage": True}
        messages = [{"role": each["role"], "content": plain(each["content"])} for each in messages]
        if ask.system:
            messages.insert(0, {"role": "system", "content": ask.system})
        tools = [{"type": "function", "function": _as_function(tool)} for tool in ask.tools]
    if tools:
        body["tools"] = tools
    content = json.dumps({**body, "messages": messages}).encode()
    headers = {
        "host": f"127.0.0.1:{endpoint.port}",
        "authorization": f"Bearer {endpoint.token}",
        "anthropic-version": "2023-06-01",
        "x-claude-code-session-id": ask.session,
        "content-type": "application/json",
        "content-length": len(content),
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value != "")
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


def plain(content: str | list[dict[str, str]]) -> str:
    """A message's text for servers that take no blocks."""
    return content if isinstance(content, str) else "\n".join(block["text"] for block in content)


def _as_function(tool: dict[str, Any]) -> dict[str, Any]:
    return {"name": tool["name"], "description": tool["description"], "parameters": tool["input_schema"]}


def events(chunks: list[tuple[float, bytes]], ended: bool) -> Iterator[tuple[float, dict[str, Any]]]:
    """The server-sent events of one answer, each with the time when it was complete; raises ServerError, also for an
    answer that has `ended` before its end."""
    connection, rest, status, refusal = h11.Connection(h11.CLIENT), b"", 0, b""
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    try:
        for when, chunk in [*chunks, *([(0.0, b"")] if ended else [])]:
            connection.receive_data(chunk)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Response():
                        status = event.status_code
                    case h11.Data() if status != 200:
                        refusal += event.data
                    case h11.Data():
                        *lines, rest = (rest + event.data).split(b"\n")
                        for line in lines:
                            if line.startswith(b"data:") and line[5:].strip() not in (b"", b"[DONE]"):
                                yield when, json.loads(line[5:])
                    case h11.EndOfMessage() | h11.ConnectionClosed():
                        break
            if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
    except (h11.RemoteProtocolError, ValueError) as error:
        raise ServerError(f"a broken answer: {error}") from None
    if status != 200 and ended:
        raise ServerError(f"HTTP {status}: {refusal.decode('utf-8', 'replace')[:300]}" if status else "no answer")


def read(event: dict[str, Any]) -> tuple[str, int]:
    """One event's text and the number of output tokens that it speaks of (0: of none); raises ServerError."""
    if event.get("error") or event.get("type") == "error":
        raise ServerError(json.dumps(event)[:300])
    usage = event.get("usage") or {}
    tokens = int(usage.get("output_tokens") or usage.get("completion_tokens") or 0)
    pieces = [event.get("delta") or {}, *(choice.get("delta") or {} for choice in event.get("choices") or [])]
    keys = ("text", "thinking", "content", "reasoning_content", "reasoning")
    return "".join(str(piece.get(key) or "") for piece in pieces for key in keys), tokens


def window(answers: list[Answer]) -> float:
    """Tokens per second of all streams together, while all of them were speaking: from the last one's first text to
    the first one's last. A piece counts as so many tokens as its part of the text holds on average."""
    start = max(each.began + each.deltas[0] for each in answers)
    end = min(each.began + each.deltas[-1] for each in answers)
    tokens = 0.0
    for each in answers:
        pairs = zip(each.deltas, each.pieces, strict=True)
        inside = sum(len(piece) for delta, piece in pairs if start < each.began + delta <= end)
        tokens += inside * each.output_tokens / len(each.text)
    if end <= start:
        raise ServerError("the streams did not overlap")
    return tokens / (end - start)
