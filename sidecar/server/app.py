"""What each path does. Only this file sees a request's whole way: HTTP, API, engine, and back."""

import hashlib
import logging
import os
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import unquote

import msgspec
import trio

from sidecar import __version__
from sidecar.anthropic import errors as api_errors
from sidecar.anthropic import models, session
from sidecar.anthropic import request as api
from sidecar.anthropic.content import tools
from sidecar.anthropic.fields.types import MessagesRequest
from sidecar.anthropic.reply import Reply, sse
from sidecar.conversation import Priority
from sidecar.errors import (
    InvalidRequest,
    MethodNotAllowed,
    Overloaded,
    RequestError,
    TooMany,
    Unauthorized,
    Unavailable,
)
from sidecar.frames import Count, FromEngine, Generate
from sidecar.http.connection import Connection, Disconnected, Request
from sidecar.http.paths import nothing_at, settled
from sidecar.memory.guard import GB
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
from sidecar.server.lease_events import EX_TEMPFAIL, welcome
from sidecar.server.leases import Lease, Leases
from sidecar.server.request_feed import Followers, line
from sidecar.server.status import health, memory_in_full, queue, sampled, streams
from sidecar.server.status_line import Facts
from sidecar.shared.protocol import (
    CONTROL,
    FORGET_PATH,
    LEASE_PATH,
    PROTOCOL,
    STATUS_PATH,
    STOP_PATH,
    LeaseEvent,
    LeaseRequest,
)
from sidecar.supervisor.engine import Engine

PER_TERMINAL, IN_ALL = 100, 256
"""Requests under way at most. Claude Code's /context asks 26 things at once, a script perhaps a hundred."""

VERSION = "anthropic-version"
"""The header that says which version of the API the client was written for."""

TOKEN = re.compile(r"cl-[0-9a-f]{64}")
"""As the shim makes them."""

log = logging.getLogger(__name__)


class App:
    """The sidecar's state, and one method for each thing that a client can ask."""

    def __init__(self, leases: Leases, library: Library, engine: Engine, memory: Memory) -> None:
        self.leases = leases
        self.changed = trio.Event()
        """Replaced whenever a deadline may have moved."""
        self.leaving = False
        self.now_please = False
        self._library = library
        self._engine = engine
        self._memory = memory
        self._refused = 0
        self._started = trio.current_time()
        self._running: Counter[Lease] = Counter()
        self._history = History()
        self._sessions = Sessions()
        self._once = Once()
        self._reading = Reading(library)
        self._suspects = Suspects()
        self._followers = Followers()
        self._rates: dict[Lease, float] = {}
        """Tokens in a second of each terminal's last answer, where it is shown there."""
        self._attempts: dict[Attempt, Lease] = {}

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
            if lease in self._rates and said.get("tokens_per_s"):
                self._rates[lease] = said["tokens_per_s"]

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
            "/health": {"GET": lambda: self._health(connection)},
            LEASE_PATH: {"POST": lambda: self._lease(connection, request)},
            STATUS_PATH: {"GET": lambda: connection.respond_json(self.status())},
            STOP_PATH: {"POST": lambda: self._stop(connection, request)},
            FORGET_PATH: {"POST": lambda: self._forget(connection)},
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

    # Control

    async def _lease(self, connection: Connection, request: Request) -> None:
        try:
            protocol = LeaseRequest.protocol_of(request.body)
            wanted = LeaseRequest.decode(request.body) if protocol == PROTOCOL else None
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        await connection.begin(200, {"content-type": "application/x-ndjson"})
        if self.leaving or wanted is None:
            said = self._turned_away(protocol)
            await connection.send(said.encode())
            await connection.finish()
            if said.event == "retry" and not self.leaving:
                self.leave()
            return
        lease = self.leases.grant(wanted, trio.current_time())
        self.tell()
        log.info("lease granted: pid %d, %s, port %d", wanted.pid, wanted.command, wanted.port)
        if wanted.line and wanted.strong:
            self._rates[lease] = 0.0
        try:
            with self._followers.following(lease) as lines:
                await connection.while_connected(lambda: self._welcome(connection, lease, lines))
        finally:
            self.leases.release(lease, trio.current_time())
            self._rates.pop(lease, None)
            self.tell()

    @property
    def _in_use(self) -> bool:
        return bool([*self.leases]) or self.leases.running > 0

    def _turned_away(self, protocol: object) -> LeaseEvent:
        """A newer claude-local replaces an idle sidecar; an older one, whose relay has outlived an update, does not:
        the next sidecar would be no older. Nobody's session is ended for either."""
        here = f"the sidecar that runs (version {__version__}, pid {os.getpid()})"
        if not self.leaving and isinstance(protocol, int) and protocol < PROTOCOL:
            reason = f"{here} is newer than this command: start the command again"
        elif self.leaving or not self._in_use:
            return LeaseEvent("retry", protocol=PROTOCOL)
        else:
            reason = (
                f"{here} is of another version and in use: end its terminals first, or run `claude-local stop --now`"
            )
        return LeaseEvent("refused", reason=reason, exit_code=EX_TEMPFAIL, protocol=PROTOCOL)

    async def _welcome(self, connection: Connection, lease: Lease, lines: AsyncIterator[LeaseEvent]) -> None:
        await welcome(connection, lease, self._library, self._engine, self._prepared)
        async for said in lines:
            await connection.send(said.encode())

    def _prepared(self) -> None:
        self.leases.touch(trio.current_time())  # a long load is no idleness
        self.tell()

    async def _forget(self, connection: Connection) -> None:
        await self._engine.drop()
        await connection.respond_json({"forgotten": True})

    async def _stop(self, connection: Connection, request: Request) -> None:
        try:
            now = bool(msgspec.json.decode(request.body or b"{}", type=dict[str, bool]).get("now"))
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f'the body is not like {{"now": true}}: {error}') from None
        await connection.respond_json({"stopping": True, "running": self.leases.running})
        self.leave(now)

    def leave(self, now: bool = False) -> None:
        """Let nobody in any more and end when the running answers are done, or `now`."""
        self.leaving, self.now_please = True, now
        self.tell()

    async def _health(self, connection: Connection) -> None:
        """503 over a broken engine, for those who read no bodies."""
        shown = health(self._engine.state, self._memory.view, self.leaving)
        status = 503 if shown["status"] == "unhealthy" else 200
        body = msgspec.json.encode({**shown, "version": __version__})
        await connection.respond(status, {"content-type": "application/json"}, body)

    def status(self) -> dict[str, object]:
        """Everything that `claude-local status` shows."""
        now = trio.current_time()
        process = self._engine.process
        model = process.model if process else None
        beat = process.heartbeat if process and not process.gone else None
        ready = process.ready if process else None
        owners = {attempt.number: lease.request.pid for attempt, lease in self._attempts.items()}
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
                "weights_bytes": model.files.weights_bytes if model else None,
                "cache_bytes": model.limits.cache_bytes if model else None,
                "kv_bits": ready.kv_bits if ready else None,
                "one_by_one": ready.one_by_one if ready else None,
                "sampling": sampled(ready) if ready else None,
            },
            "leases": [lease.describe(now) for lease in self.leases],
            "requests": {
                "running": self.leases.running,
                "waiting": beat.waiting if beat else 0,
                "total": self.leases.served,
                "queue": queue(beat.queue, owners) if beat else [],
                "streams": streams(beat.streams, owners) if beat else [],
            },
            "tokens": self._history.tokens(),
            "remarks": dict(self._reading.unread.counts),
            "memory": memory_in_full(self._memory.view, beat, self._refused),
            "recent": self._history.recent(),
            "engine": {"pid": process.pid if process else None, "state": self._engine.state},
        }

    def lines(self) -> Iterator[tuple[int, Facts]]:
        """What each terminal that shows it has to know of itself, by its process."""
        process, view = self._engine.process, self._memory.view
        beat = process.heartbeat if process and not process.gone else None
        for lease, rate in self._rates.items():
            own = {attempt.number for attempt, owner in self._attempts.items() if owner is lease}
            streams = tuple(each for each in (beat.streams if beat else ()) if each.id in own)
            queue = tuple(each for each in (beat.queue if beat else ()) if each.id in own)
            facts = (lease.request.model, self._engine.state, streams, queue, self._running[lease], rate)
            yield lease.request.pid, Facts(*facts, view.level.label, view.sample.available / GB)

    # The public API

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
                self._refused += 1
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
        self._attempts[attempt] = lease
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(attempt.produce, self._library, self._engine, visit.model, send)
                try:
                    await answer.deliver(events)
                except RequestError as error:
                    await self.fail(answer.connection, error, visit.id, answer.said)
                nursery.cancel_scope.cancel()
        finally:
            del self._attempts[attempt]

    def _lease_of(self, request: Request) -> Lease | None:
        """The lease that the request's token belongs to. Hashing first makes the look-up's time say nothing."""
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        tokens = [bearer if scheme.lower() == "bearer" else "", request.headers.get("x-api-key", "")]
        for token in filter(None, map(str.strip, tokens)):
            if lease := self.leases.find(hashlib.sha256(token.encode()).hexdigest()):
                return lease
        return None

    def _authenticate(self, request: Request) -> Lease:
        if lease := self._lease_of(request):
            return lease
        if self.leaving:
            raise Unavailable("claude-local is being stopped; it starts again by itself")
        raise Unauthorized("this token belongs to no running claude-local")

    @contextmanager
    def _use(self, lease: Lease) -> Iterator[None]:
        """A request under way: it holds off the idle deadlines, and counts against what may be under way."""
        if self._running[lease] >= PER_TERMINAL:
            raise TooMany(f"this terminal has {PER_TERMINAL} requests under way: wait for some of them")
        if self._running.total() >= IN_ALL:
            raise Overloaded(f"{IN_ALL} requests are under way: wait for some of them")
        self._running[lease] += 1
        self.leases.begin(trio.current_time())
        self.tell()
        try:
            yield
        finally:
            self._running -= Counter([lease])
            self.leases.end(trio.current_time())
            self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()


def _model(name: str, listed: Listed) -> models.Model:
    window, longest = (listed.limits.context_window, listed.limits.output_limit) if listed.limits else (None, None)
    return models.Model(name, window, longest, listed.date or models.UNKNOWN)


def _stage(connection: Connection, seconds: float) -> str:
    """How far a request was, in words."""
    return f"after {seconds:.1f} s, {'in the middle of its answer' if connection.begun else 'before its answer began'}"


def _version(request: Request) -> str:
    return request.headers.get(VERSION, "")
