"""The HTTP edge on memory streams: whole requests, any pieces, keep-alive, limits, and clients that leave."""

from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
import trio.testing

from sidecar import http
from sidecar.errors import InvalidRequest, RequestError
from sidecar.http import Connection, Disconnected, Request, serve_connection

Handler = Callable[[Connection, Request], Awaitable[None]]

POST = b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nContent-Length: 5\r\n\r\nhello"


async def echo(connection: Connection, request: Request) -> None:
    await connection.respond(200, {"x-path": request.path}, request.method.encode() + b" " + request.body)


async def fail(connection: Connection, error: RequestError) -> None:
    await connection.respond(error.status, {}, str(error).encode())


class Client:
    """The other end of a served connection."""

    def __init__(self, nursery: trio.Nursery, handler: Handler = echo) -> None:
        self.stream, theirs = trio.testing.memory_stream_pair()
        self._h11 = h11.Connection(h11.CLIENT)
        nursery.start_soon(serve_connection, theirs, handler, fail)

    async def answer(self, method: str = "POST") -> tuple[int, bytes]:
        self._h11.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._h11.send(h11.EndOfMessage())
        status, body = 0, b""
        while not isinstance(event := self._h11.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return status, body


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_requests_arrive_whole_whatever_the_pieces(nursery: trio.Nursery, size: int) -> None:
    client = Client(nursery)
    for start in range(0, len(POST), size):
        await client.stream.send_all(POST[start : start + size])
    assert await client.answer() == (200, b"POST hello")


async def test_a_connection_serves_many_requests_even_pipelined_ones(nursery: trio.Nursery) -> None:
    client = Client(nursery)
    await client.stream.send_all(POST * 3)
    for _ in range(3):
        assert await client.answer() == (200, b"POST hello")


async def test_a_client_that_waits_for_continue_gets_it(nursery: trio.Nursery) -> None:
    """curl asks for it when a body is large."""
    client = Client(nursery)
    await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 100")
    await client.stream.send_all(b"ok")
    assert await client.answer() == (200, b"POST ok")


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\0\x01\0", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 70_000]
)
async def test_what_is_not_http_gets_a_400_and_the_end(nursery: trio.Nursery, junk: bytes) -> None:
    client = Client(nursery)
    await client.stream.send_all(junk)
    status, _ = await client.answer()
    assert status == 400
    assert await client.stream.receive_some() == b""


async def test_a_body_over_the_limit_is_a_413(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_LIMIT", 4)
    client = Client(nursery)
    await client.stream.send_all(POST)
    assert (await client.answer())[0] == 413


async def test_a_silent_connection_is_closed(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    client = Client(nursery)
    assert await client.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(http.HEAD_TIMEOUT_S, abs=1)


async def test_a_client_that_leaves_cancels_its_request(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    cancelled = trio.Event()

    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def handler(connection: Connection, request: Request) -> None:
        await connection.while_connected(work)

    client = Client(nursery, handler)
    await client.stream.send_all(POST)
    await trio.testing.wait_all_tasks_blocked()
    await client.stream.aclose()
    with trio.fail_after(1):
        await cancelled.wait()


async def test_an_answer_may_be_begun_while_the_client_is_watched(nursery: trio.Nursery) -> None:
    async def handler(connection: Connection, request: Request) -> None:
        async def work() -> None:
            await connection.begin(200, {})
            assert connection.begun
            for piece in (b"a", b"", b"b"):
                await connection.send(piece)
            await connection.finish()

        await connection.while_connected(work)

    client = Client(nursery, handler)
    await client.stream.send_all(POST * 2)
    assert [await client.answer(), await client.answer()] == [(200, b"ab")] * 2


async def test_a_handlers_broken_promise_ends_the_connection_without_a_polite_end(nursery: trio.Nursery) -> None:
    """A client that sees a clean end takes half an answer for a whole one."""

    async def handler(connection: Connection, request: Request) -> None:
        await connection.begin(200, {})
        await connection.send(b"half")
        raise Disconnected

    client = Client(nursery, handler)
    await client.stream.send_all(POST)
    with pytest.raises(h11.RemoteProtocolError, match="incomplete"):
        await client.answer()


async def test_an_error_of_the_handler_is_answered(nursery: trio.Nursery) -> None:
    async def handler(connection: Connection, request: Request) -> None:
        raise InvalidRequest("no")

    client = Client(nursery, handler)
    await client.stream.send_all(POST)
    assert await client.answer() == (400, b"no")


async def test_a_client_lost_inside_a_nursery_of_the_handler_ends_its_connection_alone(nursery: trio.Nursery) -> None:
    """trio wraps what leaves a nursery in a group; unwrapped too late it would end the whole process."""

    async def handler(connection: Connection, request: Request) -> None:
        async def work() -> None:
            async with trio.open_nursery():
                raise Disconnected

        await connection.while_connected(work)

    client = Client(nursery, handler)
    await client.stream.send_all(POST)
    assert await client.stream.receive_some() == b""
