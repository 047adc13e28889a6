"""HTTP/1.1 on a trio stream, with h11. Knows nothing of what is served."""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import h11
import msgspec
import trio

from sidecar.errors import HeadTooLarge, Internal, InvalidRequest, NotArrived, RequestError, TooLarge
from sidecar.shared.protocol import split_target

BODY_LIMIT = 32 * 2**20
"""Bytes; the public API's own limit is 32 MB, of which this is the larger reading."""
HEAD_LIMIT = 64 * 2**10
"""Bytes; the relay's own limit for a connection's first request."""
IDLE_S = 10.0
"""How long a connection may stay silent between requests. Clients give theirs up after 4 or 5 seconds; one that does
not would keep a seat of its relay from another."""
HEADERS_LIMIT = 1000
"""Lines of a head; Claude Code sends 30."""
ARRIVAL_S = 45.0
"""How long a request may take from its first byte to its last: they come from this machine, or through a tunnel."""
FAREWELL_S = 2.0
"""How long a client may go on sending after our last word."""
_CHUNK = 65536
FAILED = "claude-local failed on this request; its log says why"
_HEAD_TOO_LARGE = f"the request's head is longer than {HEAD_LIMIT >> 10} KB"
_TOO_MANY_HEADERS = f"the request has more than {HEADERS_LIMIT} headers"
_TOO_LARGE = f"the request is larger than {BODY_LIMIT >> 20} MB"

log = logging.getLogger(__name__)


class Disconnected(Exception):
    """The client is gone: there is nobody left to answer."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: str
    """What follows the question mark."""
    headers: dict[str, str]
    """Names in lower case; of repeated ones the last."""
    body: bytes
    first: bool
    """Whether it is its connection's first: what a relay has looked at."""


class Connection:
    """One client connection: `next_request`, then exactly one answer, and so on until None."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_LIMIT)
        self._served = 0
        self._bodiless = False
        """Whether the client wants the answer's head alone."""
        self.status = 0
        """Of the answer that has begun last."""
        self.broken_off = False
        """Whether it was we who left it incomplete."""
        self._cut = False
        """Whether something that was to be sent has not been, or not all of it."""

    @property
    def begun(self) -> bool:
        """Whether an answer has begun, so that an error can no longer have a status of its own."""
        return self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def end(self) -> None:
        """End the connection. A relay takes a sending side that is closed alone for our decision, and anything else
        for the death of a process in the middle of an answer: so a broken answer never gets here."""
        if self._cut or self._h11.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY, h11.ERROR):
            return
        with trio.move_on_after(FAREWELL_S, shield=True) as scope, contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_eof()
            scope.shield = False
            while await self._receive():
                pass  # what is closed with bytes unread takes its last words along

    async def next_request(self) -> Request | None:
        """The next request, whole; None at the end of the connection. Raises RequestError for one that is not HTTP,
        too large or too slow."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        elif self._h11.our_state is not h11.IDLE:
            return None  # the client asked for the end after this answer (RFC 9112, 9.6) and may be waiting for it
        self._bodiless = False
        try:
            if not await self._has_begun():
                return None
            with trio.fail_after(ARRIVAL_S):
                return await self._request()
        except trio.TooSlowError:
            raise NotArrived(f"the request did not arrive within {ARRIVAL_S:.0f} s") from None
        except h11.RemoteProtocolError as error:
            # h11 quotes the line that it stumbled over, which may hold a token.
            problem = str(error).partition(":")[0]
            if error.error_status_hint == HeadTooLarge.status:
                raise HeadTooLarge(_HEAD_TOO_LARGE) from None
            raise InvalidRequest(f"not an HTTP request: {problem}") from None

    async def _has_begun(self) -> bool:
        """Wait for a request's first byte; False when none comes."""
        if self._h11.trailing_data[0]:
            return True
        with trio.move_on_after(IDLE_S):
            data = await self._receive()
            self._h11.receive_data(data)
            return bool(data)
        return False

    async def _request(self) -> Request:
        head = await self._event()
        if not isinstance(head, h11.Request):
            raise Disconnected
        if sum(len(name) + len(value) + 4 for name, value in head.headers) > HEAD_LIMIT:
            raise HeadTooLarge(_HEAD_TOO_LARGE)  # h11 minds only what is not yet complete
        if len(head.headers) > HEADERS_LIMIT:
            raise HeadTooLarge(_TOO_MANY_HEADERS)
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
        self._bodiless = head.method == b"HEAD"
        if {"content-length", "transfer-encoding"} <= headers.keys():
            raise InvalidRequest("not an HTTP request: two lengths")  # RFC 9112, 6.1: it may hide a second request
        if int(headers.get("content-length", 0)) > BODY_LIMIT:
            raise TooLarge(_TOO_LARGE)
        if self._h11.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        body = await self._body()
        self._served += 1
        path, _, query = split_target(head.target.decode("ascii"))[1].partition("?")
        return Request(head.method.decode("ascii"), path, query, headers, body, first=self._served == 1)

    async def _body(self) -> bytes:
        body = bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise Disconnected
            body += event.data
            if len(body) > BODY_LIMIT:
                raise TooLarge(_TOO_LARGE)
        return bytes(body)

    async def respond(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """A whole answer."""
        await self.begin(status, {**headers, "content-length": str(len(body))})
        await self.send(body)
        await self.finish()

    async def respond_json(self, body: object, headers: dict[str, str] | None = None) -> None:
        """A whole answer of status 200."""
        await self.respond(200, {"content-type": "application/json", **(headers or {})}, msgspec.json.encode(body))

    async def begin(self, status: int, headers: dict[str, str]) -> None:
        """An answer's head; without a content-length the body is chunked."""
        if self._h11.their_state in (h11.IDLE, h11.SEND_BODY, h11.ERROR):
            headers = {**headers, "connection": "close"}  # the rest of the request will not be read
        self.status = status
        reply = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send(h11.Response(status_code=status, headers=reply))

    async def send(self, data: bytes) -> None:
        if data and not self._bodiless:
            await self._send(h11.Data(data=data))

    async def finish(self) -> None:
        await self._send(h11.EndOfMessage())

    def break_off(self) -> NoReturn:
        """Leave an answer incomplete, so that its client sees that and asks again. Raises Disconnected."""
        self.broken_off = True
        raise Disconnected

    async def while_connected(self, act: Callable[[], Awaitable[None]]) -> None:
        """Run `act` for as long as the client stays; raises Disconnected when it leaves before the end.

        A client that ends its sending side while it waits for an answer counts as gone: none that speaks this API
        does so otherwise, and nothing else shows that a relayed client has left.
        """
        gone = False
        try:
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    nonlocal gone
                    ahead = 0
                    while (data := await self._receive()) and ahead < BODY_LIMIT:
                        self._h11.receive_data(data)  # a pipelined request: kept for later
                        ahead += len(data)
                    if self._h11.our_state in (h11.DONE, h11.MUST_CLOSE):
                        return  # it has all of its answer, and `act` only tidies up
                    gone = True
                    nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await act()
                nursery.cancel_scope.cancel()
        except* Disconnected:  # from inside `act`, whatever nurseries it came through
            gone = True
        if gone:
            raise Disconnected

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._receive())
        return event  # type: ignore[return-value]  # NEED_DATA is excluded

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(_CHUNK))
        except trio.BrokenResourceError:
            return b""

    async def _send(self, event: h11.Event) -> None:
        if data := self._h11.send(event):
            self._cut = True
            try:
                await self._stream.send_all(data)
                self._cut = False
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Disconnected from None


async def serve_connection(
    stream: trio.abc.HalfCloseableStream,
    handle: Callable[[Connection, Request], Awaitable[None]],
    fail: Callable[[Connection, RequestError], Awaitable[None]],
) -> None:
    """Answer requests until the client leaves or an answer closes the connection."""
    connection = Connection(stream)
    async with stream:
        try:
            await _serve(connection, handle, fail)
        finally:
            await connection.end()


async def _serve(
    connection: Connection,
    handle: Callable[[Connection, Request], Awaitable[None]],
    fail: Callable[[Connection, RequestError], Awaitable[None]],
) -> None:
    try:
        while True:
            try:
                request = await connection.next_request()
                if request is None:
                    return
                await handle(connection, request)
            except RequestError as error:
                await fail(connection, error)
                return
    except (Disconnected, h11.LocalProtocolError):
        return
    except Exception:  # the one catch-all of a connection: a bug in one request must not end the others
        log.exception("a request fails")
        if not connection.begun:
            with contextlib.suppress(Disconnected, h11.LocalProtocolError):
                await fail(connection, Internal(FAILED))
