"""Everything is stopped for a while, as by `docker pause`, and goes on: nobody takes the pause for a hang.

The longest step is 3 s instead of half a minute in the short form; the long one stops everything for a minute.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import FULL
from tests.support import attacher, census, changed_sidecar, fake_sidecar
from tests.support.place import Place, Session
from tests.support.processes import find_relay
from tests.support.real_place import RealPlace
from tests.support.waiting import wait_until

Figure = Callable[[str], None]

SHORT = {"supervisor.process.STEP_S": 3.0}
PAUSE_S = 60.0 if FULL else 5.0
TOKENS = 5_000 if FULL else 1_500


def send(signal_: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal_)


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """How long is the test's input."""
    send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        send(signal.SIGCONT, pids)


@pytest.fixture
def place(tmp_path: Path, tiny: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path)
    changes = {} if FULL else {f"sidecar.{name}": value for name, value in SHORT.items()}
    place.environment |= {
        "CLAUDE_LOCAL_MODEL": str(tiny),
        "CLAUDE_LOCAL_TEST_CHANGES": json.dumps(changes),
        "CLAUDE_LOCAL_TEST_SIDECAR": f"{sys.executable} -I {changed_sidecar.__file__}",
    }
    yield place
    place.clean()


class Stream(threading.Thread):
    """A client that reads a stream to its end."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        body = {"model": "claude-any", "max_tokens": TOKENS, "temperature": 0, "stream": True}
        text = json.dumps(body | {"messages": [{"role": "user", "content": "hi"}]}).encode()
        self._connection = session.connect()
        self._connection.settimeout(600)
        head = session.head("/v1/messages", "POST", content_length=len(text), connection="close")
        self._connection.sendall(head + text)
        self.data = b""
        self.start()

    def run(self) -> None:
        with self._connection, contextlib.suppress(OSError):  # a reset shows in what is missing
            while piece := self._connection.recv(1 << 16):
                self.data += piece


def both(place: RealPlace) -> list[int]:
    """Sidecar and engine."""
    status = census.status(place.run)
    assert status is not None
    return [status["pid"], status["engine"]["pid"]]


def test_a_stream_goes_on_after_everything_was_stopped(place: RealPlace, figure: Figure) -> None:
    session = Session(place)
    goes_on(place, session, lambda relay, sidecar, engine: [relay, sidecar, engine])
    figure(f"stopped for {PAUSE_S:.0f} s in a stream of {TOKENS} tokens: it went on, same sidecar, same engine")
    session.end()


@pytest.mark.full
@pytest.mark.parametrize("who", ["relay", "sidecar"])
def test_a_stream_goes_on_after_one_of_them_was_stopped(place: RealPlace, who: str) -> None:
    """An engine that stands still alone is another matter: it is taken for hung, and replaced."""
    session = Session(place)
    goes_on(place, session, lambda relay, sidecar, engine: [relay] if who == "relay" else [sidecar])
    session.end()


def goes_on(place: RealPlace, session: Session, chosen: Callable[[int, int, int], list[int]]) -> None:
    wait_until(lambda: (census.status(place.run) or {"model": {}})["model"].get("state") == "ready", 120)
    before = both(place)
    pids = chosen(find_relay(session.port), *before)
    stream = Stream(session)
    wait_until(lambda: b"text_delta" in stream.data, 120)
    with stopped(pids):
        read = len(stream.data)
        time.sleep(PAUSE_S)
    stream.join()
    assert len(stream.data) > read, "the answer was over before the pause"
    assert b"message_stop" in stream.data and b"event: error" not in stream.data
    assert both(place) == before


@pytest.mark.full
def test_a_terminal_that_waits_for_its_sidecar_has_all_its_time_after_a_pause(tmp_path: Path) -> None:
    """Stopped for longer than it would have waited, with the sidecar that it was starting."""
    place = Place(tmp_path)
    slow = shlex.join(["sh", "-c", 'sleep 1; exec "$0" "$@"'])
    place.environment["CLAUDE_LOCAL_TEST_SIDECAR"] = f"/usr/bin/env {slow} {sys.executable} -IS {fake_sidecar.__file__}"
    command = [sys.executable, "-IS", attacher.__file__, str(place.run), str(tmp_path / "logs"), "4"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    try:
        with subprocess.Popen(command, env=place.environment, text=True, **pipes) as waiting:  # type: ignore[call-overload]
            assert waiting.stdin and waiting.stdout and waiting.stdout.readline() == "here\n"
            waiting.stdin.close()
            family = psutil.Process(waiting.pid)
            wait_until(lambda: family.children(recursive=True))
            with stopped([waiting.pid, *(child.pid for child in family.children(recursive=True))]):
                time.sleep(6)
            assert waiting.stdout.readline().startswith("granted")
            waiting.terminate()
    finally:
        place.clean()
