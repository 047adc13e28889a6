"""Whatever one terminal sends, the others' streams go on, their requests are answered, and the engine stays."""

import http.client
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.client.api import Terminal
from tests.client.burdens import LONG, MESSAGES, SHORT, Burden
from tests.support.home import Home
from tests.support.place import Session
from tests.support.waiting import wait_until

FULL = bool(os.environ.get("CLAUDE_LOCAL_TEST_FULL"))
PATIENCE_S = 540
"""For one burden: it may take as long as it likes, as long as it delays only itself."""
GAP_S, WAIT_S = (1.0, 2.0) if FULL else (4.0, 8.0)
"""What is promised on two cores; the short form shares them with the other tiers."""


class Neighbour:
    """Another terminal. It writes one long answer after another, and asks something short again and again."""

    def __init__(self, terminal: Terminal) -> None:
        self.home = Home("neighbour", terminal.machine)
        self._model = terminal.model
        self.session = Session(self.home)  # type: ignore[arg-type]  # it needs no more of a place than `start`
        self.gaps: list[float] = []
        self.waits: list[float] = []
        self.failures: list[str] = []
        self._over = threading.Event()
        self._begun = threading.Barrier(3)
        self._threads = [threading.Thread(target=act) for act in (self._write, self._ask)]
        for thread in self._threads:
            thread.start()
        self._begun.wait(120)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self.home.close()

    def forget(self) -> None:
        self.gaps, self.waits = [], []

    def _write(self) -> None:
        body = {"stream": True, "max_tokens": 4000, "tool_choice": {"type": "any"}}
        schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 8000}}, "required": ["text"]}
        body["tools"] = [{"name": "write", "input_schema": schema}]
        first = True
        while not self._over.is_set():
            with self._asked(body) as answer:
                last = 0.0
                while (piece := answer.read1(1 << 16)) and not self._over.is_set():
                    now = time.monotonic()
                    if b"input_json_delta" in piece:  # between one answer and the next it does not write
                        if last:
                            self.gaps.append(now - last)
                        last = now
                    if first and last:
                        self._begun.wait(60)
                        first = False

    def _ask(self) -> None:
        first = True
        while not self._over.is_set():
            began = time.monotonic()
            with self._asked({"max_tokens": 2}) as answer:
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {answer.read()!r}")
                answer.read()
            self.waits.append(time.monotonic() - began)
            if first:
                self._begun.wait(60)
                first = False
            self._over.wait(0.05)

    @contextmanager
    def _asked(self, fields: dict[str, object]) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.session.port, timeout=60)
        body = {"model": self._model, "messages": [{"role": "user", "content": "hello"}], **fields}
        try:
            connection.request("POST", MESSAGES, json.dumps(body), {"authorization": f"Bearer {self.session.token}"})
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            self._over.wait(0.5)
        finally:
            connection.close()


@pytest.fixture(scope="module")
def neighbour(demo: Terminal) -> Iterator[Neighbour]:
    neighbour = Neighbour(demo)
    yield neighbour
    neighbour.end()


def sent(terminal: Terminal, path: str, body: bytes) -> int:
    """The status that comes of it."""
    connection = http.client.HTTPConnection("127.0.0.1", terminal.session.port, timeout=PATIENCE_S)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # a body that is too large is not read to its end
            connection.request("POST", path, body, {"authorization": f"Bearer {terminal.session.token}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


@pytest.mark.parametrize("burden", LONG if FULL else SHORT, ids=str)
def test_a_burden_delays_only_itself(
    demo: Terminal, neighbour: Neighbour, burden: Burden, figure: Callable[[str], None]
) -> None:
    engine = demo.status()["engine"]["pid"]
    body = burden.body(demo.model)  # the neighbour's clock is in this process, too
    for last in (False, True):  # once more where something else on this machine was in the way
        neighbour.forget()
        began = time.monotonic()
        status = sent(demo, burden.path, body)
        seconds = time.monotonic() - began
        gap, wait = max(neighbour.gaps, default=0.0), max(neighbour.waits, default=0.0)
        figure(
            f"status {status} after {seconds:.1f} s; a stream's longest gap {gap:.2f} s, a longest wait {wait:.2f} s"
        )
        if last or (gap < GAP_S and wait < WAIT_S):
            break
    assert status in burden.statuses
    assert not neighbour.failures
    assert demo.status()["engine"]["pid"] == engine, "it is the same engine"
    assert gap < GAP_S and wait < WAIT_S


def test_a_count_whose_client_has_gone_is_given_up(demo: Terminal) -> None:
    """Nobody else would get a thread for as long as it takes."""
    burden = next(each for each in LONG if each.name == "a count of 10 MB")
    connection = http.client.HTTPConnection("127.0.0.1", demo.session.port)
    connection.request("POST", burden.path, burden.body(demo.model), {"authorization": f"Bearer {demo.session.token}"})
    wait_until(lambda: demo.status()["requests"]["waiting"] > 0, 60)
    connection.close()
    wait_until(lambda: demo.status()["requests"]["waiting"] == 0, 60)
