"""One answer's delivery: the engine's events as the client wants them, streamed or whole.

They come through a channel (`generation` is its other end), so that pings go out while a model loads or a prompt is
read.
"""

from typing import Any

import msgspec
import trio

from sidecar.anthropic.reply import PING, Reply, collect, sse
from sidecar.errors import RequestError
from sidecar.frames import Finished, FromEngine, Started
from sidecar.http.connection import Connection

HOLD_S = 10.0
"""How long an answer's head waits, so that a refusal still gets its own status: a stream's until the engine accepts the
prompt, any other until the answer is complete."""
PING_S = 5.0
"""Clients count pings as life; the official API sends them at about this pace."""
BLANK = b" "
"""What a client that waits for a whole answer gets instead: JSON may begin with blanks, and clients and proxies give up
on connections that are silent for some minutes."""

Events = trio.MemoryReceiveChannel[FromEngine | RequestError]


class Answer:
    """Delivers one answer, streamed or whole."""

    def __init__(self, connection: Connection, reply: Reply, request_id: str, stream: bool) -> None:
        self.connection = connection
        self._reply = reply
        self._stream = stream
        self._headers = {"request-id": request_id}

    def shows(self, event: FromEngine) -> bool:
        """Whether the client gets to see anything of it before the end: then no other answer may take its place."""
        return self._stream and self._reply.shows(event)

    def said(self, failure: dict[str, Any]) -> bytes:
        """An error's envelope, as it ends an answer that has begun."""
        return sse(failure) if self._stream else msgspec.json.encode(failure)

    async def deliver(self, events: Events) -> None:
        """Raises the RequestError that ends the answer, if one does."""
        if self._stream:
            await self._deliver_stream(events)
        else:
            await self._deliver_whole(events)

    async def _deliver_stream(self, events: Events) -> None:
        first = await _next(events, HOLD_S)
        started = first if isinstance(first, Started) else None
        await self.connection.begin(
            200, {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **self._headers}
        )
        await self.connection.send(sse(self._reply.start(started)) + sse(PING))
        while True:
            event = await _next(events, PING_S)
            if event is None:
                await self.connection.send(sse(PING))
                continue
            # One write for all that is ready: a fast model must not cost a system call a token.
            pieces = [*self._reply.feed(event)]
            finished = isinstance(event, Finished)
            while not finished and (event := _next_ready(events)) is not None:
                pieces += self._reply.feed(event)
                finished = isinstance(event, Finished)
            await self.connection.send(b"".join(map(sse, pieces)))
            if finished:
                await self.connection.finish()
                return

    async def _deliver_whole(self, events: Events) -> None:
        pieces = [self._reply.start(None)]
        due = trio.current_time() + HOLD_S
        while True:
            event = await _next(events, max(0.0, due - trio.current_time()))
            if event is None:
                await self._keep_alive()
                due = trio.current_time() + PING_S
                continue
            if isinstance(event, Started):  # perhaps anew, on another engine
                pieces = [self._reply.start(None)]
            pieces += self._reply.feed(event)
            if isinstance(event, Finished):
                await self._complete(collect(pieces))
                return

    async def _keep_alive(self) -> None:
        if not self.connection.begun:
            await self.connection.begin(200, {"content-type": "application/json", **self._headers})
        await self.connection.send(BLANK)

    async def _complete(self, message: dict[str, Any]) -> None:
        if not self.connection.begun:
            await self.connection.respond_json(message, self._headers)
            return
        await self.connection.send(msgspec.json.encode(message))
        await self.connection.finish()


async def _next(events: Events, seconds: float) -> FromEngine | None:
    """The next event; None when none comes in time. Raises the error that came instead."""
    with trio.move_on_after(seconds):
        return _raised(await events.receive())
    return None


def _next_ready(events: Events) -> FromEngine | None:
    try:
        return _raised(events.receive_nowait())
    except trio.WouldBlock:
        return None


def _raised(event: FromEngine | RequestError) -> FromEngine:
    if isinstance(event, RequestError):
        raise event
    return event
