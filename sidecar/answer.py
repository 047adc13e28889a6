"""One answer's way: the engine's events produced on one side, and delivered on the other as the client wants them.

A channel between the two, so that pings go out while a model loads or a prompt is read.
"""

import itertools
import logging

import msgspec
import trio

from sidecar.anthropic.reply import PING, Reply, collect, sse
from sidecar.download import EX_UNAVAILABLE, ModelUnavailable
from sidecar.engine_client import Engine
from sidecar.errors import Internal, InvalidRequest, NotFound, PromptTooLong, RequestError, Unavailable
from sidecar.frames import Failed, Finished, FromEngine, Generate, Progress, Started
from sidecar.http import FAILED, Connection
from sidecar.library import Library, LocalModel

HOLD_S = 10.0
"""How long a stream's head waits for the engine to accept the prompt, so that a refusal still gets its own status."""
REPEATS = 1
"""How often a request is asked again when the engine ends before the first word of its answer: once is bad luck."""
PING_S = 5.0
"""Clients count pings as life; the official API sends them at about this pace."""

Send = trio.MemorySendChannel[FromEngine | RequestError]
Events = trio.MemoryReceiveChannel[FromEngine | RequestError]

log = logging.getLogger(__name__)


async def produce(library: Library, engine: Engine, name: str, todo: Generate, send: Send, request_id: str) -> None:
    """Have the engine answer `todo` with the model `name`; whatever goes wrong is sent as a RequestError."""
    began = first = trio.current_time()
    last: FromEngine | None = None
    started = False
    with send:
        try:
            model = await library.get(name)
            for repeats in itertools.count():
                async with (
                    engine.use(model) as process,
                    process.generate(msgspec.structs.replace(todo, id=process.new_id())) as events,
                ):
                    async for event in events:
                        if isinstance(event, Started):
                            if started:
                                continue
                            started = True
                        elif last is None and not isinstance(event, Progress):
                            first = trio.current_time()
                        if not isinstance(event, Started | Progress):
                            last = event
                        send.send_nowait(refusal(event, model) if isinstance(event, Failed) else event)
                if isinstance(last, Finished | Failed):
                    break
                # Until its first word nobody knows anything of an answer: another engine may as well give it.
                if last is not None or repeats == REPEATS or process.epitaph:
                    send.send_nowait(refusal(None, model, process.epitaph))
                    break
                log.warning("%s is asked again: the engine ended before its first word", request_id)
            if isinstance(last, Finished):
                _log(request_id, last, first - began, trio.current_time() - first)
        except ModelUnavailable as error:
            send.send_nowait(unavailable(error))
        except RequestError as error:
            send.send_nowait(error)
        except Exception:  # an error here must become this request's answer, not the end of the process
            log.exception("%s fails", request_id)
            send.send_nowait(Internal(FAILED))


class Answer:
    """Delivers one answer, streamed or whole."""

    def __init__(self, connection: Connection, reply: Reply, request_id: str, stream: bool) -> None:
        self.connection = connection
        self._reply = reply
        self._stream = stream
        self._headers = {"request-id": request_id}

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


def refusal(failure: FromEngine | None, model: LocalModel, epitaph: str = "") -> RequestError:
    """What the client is told when the engine fails a request, or (None) ends without a word: why, if it was us."""
    match failure:
        case Failed(kind="too_long", message=message):
            tokens, limit = map(int, message.split())
            return PromptTooLong(tokens, limit)
        case Failed(kind="invalid", message=message):
            return InvalidRequest(message)
        case Failed(kind="overloaded", message=message):
            return Unavailable(message, retry_after=10)
        case Failed(message=message):
            return Internal(message)
        case _ if epitaph:
            return Unavailable(f"{epitaph}; it comes back by itself when there is room", retry_after=10)
        case _:
            return Unavailable(f"the engine stopped while it answered with {model.name}; it starts again by itself")


def unavailable(error: ModelUnavailable) -> RequestError:
    """A model that cannot be had at all is the request's fault; one that cannot be had now is not."""
    if error.exit_code == EX_UNAVAILABLE:
        return Unavailable(str(error), retry_after=30)
    return NotFound(f"model: {error}")


def _log(request_id: str, finished: Finished, waited: float, wrote: float) -> None:
    log.info(
        "%s %s: %d prompt tokens, %d of them cached, first token after %.2f s, then %d tokens in %.2f s",
        request_id,
        finished.reason,
        finished.prompt_tokens,
        finished.cached_tokens,
        waited,
        finished.output_tokens,
        wrote,
    )
