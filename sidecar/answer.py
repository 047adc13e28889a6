"""One answer's delivery: the engine's events as the client wants them, streamed or whole.

They come through a channel (`attempt` is its other end), so that pings go out while a model loads or a prompt is read.
"""

import trio

from sidecar.anthropic.reply import PING, Reply, collect, sse
from sidecar.errors import RequestError
from sidecar.frames import Finished, FromEngine, Started
from sidecar.http import Connection

HOLD_S = 10.0
"""How long a stream's head waits for the engine to accept the prompt, so that a refusal still gets its own status."""
PING_S = 5.0
"""Clients count pings as life; the official API sends them at about this pace."""

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
            200, {"content-type": "text/event-stream", "cache-control": "no-cache", **self._headers}
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
        while True:
            event = await _next(events, float("inf"))
            assert event is not None
            if isinstance(event, Started):  # perhaps anew, on another engine
                pieces = [self._reply.start(None)]
            pieces += self._reply.feed(event)
            if isinstance(event, Finished):
                await self.connection.respond_json(collect(pieces), self._headers)
                return


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
