"""What each path does. Only this file sees a request's whole way: HTTP, API, engine, and back."""

import hashlib
import logging
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import unquote

import trio

from sidecar.anthropic import errors as api_errors
from sidecar.anthropic import models, session
from sidecar.anthropic import request as api
from sidecar.anthropic.content import tools
from sidecar.anthropic.fields.types import MessagesRequest
from sidecar.anthropic.reply import Reply, sse
from sidecar.conversation import Priority
from sidecar.errors import MethodNotAllowed, Overloaded, RequestError, TooMany, Unauthorized, Unavailable
from sidecar.frames import Count, FromEngine, Generate
from sidecar.http.connection import Connection, Disconnected, Request
from sidecar.http.paths import nothing_at, settled
from sidecar.memory.monitor import Memory
from sidecar.models.library import Library, Listed
from sidecar.models.resolve import ModelUnavailable
from sidecar.requests import offload
from sidecar.requests.conversion import Reading
from sidecar.requests.generation import Attempt, count, unavailable
from sidecar.requests.log_once import Once
from sidecar.requests.prompt_diff import Outline
from sidecar.requests.request_log import History, Visit
from sidecar.requests.response import Answer
from sidecar.requests.sessions import Sessions
from sidecar.requests.suspects import Suspects
from sidecar.server.control_api import ControlApi
from sidecar.server.leases import Lease
from sidecar.server.lifecycle import Lifecycle
from sidecar.server.report import Report
from sidecar.server.request_feed import Followers, line
from sidecar.server.traffic import Traffic
from sidecar.shared.protocol import CONTROL, FORGET_PATH, LEASE_PATH, STATUS_PATH, STOP_PATH
from sidecar.supervisor.engine import Engine

PER_TERMINAL, IN_ALL = 100, 256
"""Requests under way at most. Claude Code's /context asks 26 things at once, a script perhaps a hundred."""

VERSION = "anthropic-version"
"""The header that says which version of the API the client was written for."""

TOKEN = re.compile(r"cl-[0-9a-f]{64}")
"""As the shim makes them."""

log = logging.getLogger(__name__)


class App:
    """One method for each thing that a client can ask of the Messages API, and the way to all others."""

    def __init__(self, lifecycle: Lifecycle, library: Library, engine: Engine, memory: Memory) -> None:
        self.lifecycle = lifecycle
        self._library = library
        self._engine = engine
        self._memory = memory
        self._traffic = Traffic()
        self._history = History()
        self._sessions = Sessions()
        self._once = Once()
        self._reading = Reading(library)
        self._suspects = Suspects()
        self._followers = Followers()
        self._control = ControlApi(lifecycle, library, engine, self._followers, self._traffic)
        self.report = Report(lifecycle, engine, memory, self._history, self._reading.unread, self._traffic)

    async def handle(self, connection: Connection, request: Request) -> None:
        """Answer one request; raises Disconnected when the client left."""
        request_id = f"req_{secrets.token_hex(12)}"
        began, connection.status = trio.current_time(), 0
        lease = self._lease_of(request)
        try:
            await self._route(connection, request, request_id)
        except RequestError as error:
            await self.fail(connection, error, request_id)
        except ModelUnavailable as error:
            await self.fail(connection, unavailable(error), request_id)
        except Disconnected:
            if not connection.broken_off and request.path != LEASE_PATH:
                log.info("%s given up by its client %s", request_id, _stage(connection, trio.current_time() - began))
            raise
        finally:
            seconds, record = trio.current_time() - began, self._history.find(request_id)
            said = line(request.method, request.path, connection.status, seconds, record)
            self._followers.tell(lease, said)
            if lease in self._traffic.rates and said.get("tokens_per_s"):
                self._traffic.rates[lease] = said["tokens_per_s"]

    async def fail(
        self,
        connection: Connection,
        error: RequestError,
        request_id: str = "",
        said: Callable[[dict[str, object]], bytes] = sse,
    ) -> None:
        """The one place where an error becomes an answer, or, by `said`, the end of one that has begun."""
        request_id = request_id or f"req_{secrets.token_hex(12)}"
        # A path may be quoted in it, and a client that misread its settings may put anything in a path.
        log.info("%s %d %s", request_id, error.status, TOKEN.sub("(a token)", str(error)))
        if connection.begun:
            if isinstance(error, Unavailable):
                connection.break_off()  # clients retry a broken answer, but not an error inside one
            await connection.send(said(api_errors.envelope(error, request_id)))
            await connection.finish()
            return
        headers = {"content-type": "application/json", "request-id": request_id}
        if error.retry_after is not None:
            headers["retry-after"] = str(error.retry_after)
        if isinstance(error, MethodNotAllowed):
            headers["allow"] = error.allow
        await connection.respond(error.status, headers, api_errors.encode(error, request_id))

    async def _route(self, connection: Connection, request: Request, request_id: str) -> None:
        routes: dict[str, dict[str, Callable[[], Awaitable[None]]]] = {
            "/": {"HEAD": lambda: connection.respond(200, {}, b"")},
            "/health": {"GET": lambda: self.report.health(connection)},
            LEASE_PATH: {"POST": lambda: self._control.lease(connection, request)},
            STATUS_PATH: {"GET": lambda: connection.respond_json(self.report.status())},
            STOP_PATH: {"POST": lambda: self._control.stop(connection, request)},
            FORGET_PATH: {"POST": lambda: self._control.forget(connection)},
            "/v1/messages": {"POST": lambda: self._messages(connection, request, request_id)},
            "/v1/messages/count_tokens": {"POST": lambda: self._count(connection, request, request_id)},
            "/v1/models": {"GET": lambda: self._models(connection, request, request_id)},
        }
        path = settled(request.path)
        if path.startswith("/v1/models/"):
            routes[path] = {"GET": lambda: self._models(connection, request, request_id)}
        methods = routes.get(path)
        # A relay looks at the first request of a connection only: none behind it may be one that it would have refused.
        if methods is None or (request.path.startswith(CONTROL) and not request.first):
            raise nothing_at(request.path)
        method = "GET" if request.method == "HEAD" and "GET" in methods else request.method
        if method not in methods:
            raise MethodNotAllowed(request.path, methods, request.method)
        await methods[method]()

    async def _models(self, connection: Connection, request: Request, request_id: str) -> None:
        own = self._authenticate(request).request.model
        listed = [_model(name, each) for name, each in (await self._library.listed(own)).items()]
        wanted = unquote(settled(request.path).removeprefix("/v1/models").removeprefix("/"))
        answer = models.find(listed, wanted, own) if wanted else models.page(listed, request.query)
        await connection.respond_json(answer, {"request-id": request_id})

    async def _count(self, connection: Connection, request: Request, request_id: str) -> None:
        lease = self._authenticate(request)
        parsed = await offload.parsed(partial(api.parse_count, version=_version(request)), request.body)
        name = models.meant(parsed.model, lease.request.model)

        async def answer() -> None:
            model = await self._library.get(name)
            tokens = await count(self._engine, model, todo, self._suspects)
            counted: dict[str, object] = {"input_tokens": tokens}
            if parsed.context_management is not None:
                counted["context_management"] = {"original_input_tokens": tokens}
            await connection.respond_json(counted, {"request-id": request_id})

        with self._use(lease):
            conversation = await self._reading.conversation(connection, parsed, name, len(request.body))
            todo = Count(0, conversation, lease.request.token_sha256)
            await connection.while_connected(answer)

    async def _messages(self, connection: Connection, request: Request, request_id: str) -> None:
        lease = self._authenticate(request)
        size = len(request.body)
        parsed = await offload.parsed(partial(api.parse_messages, version=_version(request)), request.body)
        name = models.meant(parsed.model, lease.request.model)
        owner = lease.request.token_sha256
        for remark in tools.left_out(parsed):
            self._once.say(remark)
        with self._use(lease):
            todo = Generate(
                id=0,
                conversation=await self._reading.conversation(connection, parsed, name, size),
                sampling=api.sampling(parsed),
                max_tokens=parsed.max_tokens,
                stop=api.stop_sequences(parsed),
                forced=tools.forced(parsed),
                parallel=api.parallel_calls(parsed),
                thinking_budget=api.thinking_budget(parsed),
                session=session.name_of(parsed, request.headers) or owner,
                priority=self._priority(parsed, request, owner),
                place=lease.place,
            )
            if reason := self._memory.view.refusal():
                self._traffic.refused += 1
                raise Unavailable(reason, retry_after=10)
            reply = Reply(
                f"msg_{secrets.token_hex(12)}",
                parsed.model,
                lambda: f"toolu_{secrets.token_hex(12)}",
                api.shows_thinking(parsed),
                todo.conversation.begun,
                edits=parsed.context_management is not None,
            )
            answer = Answer(connection, reply, request_id, stream=bool(parsed.stream))
            outline = await offload.aside(size, Outline.of, todo.conversation)
            visit = self._history.begin(request_id, name, todo, outline)
            await connection.while_connected(lambda: self._answer(answer, visit, lease))

    def _priority(self, parsed: MessagesRequest, request: Request, owner: str) -> Priority:
        marked = session.marked(parsed, request.headers)
        if marked is not None:
            return marked
        name = session.agent_of(parsed, request.headers)
        return self._sessions.place(owner, name, len(request.body), len(parsed.tools or ()))

    async def _answer(self, answer: Answer, visit: Visit, lease: Lease) -> None:
        send, events = trio.open_memory_channel[FromEngine | RequestError](float("inf"))
        attempt = Attempt(self._history, self._suspects, visit, answer.shows)
        self._traffic.attempts[attempt] = lease
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt.produce, self._library, self._engine, visit.model, send)
                try:
                    await answer.deliver(events)
                except RequestError as error:
                    await self.fail(answer.connection, error, visit.id, answer.said)
                nursery.cancel_scope.cancel()
        finally:
            del self._traffic.attempts[attempt]

    def _lease_of(self, request: Request) -> Lease | None:
        """The lease that the request's token belongs to. Hashing first makes the look-up's time say nothing."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        tokens = [bearer if scheme.lower() == "bearer" else "", request.headers.get("x-api-key", "")]
        for token in filter(None, map(str.strip, tokens)):
            if lease := self.lifecycle.leases.find(hashlib.sha256(token.encode()).hexdigest()):
                return lease
        return None

    def _authenticate(self, request: Request) -> Lease:
        if lease := self._lease_of(request):
            return lease
        if self.lifecycle.leaving:
            raise Unavailable("claude-local is being stopped; it starts again by itself")
        raise Unauthorized("this token belongs to no running claude-local")

    @contextmanager
    def _use(self, lease: Lease) -> Iterator[None]:
        """A request under way: it holds off the idle deadlines, and counts against what may be under way."""
        if self._traffic.running[lease] >= PER_TERMINAL:
            raise TooMany(f"this terminal has {PER_TERMINAL} requests under way: wait for some of them")
        if self._traffic.running.total() >= IN_ALL:
            raise Overloaded(f"{IN_ALL} requests are under way: wait for some of them")
        self._traffic.running[lease] += 1
        self.lifecycle.leases.begin(trio.current_time())
        self.lifecycle.tell()
        try:
            yield
        finally:
            self._traffic.running -= Counter([lease])
            self.lifecycle.leases.end(trio.current_time())
            self.lifecycle.tell()


def _model(name: str, listed: Listed) -> models.Model:
    window, longest = (listed.limits.context_window, listed.limits.output_limit) if listed.limits else (None, None)
    return models.Model(name, window, longest, listed.date or models.UNKNOWN)


def _stage(connection: Connection, seconds: float) -> str:
    """How far a request was, in words."""
    return f"after {seconds:.1f} s, {'in the middle of its answer' if connection.begun else 'before its answer began'}"


def _version(request: Request) -> str:
    return request.headers.get(VERSION, "")
