"""Preparing requests beside the model: rendering, encoding, compiling grammars, for as long as that takes each of them.

The mlx thread would keep every stream waiting for it. Whatever goes wrong with one request here is that request's end
alone. Knows nothing of what is prepared.
"""

import bisect
import itertools
import logging
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

THREADS = 12
"""At most so many; each is started when all others are at work."""
PER_SESSION = 4
"""At most so many of one client at once: another's short request finds a thread."""
LARGE = 1 << 18
"""Bytes of a request from which on no more than LARGE_ONES are prepared at once: each takes many times its size."""
LARGE_ONES = 2
STACK = 64 << 20
"""Bytes of address space for each thread's stack: native code descends as deep as a client's JSON does."""
LONGEST_S = 300.0
"""What takes longer is given up, and its thread with it: it may never return."""

log = logging.getLogger(__name__)


class Gone(Exception):
    """Nobody waits any more."""


@dataclass(eq=False)
class Job:
    """One request on its way to being prepared."""

    id: int
    session: str
    size: int
    """Bytes."""
    work: Callable[["Job"], Any]
    about: Any = None
    """Whatever `done` and `failed` need to know of it."""
    gone: bool = False
    """Nobody waits for it any more."""
    began: float | None = None
    result: Any = None

    def check(self) -> None:
        """To be called now and then by the work. Raises Gone."""
        if self.gone:
            raise Gone


class Preparation:
    """Threads on which jobs are done, the small ones first. `done` is told of each that came to a result, `failed` of
    each that did not, and why; both on any thread, and never for one that was cancelled."""

    def __init__(self, done: Callable[[Job], None], failed: Callable[[Job, BaseException], None]) -> None:
        self._done = done
        self._failed = failed
        self._changed = threading.Condition()
        self._line: list[tuple[int, int, Job]] = []
        self._number = itertools.count()
        self._running: dict[int, Job] = {}
        self._threads = self._idle = 0

    @property
    def count(self) -> int:
        """Jobs that wait or are at work."""
        return len(self._running) + len(self._line)

    def put(self, job: Job) -> None:
        """Have it done when there is a thread for it."""
        with self._changed:
            bisect.insort(self._line, (job.size, next(self._number), job))
            self._enlist()
            self._changed.notify()

    def cancel(self, request: int) -> None:
        """Nobody waits for it any more. What is at work ends when it looks."""
        with self._changed:
            self._line = [entry for entry in self._line if entry[2].id != request]
            if job := self._running.get(request):
                job.gone = True

    def give_up(self, now: float) -> None:
        """Fail what has been at work for too long, and replace its thread."""
        with self._changed:
            late = [job for job in self._running.values() if job.began is not None and now - job.began > LONGEST_S]
            for job in late:
                del self._running[job.id]
                self._threads -= 1
                self._enlist()
        for job in late:
            gone, job.gone = job.gone, True
            if not gone:
                self._failed(job, TimeoutError(f"it took longer than {LONGEST_S:.0f} s"))

    def _enlist(self) -> None:
        """Start one more thread, if one is wanted."""
        if not self._line or self._idle or self._threads >= THREADS:
            return
        self._threads += 1
        before = threading.stack_size(STACK)
        try:
            threading.Thread(target=self._serve, name="prepare", daemon=True).start()
        finally:
            threading.stack_size(before)

    def _serve(self) -> None:
        while True:
            job = self._next()
            self._do(job)
            with self._changed:
                if self._running.get(job.id) is not job:
                    return  # it was given up, and so was this thread
                del self._running[job.id]
                self._changed.notify_all()

    def _next(self) -> Job:
        with self._changed:
            while (job := self._take()) is None:
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            job.began = time.monotonic()
            self._running[job.id] = job
            self._enlist()
            return job

    def _take(self) -> Job | None:
        sessions = Counter(job.session for job in self._running.values())
        large = sum(job.size >= LARGE for job in self._running.values())
        for place, (size, _, job) in enumerate(self._line):
            if sessions[job.session] < PER_SESSION and (size < LARGE or large < LARGE_ONES):
                del self._line[place]
                return job
        return None

    def _do(self, job: Job) -> None:
        try:
            job.check()
            job.result = job.work(job)
        except Gone:
            pass
        except BaseException as error:  # also what Rust panics with, which is no Exception
            if not job.gone:
                self._failed(job, error)
        else:
            if not job.gone:
                self._done(job)


def say_unexpected(job: Job, error: BaseException) -> None:
    """Log what nobody has thought of, without its text: it may quote a prompt."""
    frames = "".join(traceback.format_tb(error.__traceback__)[-6:])
    log.error("request %d cannot be prepared: %s\n%s", job.id, type(error).__name__, frames)
