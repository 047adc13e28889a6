"""The line that a terminal shows of itself: what becomes of its request, how fast, and how much memory is left.

A file for each terminal that asked for one, which a shell reads once a second: `claude-local claude` has it shown below
the prompt. What the line says is pure.
"""

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from sidecar.frames import Live, Queued
from sidecar.shared.run_directory import RunDirectory
from sidecar.supervisor.engine import State

BUSY_S, IDLE_S = 1.0, 5.0
"""Between two looks, while something is under way and while nothing is: the engine has news every second."""
SHORTEST_S = 0.2
"""Between two looks, whatever happens."""

STATES: dict[State, str] = {
    "absent": "is not in memory, the next prompt loads it",
    "loading": "is being loaded",
    "stuck": "does not answer, and is started again",
    "dead": "has ended, and is started again",
    "failed": "could not be loaded: claude-local logs says why",
    "refused": "is kept out, too little memory is free",
    "evacuated": "was given up for want of memory, and comes back by itself",
}
"""Of the engine, but for ready."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one terminal."""

    model: str
    state: State
    streams: tuple[Live, ...]
    """Its requests that have begun."""
    queue: tuple[Queued, ...]
    """Its requests that wait."""
    running: int
    """All that are under way."""
    speed: float
    """Tokens in a second of its last answer; 0 = there was none."""
    level: str
    """Of memory."""
    free: float
    """GB of it."""


def told(facts: Facts) -> str:
    """The line. Of several requests the one that somebody looks at. Pure."""
    name = "".join(each if each.isprintable() else "?" for each in os.path.basename(facts.model))
    if facts.state != "ready":
        return f"local: {name} {STATES[facts.state]}"
    if live := min(facts.streams, key=lambda each: each.priority, default=None):
        return f"local: {_reading(live) if live.read_tokens < live.prompt_tokens else _writing(live)}{_others(facts)}"
    if queued := min(facts.queue, key=lambda each: each.priority, default=None):
        return f"local: waiting for others, first word in about {span(queued.expected_s)}{_others(facts)}"
    if facts.running:
        return f"local: {name} prepares the prompt"
    speed = f", {facts.speed:,.0f} tokens/s" if facts.speed else ""
    return f"local: {name}{speed}, memory {facts.level.lower()}, {facts.free:.1f} GB free"


def _reading(live: Live) -> str:
    text = f"reading {100 * live.read_tokens // live.prompt_tokens} % of {live.prompt_tokens:,} tokens"
    if live.speed < 1:
        return text
    return f"{text}, {live.speed:,.0f}/s, {span((live.prompt_tokens - live.read_tokens) / live.speed)} left"


def _writing(live: Live) -> str:
    return "writing" + (f", {live.speed:,.0f} tokens/s" if live.speed else "")


def _others(facts: Facts) -> str:
    more = len(facts.streams) + len(facts.queue) - 1
    return f" (and {more} more)" if more else ""


def span(seconds: float) -> str:
    """A duration as people say it."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Ticker:
    """The files, kept for as long as somebody is there to read them."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._said: dict[int, str] = {}
        for stale in directory.path.glob("line-*"):
            _remove(stale)  # of a sidecar that was killed

    async def run(self, look: Callable[[], Iterable[tuple[int, Facts]]], changed: Callable[[], trio.Event]) -> None:
        """Until cancelled. `look`: each terminal that wants a line, by its process; `changed`: set at the next change
        of who is there and what is asked."""
        try:
            while True:
                event, found = changed(), dict(look())
                self._keep({pid: told(facts) for pid, facts in found.items()})
                busy = any(facts.running or facts.state != "ready" for facts in found.values())
                await trio.sleep(SHORTEST_S)
                with trio.move_on_after(BUSY_S if busy else IDLE_S if found else float("inf")):
                    await event.wait()
        finally:
            self._keep({})

    def _keep(self, lines: dict[int, str]) -> None:
        """Write what is new, and remove what nobody reads any more."""
        for pid in self._said.keys() - lines.keys():
            _remove(self._directory.line(pid))
        for pid, line in lines.items():
            if self._said.get(pid) != line:
                _write(self._directory.line(pid), f"{os.getpid()}\n{line}\n")
        self._said = lines


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()


def _write(file: Path, text: str) -> None:
    """At once: who reads it in between sees the old line. That a full disk takes no new one is nobody's concern."""
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(text, "utf-8", errors="replace")
        part.rename(file)
    except OSError as error:
        log.debug("%s: %s", file, error)
