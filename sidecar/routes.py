"""What each path does. Only this file sees a request's whole way: HTTP, API, engine, and back."""

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec
import trio

from sidecar import __version__
from sidecar.anthropic import errors as api_errors
from sidecar.anthropic import request as api
from sidecar.anthropic.reply import PING, Reply, collect, sse
from sidecar.control import LEASE_PATH, PROTOCOL, STATUS_PATH, STOP_PATH, LeaseEvent, LeaseRequest
from sidecar.download import EX_UNAVAILABLE, ModelUnavailable
from sidecar.engine_client import Engine
from sidecar.errors import (
    Internal,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PromptTooLong,
    RequestError,
    Unauthorized,
    Unavailable,
)
from sidecar.frames import Count, Counted, Failed, Finished, FromEngine, Generate, Started
from sidecar.guard import GB, Guard
from sidecar.http import Connection, Disconnected, Request
from sidecar.lease import Lease, Leases
from sidecar.library import Library, LocalModel

HOLD_S = 10.0
"""How long a stream's head waits for the engine to accept the prompt, so that a refusal still gets its own status."""
PING_S = 5.0
"""Clients count pings as life; the official API sends them at about this pace."""

log = logging.getLogger(__name__)


class App:
    """The sidecar's state, and one method for each thing that a client can ask."""

    def __init__(self, leases: Leases, library: Library, engine: Engine, guard: Guard) -> None:
        self.leases = leases
        self.changed = trio.Event()
        """Replaced whenever a deadline may have moved."""
        self.leaving = False
        self.now_please = False
        self._library = library
        self._engine = engine
        self._guard = guard
        self._started = time.monotonic()

    async def handle(self, connection: Connection, request: Request) -> None:
        """Answer one request; raises Disconnected when the client left."""
        request_id = f"req_{secrets.token_hex(12)}"
        try:
            await self._route(connection, request, request_id)
        except RequestError as error:
            await self.fail(connection, error, request_id)
        except ModelUnavailable as error:
            await self.fail(connection, _unavailable(error), request_id)

    async def fail(self, connection: Connection, error: RequestError, request_id: str = "") -> None:
        """The one place where an error becomes an answer, or an event once a stream has begun."""
        request_id = request_id or f"req_{secrets.token_hex(12)}"
        log.info("%s %d %s", request_id, error.status, error)
        if connection.begun:
            if isinstance(error, Unavailable):
                raise Disconnected  # clients retry a broken stream, but not an error event
            await connection.send(sse(api_errors.envelope(error, request_id)))
            await connection.finish()
            return
        headers = {"content-type": "application/json", "request-id": request_id}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        await connection.respond(error.status, headers, api_errors.encode(error, request_id))

    async def _route(self, connection: Connection, request: Request, request_id: str) -> None:
        routes: dict[str, dict[str, Callable[[], Awaitable[None]]]] = {
            "/": {"HEAD": lambda: connection.respond(200, {}, b"")},
            "/health": {
                "GET": lambda: _json(connection, self.health()),
                "HEAD": lambda: connection.respond(200, {}, b""),
            },
            LEASE_PATH: {"POST": lambda: self._lease(connection, request)},
            STATUS_PATH: {"GET": lambda: _json(connection, self.status())},
            STOP_PATH: {"POST": lambda: self._stop(connection, request)},
            "/v1/messages": {"POST": lambda: self._messages(connection, request, request_id)},
            "/v1/messages/count_tokens": {"POST": lambda: self._count(connection, request, request_id)},
            "/v1/models": {"GET": lambda: self._models(connection, request, request_id)},
        }
        if request.path.startswith("/v1/models/"):
            routes[request.path] = {"GET": lambda: self._models(connection, request, request_id)}
        methods = routes.get(request.path)
        if methods is None:
            raise NotFound(f"there is nothing at {request.path}")
        if request.method not in methods:
            raise MethodNotAllowed(f"{request.path} takes {' or '.join(methods)}, not {request.method}")
        await methods[request.method]()

    # Control

    async def _lease(self, connection: Connection, request: Request) -> None:
        try:
            wanted = LeaseRequest.decode(request.body)
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        await connection.begin(200, {"content-type": "application/x-ndjson"})
        if self.leaving:
            await connection.send(LeaseEvent("retry").encode())
            await connection.finish()
            return
        if wanted.protocol != PROTOCOL:
            reason = (
                f"the running sidecar ({__version__}) speaks another protocol: run `claude-local stop`, then try again"
            )
            await connection.send(LeaseEvent("refused", reason=reason, exit_code=75).encode())
            await connection.finish()
            return
        lease = self.leases.grant(wanted, time.monotonic())
        self._tell()
        log.info("lease granted: pid %d, %s, port %d", wanted.pid, wanted.command, wanted.port)
        try:
            await connection.while_connected(lambda: self._lease_events(connection, wanted.model))
        finally:
            self.leases.release(lease, time.monotonic())
            self._tell()

    async def _lease_events(self, connection: Connection, name: str) -> None:
        await connection.send(LeaseEvent("granted", model=name).encode())
        try:
            model = await self._follow(connection, name)
            limits = model.limits
            known = {"model": name, "context_window": limits.context_window, "output_limit": limits.output_limit}
            await connection.send(LeaseEvent("loading", **known).encode())  # type: ignore[arg-type]
            async with self._engine.use(model):
                self.leases.touch(time.monotonic())  # a long load is no idleness
            self._tell()
            await connection.send(LeaseEvent("ready", **known).encode())  # type: ignore[arg-type]
        except ModelUnavailable as error:
            await connection.send(LeaseEvent("failed", reason=str(error), exit_code=error.exit_code).encode())
        except Unavailable as error:
            await connection.send(LeaseEvent("failed", reason=str(error), exit_code=70).encode())
        await trio.sleep_forever()

    async def _follow(self, connection: Connection, name: str) -> LocalModel:
        """Get the model and pass its download's progress on."""

        async def tell() -> None:
            while True:
                await trio.sleep(0.2)
                fetch = self._library.fetches.get(name)
                if fetch is not None and fetch.total:
                    await connection.send(LeaseEvent("downloading", done=fetch.done, total=fetch.total).encode())

        failure: ModelUnavailable | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            try:
                model = await self._library.get(name)
            except ModelUnavailable as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return model

    async def _stop(self, connection: Connection, request: Request) -> None:
        try:
            self.now_please = bool(msgspec.json.decode(request.body or b"{}", type=dict[str, bool]).get("now"))
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f'the body is not like {{"now": true}}: {error}') from None
        self.leaving = True
        await _json(connection, {"stopping": True})
        self._tell()

    def health(self) -> dict[str, object]:
        """Healthy means that a token could be produced: never over a dead engine or without memory."""
        broken = self._engine.state == "failed"
        accepting = self._guard.accepting and not self.leaving
        return {
            "status": "unhealthy" if broken else "healthy" if accepting else "degraded",
            "memory": self._memory(accepting),
            "engine": {"state": self._engine.state},
            "version": __version__,
        }

    def status(self) -> dict[str, object]:
        """Everything that `claude-local status` shows."""
        now = time.monotonic()
        process = self._engine.process
        model = process.model if process else None
        beat = process.heartbeat if process else None
        return {
            "version": __version__,
            "pid": os.getpid(),
            "protocol": PROTOCOL,
            "uptime_s": round(now - self._started, 1),
            "model": {
                "name": model.name if model else None,
                "state": self._engine.state,
                "context_window": model.limits.context_window if model else None,
                "output_limit": model.limits.output_limit if model else None,
            },
            "leases": [_describe(lease, now) for lease in self.leases],
            "requests": {
                "running": self.leases.running,
                "waiting": beat.waiting if beat else 0,
                "total": self.leases.served,
            },
            "memory": {
                **self._memory(self._guard.accepting),
                "engine_gb": round(beat.active_bytes / GB, 3) if beat else 0.0,
                "prefix_cache_gb": round(beat.cache_bytes / GB, 3) if beat else 0.0,
            },
            "engine": {"pid": process.pid if process else None, "state": self._engine.state},
        }

    def _memory(self, accepting: bool) -> dict[str, object]:
        return {
            "status": self._guard.level.label,
            "available_gb": f"{self._guard.available / GB:.2f}",
            "accepting_requests": accepting,
        }

    # The public API

    async def _models(self, connection: Connection, request: Request, request_id: str) -> None:
        model = self._authenticate(request).request.model
        one = {"type": "model", "id": model, "display_name": model, "created_at": "1970-01-01T00:00:00Z"}
        wanted = request.path.removeprefix("/v1/models").strip("/")
        if wanted and wanted != model:
            raise NotFound(f"model: {wanted} is not the model of this invocation, {model}")
        page = {"data": [one], "has_more": False, "first_id": model, "last_id": model}
        await _json(connection, one if wanted else page, {"request-id": request_id})

    async def _count(self, connection: Connection, request: Request, request_id: str) -> None:
        lease = self._authenticate(request)
        parsed = api.parse_count(request.body)
        conversation = api.conversation(parsed)
        with self._use():
            model = await self._library.get(_model_name(parsed.model, lease))
            async with self._engine.use(model) as process:
                match await process.count(Count(process.new_id(), conversation)):
                    case Counted(tokens=tokens):
                        await _json(connection, {"input_tokens": tokens}, {"request-id": request_id})
                    case failure:
                        raise _error(failure, model)

    async def _messages(self, connection: Connection, request: Request, request_id: str) -> None:
        lease = self._authenticate(request)
        parsed = api.parse_messages(request.body)
        todo = Generate(
            id=0,
            conversation=api.conversation(parsed),
            sampling=api.sampling(parsed),
            max_tokens=parsed.max_tokens,
            stop=api.stop_sequences(parsed),
            forced=api.forced_tools(parsed),
            parallel=api.parallel_calls(parsed),
            session=request.headers.get("x-claude-code-session-id", lease.request.token_sha256),
        )
        if not self._guard.accepting:
            raise Unavailable(
                f"only {self._guard.available / GB:.1f} GB of memory are free: close something and try again",
                retry_after=10,
            )
        reply = Reply(f"msg_{secrets.token_hex(12)}", parsed.model, lambda: f"toolu_{secrets.token_hex(12)}")
        answer = _Answer(connection, reply, request_id, stream=bool(parsed.stream))
        with self._use():
            await connection.while_connected(
                lambda: self._answer(answer, _model_name(parsed.model, lease), todo, request_id)
            )

    async def _answer(self, answer: "_Answer", model_name: str, todo: Generate, request_id: str) -> None:
        """Produce and deliver side by side, so that pings go out while a model loads or a prompt is read."""
        send, receive = trio.open_memory_channel[FromEngine | RequestError](float("inf"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._produce, model_name, todo, send)
            try:
                await answer.deliver(receive)
            except RequestError as error:
                await self.fail(answer.connection, error, request_id)
            nursery.cancel_scope.cancel()

    async def _produce(
        self, name: str, todo: Generate, send: trio.MemorySendChannel[FromEngine | RequestError]
    ) -> None:
        with send:
            try:
                model = await self._library.get(name)
                async with self._engine.use(model) as process:
                    async with process.generate(msgspec.structs.replace(todo, id=process.new_id())) as events:
                        last: FromEngine | None = None
                        async for last in events:
                            send.send_nowait(_error(last, model) if isinstance(last, Failed) else last)
                    if not isinstance(last, Finished | Failed):
                        send.send_nowait(_error(None, model))
            except ModelUnavailable as error:
                send.send_nowait(_unavailable(error))
            except RequestError as error:
                send.send_nowait(error)

    def _authenticate(self, request: Request) -> Lease:
        """The lease that the request's token belongs to. Hashing first makes the look-up's time say nothing."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        tokens = [bearer if scheme.lower() == "bearer" else "", request.headers.get("x-api-key", "")]
        for token in filter(None, map(str.strip, tokens)):
            if lease := self.leases.find(hashlib.sha256(token.encode()).hexdigest()):
                return lease
        raise Unauthorized("this token belongs to no running claude-local")

    def _use(self) -> "_Use":
        return _Use(self)

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


class _Use:
    """A request under way: it holds off the idle deadlines."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __enter__(self) -> None:
        self._app.leases.begin(time.monotonic())
        self._app._tell()

    def __exit__(self, *_: object) -> None:
        self._app.leases.end(time.monotonic())
        self._app._tell()


class _Answer:
    """Delivers one answer, streamed or whole."""

    def __init__(self, connection: Connection, reply: Reply, request_id: str, stream: bool) -> None:
        self.connection = connection
        self._reply = reply
        self._stream = stream
        self._headers = {"request-id": request_id}

    async def deliver(self, events: trio.MemoryReceiveChannel[FromEngine | RequestError]) -> None:
        """Raises the RequestError that ends the answer, if one does."""
        if self._stream:
            await self._deliver_stream(events)
        else:
            await self._deliver_whole(events)

    async def _deliver_stream(self, events: trio.MemoryReceiveChannel[FromEngine | RequestError]) -> None:
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

    async def _deliver_whole(self, events: trio.MemoryReceiveChannel[FromEngine | RequestError]) -> None:
        pieces = [self._reply.start(None)]
        while True:
            event = await _next(events, float("inf"))
            assert event is not None
            pieces += self._reply.feed(event)
            if isinstance(event, Finished):
                await _json(self.connection, collect(pieces), self._headers)
                return


async def _next(events: trio.MemoryReceiveChannel[FromEngine | RequestError], seconds: float) -> FromEngine | None:
    """The next event; None when none comes in time. Raises the error that came instead."""
    with trio.move_on_after(seconds):
        return _raised(await events.receive())
    return None


def _next_ready(events: trio.MemoryReceiveChannel[FromEngine | RequestError]) -> FromEngine | None:
    try:
        return _raised(events.receive_nowait())
    except trio.WouldBlock:
        return None


def _raised(event: FromEngine | RequestError) -> FromEngine:
    if isinstance(event, RequestError):
        raise event
    return event


def _model_name(wanted: str, lease: Lease) -> str:
    """`claude-…` names mean the invocation's own model: clients have them built in for their side requests."""
    return lease.request.model if wanted.startswith("claude-") else wanted


def _error(failure: FromEngine | None, model: LocalModel) -> RequestError:
    match failure:
        case Failed(kind="too_long", message=message):
            tokens, limit = map(int, message.split())
            return PromptTooLong(tokens, limit)
        case Failed(kind="invalid", message=message):
            return InvalidRequest(message)
        case Failed(kind="overloaded", message=message):
            return Unavailable(message)
        case Failed(message=message):
            return Internal(message)
        case _:
            return Unavailable(f"the engine stopped while it answered with {model.name}; it starts again by itself")


def _unavailable(error: ModelUnavailable) -> RequestError:
    """A model that cannot be had at all is the request's fault; one that cannot be had now is not."""
    if error.exit_code == EX_UNAVAILABLE:
        return Unavailable(str(error), retry_after=30)
    return NotFound(f"model: {error}")


def _describe(lease: Lease, now: float) -> dict[str, object]:
    wanted = lease.request
    return {
        "pid": wanted.pid,
        "command": wanted.command,
        "folder": wanted.folder,
        "port": wanted.port,
        "model": wanted.model,
        "strong": wanted.strong,
        "since_s": round(now - lease.since, 1),
    }


async def _json(connection: Connection, body: object, headers: dict[str, str] | None = None) -> None:
    await connection.respond(200, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(body))
