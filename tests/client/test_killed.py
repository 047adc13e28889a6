"""The real Claude Code while its sidecar is killed under it: a right answer and exit 0, whenever the kill comes."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import machine
from tests.conftest import FULL
from tests.support.home import LIMIT, Home
from tests.support.waiting import wait_until

WORDS = "river stone lamp, blue garden, green apples on a table and a quiet window over the old town"
"""Long enough to be cut in the middle."""

ROUNDS = 50 if FULL else 1


@pytest.fixture
def home(claude: Path) -> Iterator[Home]:
    """On a machine of its own: what is killed is the command's own sidecar."""
    with machine(grace=600, CLAUDE_LOCAL_PROFILE="bare") as place:
        home = Home("home", place, claude)
        yield home
        home.close()


def status(home: Home) -> dict[str, Any]:
    """Asked without a process for it, since the moment counts; nothing where nobody listens yet."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT)
        try:
            connection.connect(str(home.machine.run / "socket"))
            connection.sendall(b"GET /control/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            table: dict[str, Any] = json.loads(connection.makefile("rb").read().partition(b"\r\n\r\n")[2])
        except (OSError, ValueError):
            return {}
    return table


def kill_sidecar(home: Home) -> None:
    os.kill(status(home)["pid"], signal.SIGKILL)


def is_asked(home: Home) -> bool:
    return bool(status(home).get("requests", {}).get("running"))


@pytest.mark.parametrize("moment", [pytest.param("before the first byte", marks=pytest.mark.full), "in the middle"])
def test_a_sidecar_that_is_killed_costs_a_pause(home: Home, moment: str) -> None:
    for _ in range(ROUNDS):
        form = ["--output-format", "stream-json", "--verbose", "--include-partial-messages"]
        process = home.start("claude", "--tools", "", *form, "--print", f"say {WORDS}")
        assert process.stdin and process.stdout and process.stderr
        process.stdin.close()
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        said: list[bytes] = []
        if moment == "in the middle":
            while b"text_delta" not in (said or [b""])[-1]:
                said.append(process.stdout.readline())
                assert said[-1], process.stderr.read()
        else:
            wait_until(lambda: is_asked(home), LIMIT)
        kill_sidecar(home)
        said += process.stdout.read().splitlines()
        assert process.wait(LIMIT) == 0, process.stderr.read()
        limit.cancel()
        events = [json.loads(line) for line in said]
        assert (events[-1]["type"], events[-1]["is_error"], events[-1]["result"]) == ("result", False, WORDS)
