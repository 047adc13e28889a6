"""claude-local is updated under an open terminal: its relay, which is of before, says so once and disturbs nobody."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.shared.protocol import PROTOCOL
from tests.conftest import ROOT
from tests.support import census
from tests.support.pdfs import pdf
from tests.support.place import Session
from tests.support.real_place import RealPlace, persistent_ask
from tests.support.waiting import wait_until

ASKED = 5


@pytest.fixture
def light(tmp_path: Path) -> Iterator[RealPlace]:
    place = RealPlace(tmp_path, light=True, grace=60)
    yield place
    place.clean()


def update(light: RealPlace, protocol: int) -> None:
    """Another version is installed, and the sidecar of before is gone."""
    (light.folder / "logs" / "protocol").write_text(str(protocol))
    for pid in light.sidecars():
        census.kill(pid)
    wait_until(lambda: not light.sidecars() and not light.engines())


def ask(session: Session) -> tuple[bytes, bytes]:
    """Head and body of an answer."""
    body = b'{"model": "claude-any", "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}'
    answer = session.ask("/v1/messages", body, method="POST", content_type="application/json")
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head, rest


def starts(light: RealPlace) -> int:
    return (light.folder / "logs" / "sidecar.log").read_text().count("serves at")


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, pytest.param(PROTOCOL - 2, marks=pytest.mark.full)])  # 0: nobody's
def test_an_open_terminal_is_told_once_to_start_its_command_again(light: RealPlace, protocol: int) -> None:
    """Whether what is installed now is newer than its relay, or an older one that was brought back."""
    session = Session(light)
    persistent_ask(session)
    update(light, protocol)
    for _ in range(ASKED):
        head, body = ask(session)
        assert head.startswith(b"HTTP/1.1 503") and b"start the command again" in body, body
        assert b"x-should-retry: false" in head and b"retry-after" not in head
    assert starts(light) == 2, "one of before, and one that could not serve it"
    assert light.logged().count("start the command again") == 1
    session.end()


def test_a_newer_sidecar_and_its_warm_model_stay_as_they_are(light: RealPlace) -> None:
    """Idle as it is: the next newer terminal finds its model in memory."""
    session = Session(light)
    persistent_ask(session)
    update(light, PROTOCOL + 1)
    newer = light.start("sh", "-c", "true")  # of this version, and refused alike; what it starts stays
    assert newer.wait(20) == 75
    (sidecar,) = light.sidecars()
    for _ in range(ASKED):
        assert b"start the command again" in ask(session)[1]
    assert light.sidecars() == [sidecar]
    assert starts(light) == 2
    session.end()


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [(["sidecar.download", "demo"], b"", "path"), (["sidecar.pdf"], base64.b64encode(pdf("Hello")), "text")],
    ids=["download", "document"],
)
def test_a_sidecar_of_before_still_starts_what_an_update_has_moved(words: list[str], given: bytes, said: str) -> None:
    """Its processes have the names there that they had when it was started."""
    command = [sys.executable, "-I", str(ROOT / "sidecar" / "__main__.py"), *words]
    lines = subprocess.run(command, input=given, capture_output=True, check=True).stdout.splitlines()
    assert any(said in json.loads(line) for line in lines), lines
