"""HTTP/1.1 on a trio stream, with h11. Knows nothing of what is served."""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import h11
import msgspec
import trio

from sidecar.errors import Internal, InvalidRequest, RequestError, TooLarge

BODY_LIMIT = 32 * 2**20
"""Bytes; the public API's own limit."""
HEAD_TIMEOUT_S = 60.0
"""How long a kept-alive connection may stay silent between requests, and a request may take to arrive."""
_CHUNK = 65536
FAILED = "claude-local failed on this request; its log says why"

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


class Connection:
    """One client connection: `next_request`, then exactly one answer, and so on until None."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=65536)

    @property
    def begun(self) -> bool:
        """Whether an answer has begun, so that an error can no longer have a status of its own."""
        return self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE)

    async def next_request(self) -> Request | None:
        """The next request, whole; None at the end of the connection. Raises RequestError for one that is not HTTP."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        elif self._h11.our_state is not h11.IDLE:
            return None  # the client asked for the end after this answer (RFC 9112, 9.6) and may be waiting for it
        try:
            with trio.fail_after(HEAD_TIMEOUT_S):
                head = await self._event()
                if not isinstance(head, h11.Request):
                    return None
                if head.headers and dict(head.headers).get(b"expect", b"").lower() == b"100-continue":
                    await self._send(h11.InformationalResponse(status_code=100, headers=[]))
                body = await self._body()
        except trio.TooSlowError:
            return None
        except h11.RemoteProtocolError as error:
            raise InvalidRequest(f"not an HTTP request: {error}") from None
        return Request(
            method=head.method.decode("ascii"),
            path=head.target.decode("ascii").partition("?")[0],
            query=head.target.decode("ascii").partition("?")[2],
            headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
            body=body,
        )

    async def _body(self) -> bytes:
        body = bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise Disconnected
            body += event.data
            if len(body) > BODY_LIMIT:
                raise TooLarge(f"the request is larger than {BODY_LIMIT >> 20} MB")
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
        reply = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send(h11.Response(status_code=status, headers=reply))

    async def send(self, data: bytes) -> None:
        if data:
            await self._send(h11.Data(data=data))

    async def finish(self) -> None:
        await self._send(h11.EndOfMessage())

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
                    while data := await self._receive():
                        self._h11.receive_data(data)  # a pipelined request: kept for later
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
            try:
                await self._stream.send_all(data)
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
