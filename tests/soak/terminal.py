"""One terminal of the soak: it opens, asks a few things at a human pace, and leaves in one way or another."""

import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

from tests.soak.figures import Tally
from tests.support import census
from tests.support.place import Place

RETRIED = (408, 429, 500, 503, 529)
"""Statuses that the official clients try again, as they do broken connections."""
TRIES = 10
"""As Claude Code makes."""
RELEASE_LIMIT = 10.0

SAY = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"; '
STAY = SAY + "read line; true"
"""A command that says where its port is and stays until it is told to end."""
LEAVE_A_JOB = SAY + "sleep 45 </dev/null >/dev/null 2>&1 & read line; true"
"""One that leaves a child behind, for which the relay stays."""

LEAVINGS = ("exit", "exit", "exit", "exit with a job left", "hang up", "command", "command", "relay", "client")
"""How a visit ends; the last three by kill -9, `client` before it has begun."""


class Gone(Exception):
    """The terminal's own port is not there any more."""


@dataclass
class Visit:
    """One command under claude-local."""

    process: subprocess.Popen[bytes]
    port: int
    token: str

    def ask(self, words: str, tally: Tally, lock: threading.Lock, hurry: threading.Event) -> None:
        """One question, made again as clients do."""
        with lock:
            tally.asked += 1
        said = ""
        for number in range(TRIES):
            said = self._try(words)
            if not said:
                with lock:
                    tally.answered += 1
                return
            if not said.startswith("again"):
                break
            with lock:
                tally.tries += 1
            hurry.wait(min(8.0, 0.5 * 2**number))
        with lock:
            tally.failed.append(f"{time.strftime('%H:%M:%S')} {words!r}: {said}")

    def _try(self, words: str) -> str:
        """Empty when answered in full; `again …` when it may be tried again; raises Gone."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.connect()
        except ConnectionError:
            raise Gone from None
        try:
            connection.request("POST", "/v1/messages", self.body(words), self.headers())
            answer = connection.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return f"again: {type(error).__name__} {error}"
        finally:
            connection.close()
        if answer.status in RETRIED:
            return f"again: {answer.status} {text}"
        if answer.status == 200 and "message_stop" in text and "text_delta" in text:
            return ""
        return f"{answer.status} {text[-300:]}"

    def begin(self, words: str) -> http.client.HTTPConnection:
        """A question whose answer nobody will see the end of."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        connection.request("POST", "/v1/messages", self.body(words), self.headers())
        return connection

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}", "content-type": "application/json"}

    def body(self, words: str) -> str:
        messages = [{"role": "user", "content": words}]
        return json.dumps({"model": "claude-any", "max_tokens": 64, "stream": True, "messages": messages})


class Terminal:
    """Runs in a thread of its own."""

    def __init__(self, place: Place, seed: int, tally: Tally, lock: threading.Lock, over: threading.Event) -> None:
        self.place, self.tally, self.lock, self.over = place, tally, lock, over
        self.random = random.Random(seed)
        self.visit: Visit | None = None
        """The one that is under way."""

    def run(self, pause: float) -> None:
        """Come and go until it is over. `pause`: mean seconds between two questions."""
        while not self.over.wait(self.random.expovariate(1 / (2 * pause))):
            leaving = self.random.choice(LEAVINGS)
            if leaving == "client":
                self._kill_while_starting()
            elif visit := self.open(LEAVE_A_JOB if leaving.endswith("left") else STAY):
                try:
                    for _ in range(self.random.randint(1, 8)):
                        if self.over.wait(self.random.expovariate(1 / pause)):
                            break
                        visit.ask(self.words(), self.tally, self.lock, self.over)
                except Gone:
                    with self.lock:
                        self.tally.failed.append(f"{time.strftime('%H:%M:%S')} the port of a living command is gone")
                self._leave(visit, leaving)

    def stay(self, pause: float) -> None:
        """The one terminal that is open from beginning to end, for its relay to be looked at."""
        if visit := self.open(STAY):
            try:
                while not self.over.wait(self.random.expovariate(1 / pause)):
                    visit.ask(self.words(), self.tally, self.lock, self.over)
            except Gone:
                with self.lock:
                    self.tally.failed.append(f"{time.strftime('%H:%M:%S')} the port of the one that stays is gone")
            self._leave(visit, "exit")

    def words(self) -> str:
        return self.random.choice(("Hello", "Say {}", "Hello in 5 words", "Repeat after me: {}")).format(
            "".join(self.random.choices("abcdefghij ", k=self.random.randint(3, 60)))
        )

    def open(self, script: str) -> Visit | None:
        process = self._start("sh", "-c", script)
        with self.lock:
            self.tally.terminals += 1
        assert process.stdout is not None
        line = process.stdout.readline().decode().split()
        if len(line) == 2:
            self.visit = Visit(process, int(line[0].rpartition(":")[2]), line[1])
            return self.visit
        said = process.communicate()[1].decode(errors="replace")
        with self.lock:
            self.tally.not_started.append(f"{time.strftime('%H:%M:%S')} exit {process.returncode}: {said[:200]}")
        return None

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*self.place.shim, *words],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=self.place.environment,
            start_new_session=True,
        )

    def _kill_while_starting(self) -> None:
        process = self._start("sh", "-c", "read line")
        time.sleep(self.random.uniform(0, 0.15))  # anywhere in its start, or just after it
        process.kill()
        process.communicate()
        with self.lock:
            self.tally.killed("client")

    def _leave(self, visit: Visit, leaving: str) -> None:
        process = visit.process
        unanswered = None
        if leaving in ("command", "relay", "hang up") and self.random.random() < 0.5:
            try:
                unanswered = visit.begin(self.words())
            except OSError as error:
                with self.lock:
                    self.tally.failed.append(f"{time.strftime('%H:%M:%S')} nothing could be sent: {error}")
            else:
                with self.lock:
                    self.tally.abandoned += 1
        if leaving == "command":
            process.kill()
        elif leaving == "relay":
            for relay in census.holders_of(visit.port):
                os.kill(relay, signal.SIGKILL)
        elif leaving == "hang up":
            os.killpg(process.pid, signal.SIGHUP)
        if leaving in ("command", "relay"):
            with self.lock:
                self.tally.killed(leaving)
        process.communicate()
        ended = time.monotonic()
        if unanswered:
            unanswered.close()
        while self._is_strong(process.pid):
            if (took := time.monotonic() - ended) > RELEASE_LIMIT:
                with self.lock:
                    self.tally.failed.append(f"a lease outlived its command ({leaving}) by {took:.0f} s")
                break
            time.sleep(0.02)
        with self.lock:
            self.tally.slowest_release_s = max(self.tally.slowest_release_s, time.monotonic() - ended)

    def _is_strong(self, pid: int) -> bool:
        status = census.status(self.place.run)
        return status is not None and any(lease["pid"] == pid and lease["strong"] for lease in status["leases"])
