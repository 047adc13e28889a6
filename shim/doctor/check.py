"""What a check says, and how one is made: on a thread of its own, cut off at its deadline, never taken as ok by error.

Knows nothing of what is checked.
"""

import queue
import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "failure"]


class Finding(NamedTuple):
    """One line of the doctor's."""

    level: Level
    text: str
    fix: str = ""
    """What to do; empty where nothing need be done."""


class Check(NamedTuple):
    """Something to look at."""

    name: str
    look: Callable[[], Finding]
    seconds: float = 15.0
    """After which it is given up: many times what it takes."""


def ok(text: str) -> Finding:
    return Finding("ok", text)


def warning(text: str, fix: str) -> Finding:
    """Works, but not as well as it could, or not everywhere."""
    return Finding("warning", text, fix)


def failure(text: str, fix: str) -> Finding:
    """Does not work."""
    return Finding("failure", text, fix)


def told(sentences: str) -> Finding:
    """A failure from an error's own text, which ends with a sentence that says what to do."""
    sentences = sentences.strip().rstrip(".")
    for mark in (". ", "; "):
        text, _, fix = sentences.rpartition(mark)
        if text:
            return failure(text, fix)
    return failure(sentences, "correct that and try again")


def made(check: Check) -> Finding:
    """Look, for as long as the check may take. Raises nothing."""
    answers: queue.SimpleQueue[Finding] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put(check.look())
        except BaseException as error:
            said = str(error).strip().splitlines() or [""]
            answers.put(failure(f"could not look: {type(error).__name__}: {said[0]}", "report this line"))

    # A daemon: what hangs in the kernel, on a disk that is gone, must not keep the doctor from ending.
    threading.Thread(target=look, name=check.name, daemon=True).start()
    try:
        return answers.get(timeout=check.seconds)
    except queue.Empty:
        again = f"claude-local doctor {check.name}"
        return failure(f"no answer within {check.seconds:g} s", f"try {again}; if it stays so, report this line")
