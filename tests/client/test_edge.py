"""HTTP as clients of all kinds speak it, byte by byte through the real relay and the real sidecar."""

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.api import Terminal
from tests.client.wire import LONG, Wire, message
from tests.conftest import FULL
from tests.support.waiting import wait_until

LIMIT_S = 3.0
"""Seconds for an answer that nothing should hold up, on two busy cores."""
GONE_S = 1.0 if FULL else LIMIT_S
"""Seconds until nothing is computed for a client that has left; other tests run beside the short form."""
BIG = 33 << 20
GIVEN_UP = r"req_[0-9a-f]{24} given up by its client after [0-9.]+ s, (?:before|in the middle of) its answer"
"""What the log says of a request whose client has left."""


@pytest.fixture
def wire(demo: Terminal) -> Iterator[Wire]:
    with Wire(demo) as wire:
        yield wire


def test_a_connection_serves_many_requests(wire: Wire) -> None:
    for number in range(1, 30):
        wire.send(wire.count("a " * number))
        assert wire.answer().status == 200
    wire.send(wire.head("/v1/nothing"))
    assert wire.answer().status == 404
    wire.send(wire.message())
    assert wire.answer().status == 200


def test_requests_sent_ahead_are_answered_in_order(wire: Wire) -> None:
    wire.send(b"".join(wire.count("a " * number) for number in (1, 200, 50)) + wire.head("/health"))
    counts = [wire.answer().json["input_tokens"] for _ in range(3)]
    assert counts[0] < counts[2] < counts[1]
    assert wire.answer().json["status"] == "healthy"


def test_a_request_sent_behind_a_stream_is_answered_after_it(wire: Wire) -> None:
    wire.send(wire.message(stream=True) + wire.count("a"))
    streamed, counted = wire.answer(), wire.answer()
    assert streamed.body.endswith(b'data: {"type":"message_stop"}\n\n')
    assert counted.json["input_tokens"] > 0


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_body_may_come_in_chunks(wire: Wire, size: int) -> None:
    body = message(wire.terminal)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x;name=value\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    wire.send(wire.head("/v1/messages", "POST", transfer_encoding="chunked"))
    wire.send(chunks + b"0\r\nTrailer: yes\r\n\r\n")
    assert wire.answer().status == 200
    wire.send(wire.head("/health"))
    assert wire.answer().status == 200


def test_a_request_may_come_byte_by_byte(wire: Wire) -> None:
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in wire.message():
        wire.send(bytes([byte]))
    assert wire.answer().status == 200


def test_a_client_may_ask_before_it_sends_its_body(wire: Wire) -> None:
    body = message(wire.terminal)
    wire.send(wire.head("/v1/messages", "POST", content_length=len(body), expect="100-continue"))
    assert wire.socket.recv(4096).startswith(b"HTTP/1.1 100 ")
    wire.send(body)
    assert wire.answer().status == 200


def test_a_client_that_asks_with_too_much_is_told_before_it_sends(wire: Wire) -> None:
    wire.send(wire.head("/v1/messages", "POST", content_length=BIG, expect="100-continue"))
    assert wire.answer().kind == "request_too_large"


PROBES = [
    ("/", {}, 200),
    ("/", {"authorization": None}, 200),
    ("/health", {}, 200),
    ("/health", {"authorization": None}, 200),
    ("/v1/models", {}, 200),
    ("/api/hello", {}, 404),
    ("/v1/messages", {}, 405),
    ("/v1/models", {"authorization": None}, 401),
]


@pytest.mark.parametrize(("path", "headers", "status"), PROBES)
def test_a_probe_gets_a_head_alone(wire: Wire, path: str, headers: dict[str, Any], status: int) -> None:
    wire.send(wire.head(path, "HEAD", **headers))
    reply = wire.answer("HEAD")
    assert (reply.status, reply.body) == (status, b"")
    if "authorization" not in headers:
        wire.send(wire.head("/health"))
        assert wire.answer().json["status"] == "healthy"


def test_a_method_that_a_path_does_not_take_is_answered_with_those_it_takes(wire: Wire) -> None:
    wire.send(wire.head("/v1/messages", "DELETE") + wire.head("/health", "POST"))
    assert [(reply.status, reply.headers["allow"]) for reply in (wire.answer(), wire.answer())] == [
        (405, "POST"),
        (405, "GET"),
    ]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_target_may_be_a_whole_address(wire: Wire, name: str) -> None:
    """As clients write it when they take us for a proxy."""
    body = message(wire.terminal)
    target = f"http://{name}:{wire.terminal.session.port}/v1/messages?beta=true"
    for _ in range(2):
        wire.send(wire.head(target, "POST", content_length=len(body)) + body)
        assert wire.answer().status == 200


def test_the_sidecar_is_not_controlled_through_the_port_by_any_request(wire: Wire) -> None:
    address = f"http://127.0.0.1:{wire.terminal.session.port}"
    for path in ("/control/status", f"{address}/control/status"):
        with Wire(wire.terminal) as first:
            first.send(first.head(path))
            assert first.answer().kind == "not_found_error"
    wire.send(wire.head("/health") + b"".join(wire.head(path) for path in ("/control/status", address + "/control/x")))
    assert [wire.answer().status for _ in range(3)] == [200, 404, 404]


@pytest.mark.parametrize("token", [None, "Bearer wrong"])
def test_every_request_of_a_connection_needs_the_token(wire: Wire, token: str | None) -> None:
    """The relay looks at the first alone."""
    wire.send(wire.head("/v1/models"))
    assert wire.answer().status == 200
    wire.send(wire.head("/v1/models", authorization=token))
    assert wire.answer().kind == "authentication_error"


def test_the_token_is_in_no_log_and_no_argument_list(demo: Terminal) -> None:
    """Whatever has been asked, and however badly."""
    token = demo.session.token
    for line in (f"Authorization : Bearer {token}", f"x: {token}\x01", f"content-length: {token}"):
        with Wire(demo) as wire:
            wire.send(wire.head("/health"))
            assert wire.answer().status == 200
            wire.send(f"GET /v1/{token} HTTP/1.1\r\nhost: x\r\n{line}\r\n\r\n".encode())
            assert wire.answer().status in (400, 401, 404)
    assert token not in demo.machine.logged()
    for process in demo.machine.processes():
        assert not [word for word in process.cmdline() if token in word]


@pytest.mark.parametrize("before", [0, 1])
def test_a_head_that_is_too_long_is_a_431(wire: Wire, before: int) -> None:
    """At the relay as a connection's first, at the sidecar later."""
    for _ in range(before):
        wire.send(wire.head("/health"))
        assert wire.answer().status == 200
    wire.send(wire.head("/health", x_long="y" * 80_000))
    assert wire.answer().status == 431
    assert wire.is_closed()


def test_many_headers_are_read(wire: Wire) -> None:
    wire.send(wire.head("/health", **{f"x_header_{number}": "y" * 100 for number in range(400)}))
    assert wire.answer().status == 200


@pytest.mark.parametrize("before", [0, 1])
def test_more_headers_than_any_client_sends_are_a_431(wire: Wire, before: int) -> None:
    for _ in range(before):
        wire.send(wire.head("/health"))
        assert wire.answer().status == 200
    wire.send(wire.head("/health").removesuffix(b"\r\n") + b"a: b\r\n" * 5000 + b"\r\n")
    assert wire.answer().status == 431
    assert wire.is_closed()


@pytest.mark.parametrize("before", [0, 1])
def test_a_request_without_a_host_is_a_400(wire: Wire, before: int) -> None:
    for _ in range(before):
        wire.send(wire.head("/health"))
        assert wire.answer().status == 200
    wire.send(b"GET /health HTTP/1.1\r\n\r\n")
    reply = wire.answer()
    assert (reply.status, reply.kind) == (400, "invalid_request_error")


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("before", [0, 1])
def test_a_body_that_is_too_large_is_a_413_that_is_read(wire: Wire, framing: str, before: int) -> None:
    """By a client that sends all of it before it reads anything, as most do."""
    for _ in range(before):
        wire.send(wire.head("/health"))
        assert wire.answer().status == 200
    if framing == "length":
        wire.send(wire.head("/v1/messages", "POST", content_length=BIG) + b"x" * BIG)
    else:
        wire.send(wire.head("/v1/messages", "POST", transfer_encoding="chunked"))
        wire.send(b"%x\r\n%s\r\n0\r\n\r\n" % (BIG, b"x" * BIG))
    reply = wire.answer()
    assert (reply.status, reply.kind) == (413, "request_too_large")
    assert wire.is_closed()


def test_a_body_of_the_full_size_is_read(wire: Wire) -> None:
    wire.send(wire.message(hologram="x" * (31 << 20)))
    assert wire.answer().status == 200


MALFORMED = [
    {"content_length": "x"},
    {"content_length": "-1"},
    {"content_length": "1, 2"},
    {"content_length": 5, "transfer_encoding": "chunked"},
    {"transfer_encoding": "gzip"},
    {"transfer_encoding": "chunked, identity"},
    {"x(y": "z"},
]


@pytest.mark.parametrize("headers", MALFORMED, ids=str)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_after_it_is_read(
    wire: Wire, headers: dict[str, Any]
) -> None:
    wire.send(wire.head("/v1/messages", "POST", **headers) + b"0\r\n\r\n" + wire.head("/health"))
    reply = wire.answer()
    assert (reply.status, reply.kind) == (400, "invalid_request_error")
    assert wire.is_closed()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_the_old_kind_is_served(wire: Wire, stream: bool) -> None:
    body = message(wire.terminal, stream=stream)
    head = wire.head("/v1/messages", "POST", content_length=len(body)).replace(b"HTTP/1.1", b"HTTP/1.0")
    wire.send(head + body)
    said = b""
    while data := wire.socket.recv(65536):
        said += data
    head, _, body = said.partition(b"\r\n\r\n")
    assert b" 200 " in head and b"chunked" not in head.lower()
    assert b"message_stop" in body if stream else json.loads(body)["type"] == "message"


def test_an_offer_to_change_the_protocol_is_left_alone(wire: Wire) -> None:
    """As curl makes with --http2."""
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2_settings": "AAMAAABkAAQAAP__"}
    wire.send(wire.head("/health", **offer))
    assert wire.answer().status == 200


def test_a_client_that_asks_for_the_end_gets_it(wire: Wire) -> None:
    wire.send(wire.head("/health", connection="close"))
    assert wire.answer().headers["connection"] == "close"
    assert wire.is_closed()


def test_slow_senders_hold_up_nobody(demo: Terminal) -> None:
    slow = [Wire(demo) for _ in range(40)]
    for number, wire in enumerate(slow):
        wire.send(wire.message()[: 30 + 7 * number])
    began = time.monotonic()
    with Wire(demo) as other:
        other.send(other.message())
        assert other.answer().status == 200
    assert time.monotonic() - began < LIMIT_S
    for number, wire in enumerate(slow):
        wire.send(wire.message()[30 + 7 * number :])
    assert all(wire.answer().status == 200 for wire in slow)
    for wire in slow:
        wire.socket.close()


def test_connections_that_are_kept_lock_nobody_out(demo: Terminal) -> None:
    """A script that asks a hundred things in parallel keeps a hundred connections."""
    kept = [Wire(demo) for _ in range(100)]
    for wire in kept:
        wire.send(wire.head("/health"))
    assert all(wire.answer().status == 200 for wire in kept)
    began = time.monotonic()
    with Wire(demo) as other:
        other.send(other.head("/health"))
        assert other.answer().status == 200
    assert time.monotonic() - began < LIMIT_S
    for wire in kept:
        wire.socket.close()


def test_the_bytes_of_a_stream_are_whole_characters_and_whole_events(noise: Terminal) -> None:
    """Noise writes characters in every script, some of several tokens each."""
    with Wire(noise) as wire:
        wire.send(wire.message(stream=True, max_tokens=150))
        reply = wire.answer()
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = [read(event) for chunk in reply.chunks for event in chunk.decode("utf-8").strip().split("\n\n")]
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert events[-1] == {"type": "message_stop"}


def read(event: str) -> dict[str, Any]:
    name, data = event.split("\n")
    content: dict[str, Any] = json.loads(data.removeprefix("data: "))
    assert name == f"event: {content['type']}"
    return content


def test_a_stream_begins_before_its_answer_is_written(noise: Terminal) -> None:
    noise.whole({**LONG, "max_tokens": 1})  # its grammar is made once
    with Wire(noise) as wire:
        wire.send(wire.message(stream=True, **LONG))
        began, said = time.monotonic(), b""
        while b"message_start" not in said:
            said += wire.socket.recv(65536)
        assert time.monotonic() - began < LIMIT_S
        assert b"message_stop" not in said


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_ends_its_answer_at_once(noise: Terminal, stream: bool) -> None:
    before = len(re.findall(GIVEN_UP, noise.machine.logged()))
    with Wire(noise) as wire:
        wire.send(wire.message(stream=stream, **LONG))
        wait_until(lambda: noise.running() == 1)
    wait_until(lambda: noise.running() == 0, GONE_S)
    wait_until(lambda: len(re.findall(GIVEN_UP, noise.machine.logged())) > before)  # an earlier test's may come late
