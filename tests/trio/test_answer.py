"""Delivery of one answer on the virtual clock: heads, pings, pieces, and errors at every moment."""

import itertools
import json
from typing import Any

import h11
import pytest
import trio
import trio.testing

from sidecar.anthropic.reply import Reply
from sidecar.errors import InvalidRequest, RequestError, Unavailable
from sidecar.frames import Finished, FromEngine, Started, TextDelta
from sidecar.http.connection import Connection
from sidecar.requests.response import HOLD_S, PING_S, Answer

Clock = trio.testing.MockClock
STARTED, END = Started(1, 10, 4), Finished(1, "end", 10, 4, 2)


class Delivery:
    """An answer being delivered to a client that reads all of it."""

    def __init__(self, stream: bool) -> None:
        self.client, theirs = trio.testing.memory_stream_pair()
        self.connection = Connection(theirs)
        # The answer belongs to a request; h11 insists.
        self.connection._h11.receive_data(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        while not isinstance(self.connection._h11.next_event(), h11.EndOfMessage):
            pass
        self.feed, self._events = trio.open_memory_channel[FromEngine | RequestError](100)
        self.answer = Answer(self.connection, Reply("msg_1", "demo", lambda: "toolu_1"), "req_1", stream)
        self.failure: RequestError | None = None
        self._began = trio.current_time()
        self.pieces: list[tuple[float, bytes]] = []
        """When each piece arrived, and what it was."""

    async def run(self) -> None:
        try:
            await self.answer.deliver(self._events)
        except RequestError as error:
            self.failure = error
        await self.connection._stream.aclose()

    async def read(self) -> None:
        async for data in self.client:
            self.pieces.append((trio.current_time() - self._began, bytes(data)))

    @property
    def types(self) -> list[str]:
        text = b"".join(data for _, data in self.pieces).decode()
        return [
            json.loads(line[6:])["type"]
            for line in text.split("\r\n")
            for line in line.split("\n")
            if line[:6] == "data: "
        ]


async def deliver(script: list[tuple[float, Any]], stream: bool = True) -> Delivery:
    """Send each event at its second; returns when the answer is over."""
    delivery, began = Delivery(stream), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(delivery.run)
        nursery.start_soon(delivery.read)
        for at, event in script:
            await trio.sleep_until(began + at)
            delivery.feed.send_nowait(event)
    return delivery


async def test_the_head_goes_out_as_soon_as_the_prompt_is_accepted(autojump_clock: Clock) -> None:
    delivery = await deliver([(1, STARTED), (2, TextDelta(1, "a")), (3, END)])
    assert delivery.pieces[0][0] == pytest.approx(1)
    assert delivery.types[:3] == ["message_start", "ping", "content_block_start"]


async def test_pings_go_out_while_a_prompt_is_read(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), (60, TextDelta(1, "a")), (61, END)])
    times = [at for at, _ in delivery.pieces if at < 60]
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= PING_S + 0.01
    assert delivery.types.count("ping") >= 60 / PING_S


async def test_a_model_that_loads_for_long_does_not_keep_the_client_in_silence(autojump_clock: Clock) -> None:
    delivery = await deliver([(40, STARTED), (41, END)])
    assert delivery.pieces[0][0] == pytest.approx(HOLD_S)
    assert delivery.types[0] == "message_start" and delivery.types[-1] == "message_stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_before_the_head_leaves_the_head_to_the_error(autojump_clock: Clock, stream: bool) -> None:
    delivery = await deliver([(5, Unavailable("no"))], stream)
    assert delivery.failure is not None and not delivery.connection.begun


async def test_an_error_in_the_middle_is_raised_with_the_answer_begun(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), (1, TextDelta(1, "a")), (2, Unavailable("gone"))])
    assert delivery.failure is not None and delivery.connection.begun
    assert "message_stop" not in delivery.types


async def test_what_is_ready_together_is_sent_together(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), *[(1, TextDelta(1, "a"))] * 20, (2, END)])
    assert len([at for at, _ in delivery.pieces if at == pytest.approx(1)]) < 10
    assert delivery.types.count("content_block_delta") == 20


def body_of(delivery: Delivery) -> tuple[bytes, bytes]:
    """Head and body of an answer, as a client reads them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    said = b"".join(data for _, data in delivery.pieces)
    client.receive_data(said)
    body = b""
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        assert event is not h11.NEED_DATA, "it is cut off"
        body += event.data if isinstance(event, h11.Data) else b""
    return said.partition(b"\r\n\r\n")[0], body


@pytest.mark.parametrize("words", [1, 5000])
async def test_a_whole_answer_that_takes_long_begins_with_blanks(autojump_clock: Clock, words: int) -> None:
    """Clients and proxies give a silent connection up, whether the prompt is still read or the answer is written."""
    pieces = [(1 + 298 * index / words, TextDelta(1, "a")) for index in range(words)]
    delivery = await deliver([(0, STARTED), *pieces, (301, END)], stream=False)
    times = [at for at, _ in delivery.pieces]
    assert times[0] == pytest.approx(HOLD_S)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= PING_S + 0.1
    head, body = body_of(delivery)
    assert head.startswith(b"HTTP/1.1 200 ") and b"content-type: application/json" in head and b"req_1" in head
    assert body.startswith(b"  ") and json.loads(body)["content"] == [{"type": "text", "text": "a" * words}]


async def test_a_whole_answer_that_comes_soon_has_a_length(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), (1, TextDelta(1, "a")), (HOLD_S - 1, END)], stream=False)
    head, body = body_of(delivery)
    assert b"content-length: %d" % len(body) in head and body.startswith(b"{")


async def test_a_whole_answer_is_begun_anew_behind_its_blanks(autojump_clock: Clock) -> None:
    """Another engine may take over for as long as nothing of an answer has been said."""
    script = [(0, STARTED), (1, TextDelta(1, "a")), (30, STARTED), (31, TextDelta(1, "b")), (32, END)]
    delivery = await deliver(script, stream=False)
    assert json.loads(body_of(delivery)[1])["content"] == [{"type": "text", "text": "b"}]
    assert not delivery.answer.shows(TextDelta(1, "a"))


async def test_an_error_behind_the_blanks_is_the_apis_own_in_the_body(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), (30, InvalidRequest("no"))], stream=False)
    assert delivery.failure is not None and delivery.connection.begun
    assert json.loads(delivery.answer.said({"type": "error"})) == {"type": "error"}


async def test_a_stream_says_how_its_letters_are_written(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), (1, END)])
    assert b"content-type: text/event-stream; charset=utf-8\r\n" in delivery.pieces[0][1]
