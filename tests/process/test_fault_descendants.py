"""What a command leaves behind: its port stays for whoever inherited it, and only requests count as use."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import census
from tests.support.place import Session
from tests.support.real_place import RealPlace, persistent_ask
from tests.support.waiting import wait_until

SAY = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"; '


@pytest.fixture
def light(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, light=True, grace=2)
    yield place
    place.clean()


def strengths(place: RealPlace) -> list[bool]:
    status = census.status(place.run)
    return [lease["strong"] for lease in status["leases"]] if status else []


def test_tmux_started_inside_keeps_the_port_and_not_the_model(light: RealPlace) -> None:
    door = f"/tmp/{light.run.name}-tmux"
    tmux = ["tmux", "-f", "/dev/null", "-S", door]
    session = Session(light, f"{SAY} {shlex.join([*tmux, 'new', '-d', 'exec cat'])}; exit 4")
    try:
        assert session.process.wait(20) == 4
        (relay,) = census.holders_of(session.port)
        wait_until(lambda: strengths(light) == [False])
        persistent_ask(session)
        (first,) = light.sidecars()
        wait_until(lambda: not light.sidecars())  # nobody asked for a grace period
        assert census.holders_of(session.port) == [relay]
        persistent_ask(session)  # somebody does in the tmux that was left, much later
        assert light.sidecars() != [first]
    finally:
        subprocess.run([*tmux, "kill-server"], check=True)
        Path(door).unlink(missing_ok=True)
    wait_until(lambda: not census.words(relay))
    light.finish()


ASK = """
import json, os, sys, time, urllib.request
body = json.dumps({"model": "claude-any", "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}).encode()
headers = {"authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"], "content-type": "application/json"}
for _ in range(8):
    request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body, headers)
    urllib.request.urlopen(request).read()
    time.sleep(0.6)
open(sys.argv[1], "w").write("all answered")
"""


def test_a_background_job_that_still_asks_keeps_the_sidecar(light: RealPlace) -> None:
    """For five seconds with a grace period of four, after the command is gone."""
    light.environment["CLAUDE_LOCAL_GRACE"] = "4"
    result = light.folder / "result"
    job = shlex.join([sys.executable, "-IS", "-c", ASK, str(result)])
    session = Session(light, f"{SAY} {job} </dev/null >/dev/null 2>&1 & exit 5")
    assert session.process.wait(20) == 5
    wait_until(result.exists)
    log = (light.folder / "logs" / "sidecar.log").read_text()
    assert log.count("serves at") == 1
    light.call("stop")
    light.finish()


def test_a_child_that_outlives_its_parent_and_asks_nothing_holds_no_model(light: RealPlace) -> None:
    session = Session(light, f"{SAY} sleep 600 </dev/null >/dev/null 2>&1 & echo $!; exit 6")
    assert session.process.wait(20) == 6
    child = int(session.process.stdout.readline())
    wait_until(lambda: not light.sidecars())
    assert census.holders_of(session.port)
    os.kill(child, signal.SIGKILL)
    light.finish()


CLOSE = "import os, time; os.closerange(0, 1024); time.sleep(600)"


def test_a_daemon_that_closes_everything_has_let_go(light: RealPlace) -> None:
    job = shlex.join([sys.executable, "-IS", "-c", CLOSE])
    session = Session(light, f"{SAY} setsid {job} </dev/null >/dev/null 2>&1 & echo $!; exit 0")
    assert session.process.wait(20) == 0
    child = int(session.process.stdout.readline())
    wait_until(lambda: not census.holders_of(session.port))
    wait_until(lambda: not light.sidecars())
    assert census.words(child)
    os.kill(child, signal.SIGKILL)
