"""Delivery of one answer on the virtual clock: heads, pings, pieces, and errors at every moment."""

import itertools
import json
from typing import Any

import h11
import pytest
import trio
import trio.testing

from sidecar.answer import HOLD_S, PING_S, Answer
from sidecar.anthropic.reply import Reply
from sidecar.errors import RequestError, Unavailable
from sidecar.frames import Finished, FromEngine, Started, TextDelta
from sidecar.http import Connection

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
        self._answer = Answer(self.connection, Reply("msg_1", "demo", lambda: "toolu_1"), "req_1", stream)
        self.failure: RequestError | None = None
        self._began = trio.current_time()
        self.pieces: list[tuple[float, bytes]] = []
        """When each piece arrived, and what it was."""

    async def run(self) -> None:
        try:
            await self._answer.deliver(self._events)
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


async def test_a_whole_answer_waits_for_the_end(autojump_clock: Clock) -> None:
    delivery = await deliver([(0, STARTED), (300, TextDelta(1, "a")), (301, END)], stream=False)
    body = json.loads(b"".join(data for _, data in delivery.pieces).partition(b"\r\n\r\n")[2])
    assert body["content"] == [{"type": "text", "text": "a"}]
    assert delivery.pieces[0][0] == pytest.approx(301)
