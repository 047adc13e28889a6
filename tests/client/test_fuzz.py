"""Requests that nobody thought of, through the whole stack: never a 500, never a hang, and nothing is left behind.

1,200 bodies and 10,000 malformed requests with `bin/test --full`, some hundreds without.
"""

import os
import random
import socket
import time
from contextlib import suppress

import psutil
import pytest
from hypothesis import HealthCheck, given, settings

from tests.client.api import Terminal
from tests.client.wire import Wire, message
from tests.support.strategies import bodies, encoded, sdk_histories, spoil
from tests.support.waiting import wait_until

FULL = bool(os.environ.get("CLAUDE_LOCAL_TEST_FULL"))
BODIES = 600 if FULL else 40
HISTORIES = 300 if FULL else 15
REQUESTS = 10_000 if FULL else 500
LIMIT_S = 10.0
"""Seconds for the end of a connection whose client has said its last word; all but a few take milliseconds."""
PROMPT_S = 3.0
"""Seconds for a good request in between."""
GROWTH = 8 << 20
"""Bytes that a process may have grown by: allocators keep what the largest request took."""


@pytest.mark.parametrize("model", [pytest.param("demo", marks=pytest.mark.full), "noise"])
def test_no_body_makes_a_500_or_a_hang(request: pytest.FixtureRequest, model: str) -> None:
    terminal: Terminal = request.getfixturevalue(model)
    statuses: list[int] = []

    @settings(
        max_examples=BODIES,
        deadline=None,
        database=None,
        derandomize=not FULL,
        suppress_health_check=[*HealthCheck],
    )
    @given(bodies(terminal.model))
    def ask(body: dict[str, object]) -> None:
        sent = encoded(body)
        with Wire(terminal) as wire:
            wire.send(wire.head("/v1/messages", "POST", content_length=len(sent)) + sent)
            reply = wire.answer()
        assert reply.status in (200, 400, 404, 413), reply
        assert reply.status != 200 or body.get("stream") is not True or b"event: error" not in reply.body, reply
        statuses.append(reply.status)

    ask()
    assert statuses.count(200) > BODIES / 5
    good(terminal)


@pytest.mark.parametrize("model", ["demo", "noise"])
def test_no_history_that_the_official_types_allow_is_refused(request: pytest.FixtureRequest, model: str) -> None:
    """A client would send it again with every turn."""
    terminal: Terminal = request.getfixturevalue(model)
    terminal.whole({})  # it takes the model a moment to come

    @settings(
        max_examples=HISTORIES,
        deadline=None,
        database=None,
        derandomize=not FULL,
        suppress_health_check=[*HealthCheck],
    )
    @given(sdk_histories())
    def ask(messages: list[object]) -> None:
        sent = encoded({"model": terminal.model, "max_tokens": 2, "messages": messages})
        with Wire(terminal) as wire:
            wire.send(wire.head("/v1/messages", "POST", content_length=len(sent)) + sent)
            reply = wire.answer()
        assert reply.status == 200, reply

    ask()


def test_malformed_requests_leave_nothing_behind(demo: Terminal) -> None:
    dice = random.Random(7)
    for _ in range(100):  # what imports and buffers take once
        speak(demo, malformed(demo, dice), dice)
    relay, sidecar = processes(demo)
    before = [(process.memory_info().rss, process.num_fds()) for process in (relay, sidecar)]
    slowest = 0.0
    for number in range(REQUESTS):
        began = time.monotonic()
        said = speak(demo, malformed(demo, dice), dice)
        slowest = max(slowest, time.monotonic() - began)
        for status in statuses_of(said):
            assert 100 <= status < 500, said[:500]
        if number % 50 == 0:
            good(demo)
    grown = []
    for process, (rss, descriptors) in zip((relay, sidecar), before, strict=True):
        wait_until(lambda process=process, limit=descriptors: process.num_fds() <= limit, 10)
        grown.append(process.memory_info().rss - rss)
    print(f"{REQUESTS} malformed requests: slowest {slowest:.2f} s, relay and sidecar grew by {grown} bytes")
    assert max(grown) < GROWTH
    assert demo.running() == 0


def malformed(terminal: Terminal, dice: random.Random) -> bytes:
    session = terminal.session
    body = message(terminal, max_tokens=2, stream=dice.random() < 0.3)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    whole = dice.choice(
        [
            session.head("/v1/messages", "POST", content_length=len(body)) + body,
            session.head("/v1/messages", "POST", transfer_encoding="chunked") + chunk,
            session.head("/v1/messages", "POST", content_length=len(body) + dice.choice([-9, -1, 1, 9])) + body,
            session.head("/v1/messages", "POST", content_length=len(body), expect="100-continue") + body,
            session.head("/v1/nothing") + session.head("/health"),
            session.head("/health", dice.choice(["GET", "HEAD", "PUT", "TRACE", "CONNECT", "get"])),
            session.head("http://127.0.0.1:1/health", authorization=None),
            dice.randbytes(dice.randint(1, 2000)),
        ]
    )
    return spoil(whole, dice)


def speak(terminal: Terminal, data: bytes, dice: random.Random) -> bytes:
    """Say it, whole or in pieces, and nothing more; all that comes back until the end."""
    with terminal.session.connect() as connection:
        connection.settimeout(LIMIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        size = dice.choice([1, 100, len(data), len(data), len(data), len(data)])
        with suppress(ConnectionError):  # it may have heard enough
            for start in range(0, len(data), size):
                connection.sendall(data[start : start + size])
            if dice.random() < 0.2:
                return b""  # gone without waiting
            connection.shutdown(socket.SHUT_WR)
        said = b""
        with suppress(ConnectionError):
            while piece := connection.recv(1 << 16):
                said += piece
        return said


def statuses_of(said: bytes) -> list[int]:
    """The statuses of all answers; the bodies hold no line like theirs."""
    return [int(line.split(b" ")[1]) for line in said.split(b"\r\n") if b"HTTP/1.1 " in line[:9]]


def good(terminal: Terminal) -> None:
    """A request like any other is answered at once."""
    began = time.monotonic()
    with Wire(terminal) as wire:
        wire.send(wire.message(max_tokens=2))
        assert wire.answer().status == 200
    assert time.monotonic() - began < PROMPT_S


def processes(terminal: Terminal) -> tuple[psutil.Process, psutil.Process]:
    """The relay, which listens on the terminal's port, and the sidecar."""
    found = {}
    for process in terminal.machine.processes():
        words = " ".join(process.cmdline())
        if "sidecar.serve" in words:
            found["sidecar"] = process
        elif "shim/__main__.py" in words and process.status() != psutil.STATUS_ZOMBIE:
            found["relay"] = process
    return found["relay"], found["sidecar"]
