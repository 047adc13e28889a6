"""A private place with the real sidecar; with the demo model, or with a stand-in for the engine."""

import json
import sys
import time
from pathlib import Path

from tests.support import census, kernels, light_sidecar
from tests.support.place import Place, Session, read_answer
from tests.support.waiting import wait_until

TRIES = 10
ANSWER_S = 200.0
"""A model that has to be loaded first, on a machine that is busy with other things."""
RETRIED = (429, 500, 503, 529)
"""Statuses that the official clients try again, as they do broken connections."""


class RealPlace(Place):
    """`light`: with the stand-in engine."""

    def __init__(self, folder: Path, light: bool = False, grace: float = 2) -> None:
        super().__init__(folder)
        del self.environment["CLAUDE_LOCAL_TEST_SIDECAR"]
        self.environment |= {"CLAUDE_LOCAL_MODEL": "demo", "CLAUDE_LOCAL_GRACE": str(grace)}
        if not light:
            kernels.lend(folder)
        else:
            self.environment["CLAUDE_LOCAL_TEST_SIDECAR"] = f"{sys.executable} -I {light_sidecar.__file__}"

    def sidecars(self) -> list[int]:
        return [*census.processes(self.run, "sidecar"), *self._light(engine=False)]

    def engines(self) -> list[int]:
        return [*census.processes(self.run, "engine"), *self._light(engine=True)]

    def _light(self, engine: bool) -> list[int]:
        light = census.processes(self.run, "light")
        return [pid for pid in light if ("--ready-fd" not in census.words(pid)) == engine]

    def leases(self) -> list[int]:
        """The process ids of the commands that hold a lease now."""
        status = census.status(self.run)
        return [lease["pid"] for lease in status["leases"]] if status else []

    def is_answering(self) -> bool:
        status = census.status(self.run)
        return status is not None and status["requests"]["running"] > 0

    def seconds_until_released(self, pid: int) -> float:
        """How long a command's lease outlives this call."""
        began = time.monotonic()
        wait_until(lambda: pid not in self.leases())
        return time.monotonic() - began

    def noted(self, where: str = "engines") -> list[int]:
        """The process ids of all stand-in engines that were ever started here, or (`stops`) told to stop."""
        file = self.folder / "logs" / where
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def overlaps(self) -> int:
        """How often two stand-in engines had a model at once."""
        file = self.run / "overlaps"
        return len(file.read_text().split()) if file.exists() else 0

    def finish(self) -> None:
        """Every process goes by itself, and leaves nothing but its locks."""
        wait_until(lambda: not census.processes(self.run), 60)
        left = {path.name for path in self.run.iterdir()} - {"spawn.lock", "life.lock", "model.lock"}
        assert not left, left

    def clean(self) -> None:
        for pid in census.processes(self.run):
            census.kill(pid)
        super().clean()


def persistent_ask(session: Session, words: str = "Hello", **fields: object) -> int:
    """A question, asked again as the official clients do until it is answered in full; returns the number of tries."""
    table = {"model": "claude-any", "max_tokens": 16, "messages": [{"role": "user", "content": words}]}
    body = json.dumps(table | fields).encode()
    head = session.head(
        "/v1/messages", "POST", content_type="application/json", content_length=len(body), connection="close"
    )
    for number in range(TRIES):
        try:
            with session.connect() as connection:
                connection.settimeout(ANSWER_S)
                connection.sendall(head + body)
                answer = read_answer(connection)
        except ConnectionResetError:
            answer = b""
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        if status == 200 and complete(answer):
            return number + 1
        assert status in (0, 200, *RETRIED), answer
        assert status != 200, "an answer that broke off looked like a whole one"
        time.sleep(min(2.0, 0.1 * 2**number))  # the retry's own pause, not one of the test
    raise AssertionError(f"{TRIES} tries were not enough: {answer!r}")


def complete(answer: bytes) -> bool:
    """An answer that took long comes in chunks, of which the last is empty."""
    return b'"stop_reason"' in answer and answer.rstrip().endswith((b"}", b"}\r\n0"))
