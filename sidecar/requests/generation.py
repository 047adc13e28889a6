"""A request at the engine, asked again when that dies before the client has seen anything of its answer."""

import logging
from collections.abc import Callable

import msgspec
import trio

from sidecar.errors import Died, Internal, InvalidRequest, NotFound, PromptTooLong, RequestError, Unavailable
from sidecar.frames import Count, Counted, Failed, Finished, FromEngine, Progress, Started
from sidecar.http.connection import FAILED
from sidecar.models.library import Library, LocalModel
from sidecar.models.resolve import EX_UNAVAILABLE, ModelUnavailable
from sidecar.requests.request_log import History, Visit
from sidecar.requests.suspects import Suspects
from sidecar.supervisor.engine import Engine

REPEATS = 2
"""How often a request is asked again: one that ends every engine must not go on for ever, nor take all others along."""

Send = trio.MemorySendChannel[FromEngine | RequestError]

log = logging.getLogger(__name__)


class Attempt:
    """One request on its way to an answer."""

    def __init__(self, history: History, suspects: Suspects, visit: Visit, shows: Callable[[FromEngine], bool]) -> None:
        """`shows`: whether the client gets to see anything of an event as soon as it is sent."""
        self._history = history
        self._suspects = suspects
        self._visit = visit
        self._shows = shows
        self._started: Started | None = None
        self._reading = 0.0
        """When the engine began to read the prompt."""
        self._seen = False
        self._first: float | None = None
        """When the answer began."""
        self.number = 0
        """The engine's for it; 0 = it has not been asked yet."""

    async def produce(self, library: Library, engine: Engine, name: str, send: Send) -> None:
        """Have the model `name` answer, and send its events; whatever goes wrong is sent as a RequestError."""
        began = trio.current_time()
        with send:
            try:
                finished = await self._ask(engine, await library.get(name), send)
                if self._started is not None:
                    first, now = self._first or began, trio.current_time()
                    record = self._history.end(self._visit, self._started, finished, first - began, now - first)
                    library.speeds.seen(name, record.read, first - self._reading)
                    log.info("%s %s: %s", self._visit.id, finished.reason, record)
            except ModelUnavailable as error:
                send.send_nowait(unavailable(error))
            except RequestError as error:
                send.send_nowait(error)
            except Exception:  # an error here must become this request's answer, not the end of the process
                log.exception("%s fails", self._visit.id)
                send.send_nowait(Internal(FAILED))

    async def _ask(self, engine: Engine, model: LocalModel, send: Send) -> Finished:
        """Raises the RequestError that the client is to be told."""
        todo = self._visit.todo
        for repeat in range(REPEATS + 1):
            self._suspects.check(todo)
            try:
                finished = await self._ask_once(engine, model, send)
                self._suspects.clear(todo)
                return finished
            except Died as error:
                self._suspects.blame(todo, error.guilt)
                if self._seen or repeat == REPEATS or not error.again:
                    raise
                # Until then nobody knows anything of an answer: another engine may as well give it.
                log.warning("%s is asked again: %s", self._visit.id, error)
        raise AssertionError("unreachable")

    async def _ask_once(self, engine: Engine, model: LocalModel, send: Send) -> Finished:
        """Raises Died when the engine does."""
        async with engine.use(model) as process:
            self.number = process.new_id()
            async with process.generate(msgspec.structs.replace(self._visit.todo, id=self.number)) as events:
                async for event in events:
                    if isinstance(event, Failed):
                        raise refusal(event)
                    if not isinstance(event, Started | Progress):
                        self._first = self._first or trio.current_time()
                    if isinstance(event, Started):
                        self._started, self._reading = event, trio.current_time()
                    self._seen = self._seen or self._shows(event)
                    send.send_nowait(event)
                    if isinstance(event, Finished):
                        return event
        raise await process.obituary(self.number)


async def count(engine: Engine, model: LocalModel, todo: Count, suspects: Suspects) -> int:
    """How many tokens the prompt has. Raises RequestError."""
    suspects.check(todo)
    async with engine.use(model) as process:
        number = process.new_id()
        match await process.count(msgspec.structs.replace(todo, id=number)):
            case Counted(tokens=tokens):
                suspects.clear(todo)
                return tokens
            case None:
                error = await process.obituary(number)
                if isinstance(error, Died):
                    suspects.blame(todo, error.guilt)
                raise error
            case failure:
                raise refusal(failure)


def refusal(failure: FromEngine) -> RequestError:
    """What the client is told when the engine fails a request."""
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
    raise AssertionError(f"{type(failure).__name__} is no failure")


def unavailable(error: ModelUnavailable) -> RequestError:
    """A model that cannot be had at all is the request's fault; one that cannot be had now is not."""
    if error.exit_code == EX_UNAVAILABLE:
        return Unavailable(str(error), retry_after=30)
    return NotFound(f"model: {error}")
