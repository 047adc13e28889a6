"""claude-local serve: what somebody sees who watches, with the real sidecar and the demo model."""

import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shim.commands.serve import line
from tests.support.processes import free_port, is_running
from tests.support.real_place import RealPlace
from tests.support.waiting import wait_until


class Served:
    """`claude-local serve` in a place of its own."""

    def __init__(self, place: RealPlace) -> None:
        self.place = place
        self.port = free_port()
        self.process = place.start("serve", "--port", str(self.port))
        self.head = [self.line() for _ in range(4)]
        self.token_file = Path(re.findall(r"The token is in (\S+)\.", self.head[1])[0])

    def line(self) -> str:
        assert self.process.stdout is not None
        text: str = self.process.stdout.readline().decode().rstrip()
        return text

    def ask(self, path: str, body: object = None, token: str | None = None) -> int:
        headers = {"x-api-key": token or self.token_file.read_text().strip()}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()  # one that takes long has its head early
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    place = RealPlace(tmp_path)
    yield Served(place)
    place.clean()


def message(words: str) -> dict[str, object]:
    return {"model": "claude-any", "max_tokens": 30, "messages": [{"role": "user", "content": words}]}


def test_each_request_is_a_line(served: Served) -> None:
    assert served.head[0].startswith(f"demo at http://127.0.0.1:{served.port}, context ")
    assert f"ANTHROPIC_BASE_URL=http://127.0.0.1:{served.port} " in served.head[2]
    assert served.ask("/v1/messages", message("Hello"), token="cl-wrong") == 401
    assert re.search(r"POST /v1/messages  401  .*token", served.line())
    assert served.ask("/v1/messages", message("Hello in 5 words")) == 200
    first = served.line()
    assert re.search(
        r"\d\d:\d\d:\d\d  POST /v1/messages  200  demo  10 read  0 cached  8 written  [\d,]+ tokens/s  [\d.]+ s$", first
    )
    assert served.ask("/v1/messages", message("Hello in 5 words")) == 200
    assert "1 read  9 cached  8 written" in served.line()
    assert served.ask("/v1/messages/count_tokens?beta=true", {**message("Hello"), "max_tokens": None}) == 200
    assert "POST /v1/messages/count_tokens  200" in served.line()
    assert served.ask("/v1/nothing") == 404
    assert "GET /v1/nothing  404" in served.line()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_end_leaves_nothing(served: Served, number: int) -> None:
    assert served.token_file.stat().st_mode & 0o777 == 0o600
    assert served.end(number) == 0
    assert not served.token_file.parent.exists()
    wait_until(lambda: not served.place.sidecars())


def test_the_token_stays_for_as_long_as_anybody_serves_with_it(served: Served) -> None:
    second = Served(served.place)
    assert second.token_file == served.token_file
    assert served.end(signal.SIGINT) == 0
    assert second.ask("/v1/messages", message("Hello in 5 words")) == 200
    assert second.end(signal.SIGKILL) == -signal.SIGKILL
    third = Served(served.place)  # its token is what the killed one has left
    assert third.ask("/v1/messages", message("Hello in 5 words")) == 200
    assert third.end(signal.SIGINT) == 0
    assert not third.token_file.parent.exists()


def test_it_goes_on_with_another_sidecar(served: Served) -> None:
    assert served.ask("/v1/messages", message("Hello in 5 words")) == 200
    served.line()
    (sidecar,) = served.place.sidecars()
    os.kill(sidecar, signal.SIGKILL)
    wait_until(lambda: not is_running(sidecar))
    assert served.ask("/v1/messages", message("Hello in 5 words")) == 200
    assert "POST /v1/messages  200" in served.line()
    assert not [each for each in psutil.Process(served.process.pid).children() if each.status() == psutil.STATUS_ZOMBIE]


def test_a_port_that_is_taken_is_said(served: Served) -> None:
    result = served.place.call("serve", "--port", str(served.port))
    assert result.returncode == 73
    assert (
        result.stderr == f"claude-local: port {served.port}: Address already in use. "
        "Another one: claude-local serve --port N\n"
    )


def test_a_model_that_cannot_be_had_is_said(served: Served) -> None:
    environment = {**served.place.environment, "CLAUDE_LOCAL_MODEL": "/nowhere"}
    result: subprocess.CompletedProcess[str] = served.place.call("serve", "--port", str(free_port()), env=environment)
    assert result.returncode == 66
    assert "/nowhere is not a model" in result.stderr


def test_what_a_stranger_writes_into_a_path_stays_in_its_line() -> None:
    shown = line({"method": "GET", "path": "/\x1b[2J\r\n\u202e", "status": 401}, "12:00:00").plain
    assert shown == "12:00:00  GET /?[2J???  401"
