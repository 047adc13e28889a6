"""The HTTP edge on memory streams: whole requests, any pieces, keep-alive, limits, and clients that leave."""

from collections.abc import Awaitable, Callable

import h11
import pytest
import trio
import trio.testing

from sidecar.errors import InvalidRequest, RequestError
from sidecar.http import connection as http
from sidecar.http.connection import Connection, Disconnected, Request, serve_connection

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

    async def rest(self) -> bytes:
        """All bytes until the server's end."""
        return b"".join([bytes(data) async for data in self.stream])

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


JUNK = [
    (b"\x16\x03\x01\x02\0\x01\0", 400),
    (b"GET\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"x" * 70_000, 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70_000, 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 65_600 + b"\r\n\r\n", 431),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
]


@pytest.mark.parametrize(("junk", "expected"), JUNK)
async def test_what_is_not_http_gets_an_error_and_the_end(nursery: trio.Nursery, junk: bytes, expected: int) -> None:
    client = Client(nursery)
    await client.stream.send_all(junk)
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 %d " % expected)
    assert b"\r\nconnection: close\r\n" in said.lower()


async def test_what_is_wrong_with_a_head_is_said_without_quoting_it(nursery: trio.Nursery) -> None:
    """The line may hold a token, and what is said is logged."""
    client = Client(nursery)
    await client.stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer secret\r\n\r\n")
    said = await client.rest()
    assert b"illegal header line" in said and b"secret" not in said


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
async def test_a_body_over_the_limit_is_a_413(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, framing: bytes
) -> None:
    monkeypatch.setattr(http, "BODY_LIMIT", 4)
    client = Client(nursery)
    await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n")
    if b"chunked" in framing:
        await client.stream.send_all(b"5\r\nhello\r\n")
    said = await client.rest()
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in said.lower()


async def test_a_client_that_asks_before_it_sends_too_much_is_told_at_once(nursery: trio.Nursery) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    client = Client(nursery)
    await client.stream.send_all(head)
    assert (await client.rest()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "begun", [b"P", POST[:20], b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell", POST + b"P"]
)
async def test_a_request_that_does_not_arrive_is_a_408(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, begun: bytes
) -> None:
    client = Client(nursery)
    await client.stream.send_all(begun)
    said = await client.rest()
    assert b"HTTP/1.1 408 " in said
    assert trio.current_time() == pytest.approx(http.ARRIVAL_S, abs=1)
    assert http.ARRIVAL_S < 50, "some clients' own patience"


async def test_a_slow_request_is_answered(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    client = Client(nursery)
    for byte in POST:
        await client.stream.send_all(bytes([byte]))
        await trio.sleep(0.5 * http.ARRIVAL_S / len(POST))
    assert await client.answer() == (200, b"POST hello")


async def test_an_answer_to_head_has_no_body_and_keeps_the_connection(nursery: trio.Nursery) -> None:
    client = Client(nursery)
    await client.stream.send_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + POST)
    assert await client.answer("HEAD") == (200, b"")
    assert await client.answer() == (200, b"POST hello")


@pytest.mark.parametrize(
    "target", ["/v1/messages?beta=true", "http://127.0.0.1:1/v1/messages", "HTTPS://host/v1/messages?a=http://b/"]
)
async def test_a_target_may_name_the_host(nursery: trio.Nursery, target: str) -> None:
    async def handler(connection: Connection, request: Request) -> None:
        await connection.respond(200, {}, request.path.encode())

    client = Client(nursery, handler)
    await client.stream.send_all(POST.replace(b"/v1/messages?beta=true", target.encode()))
    assert await client.answer() == (200, b"/v1/messages")


async def test_the_first_request_of_a_connection_is_known(nursery: trio.Nursery) -> None:
    async def handler(connection: Connection, request: Request) -> None:
        await connection.respond(200, {}, str(request.first).encode())

    client = Client(nursery, handler)
    await client.stream.send_all(POST * 3)
    assert [(await client.answer())[1] for _ in range(3)] == [b"True", b"False", b"False"]


async def test_a_client_that_sends_too_much_ahead_is_cut_off(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fill the memory while its first answer is written."""
    monkeypatch.setattr(http, "BODY_LIMIT", 100_000)

    async def handler(connection: Connection, request: Request) -> None:
        await connection.while_connected(trio.sleep_forever)

    client = Client(nursery, handler)
    await client.stream.send_all(POST)
    with pytest.raises(trio.BrokenResourceError):
        for _ in range(100):
            await client.stream.send_all(bytes(10_000))
            await trio.testing.wait_all_tasks_blocked()


async def test_a_silent_connection_is_closed(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    client = Client(nursery)
    assert await client.stream.receive_some() == b""
    assert trio.current_time() == pytest.approx(http.IDLE_S, abs=1)


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


async def test_a_client_that_leaves_with_its_whole_answer_has_given_nothing_up(nursery: trio.Nursery) -> None:
    tidied, left = trio.Event(), trio.Event()

    async def handler(connection: Connection, request: Request) -> None:
        async def work() -> None:
            await connection.respond(200, {}, b"all")
            await left.wait()
            await trio.testing.wait_all_tasks_blocked()

        await connection.while_connected(work)  # raises Disconnected where that counts as giving up
        tidied.set()

    client = Client(nursery, handler)
    await client.stream.send_all(POST)
    assert await client.answer() == (200, b"all")
    await client.stream.aclose()
    left.set()
    with trio.fail_after(1):
        await tidied.wait()


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


class Halves:
    """The other end of a served connection, which sees whether it was ended in order: the sending side first."""

    def __init__(self, nursery: trio.Nursery, handler: Handler) -> None:
        self.stream, theirs = trio.testing.memory_stream_pair()
        self.in_order = False
        send_eof = theirs.send_eof

        async def seen() -> None:
            self.in_order = True
            await send_eof()

        theirs.send_eof = seen  # type: ignore[method-assign]
        nursery.start_soon(serve_connection, theirs, handler, fail)


async def begun(connection: Connection, request: Request) -> None:
    await connection.begin(200, {})
    await connection.send(b"half")


async def broken(connection: Connection, request: Request) -> None:
    await begun(connection, request)
    raise Disconnected


async def stuck(connection: Connection, request: Request) -> None:
    await begun(connection, request)
    await trio.sleep_forever()


async def silent(connection: Connection, request: Request) -> None:
    await trio.sleep_forever()


LAST = POST.replace(b"Host: x", b"Host: x\r\nConnection: close")
ENDS = [(echo, POST, True), (echo, LAST, True), (broken, POST, False), (stuck, POST, False), (silent, POST, False)]


@pytest.mark.parametrize(("handler", "asked", "in_order"), ENDS)
async def test_only_an_answer_that_is_whole_is_ended_in_order(handler: Handler, asked: bytes, in_order: bool) -> None:
    """A relay resets its client's connection otherwise. Here the sidecar leaves while the connection is open."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            client = Halves(nursery, handler)
            await client.stream.send_all(asked)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert client.in_order is in_order


async def test_a_connection_that_is_ended_is_read_for_a_while_and_no_longer(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    client = Client(nursery)
    await client.stream.send_all(LAST)
    await client.rest()
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await client.stream.send_all(b"more")
            await trio.sleep(0.1)
    assert trio.current_time() - began == pytest.approx(http.FAREWELL_S, abs=0.2)
