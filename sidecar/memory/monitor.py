"""The memory thread: looks, has the guard decide, acts.

A thread of its own, so that neither the event loop nor the engine can delay it: it ends the engine itself when there
is an emergency. What others read of it is one immutable view, replaced whole. How the acts are done is passed in.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sidecar.memory.guard import GB, Guard, Level, Lines, Sample, pause
from sidecar.memory.probe import largest

SHED_S = 2.0
"""Between two rounds of shedding: the engine needs a step's time, and the next look must see what the last one gave."""
LARGEST_S = 30.0
"""How old the list of what could be closed may be."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """What is known of memory, and what has been done about it since the start."""

    lines: Lines
    sample: Sample
    level: Level = Level.SAFE
    largest: tuple[tuple[str, int], ...] = ()
    """Others' programs that hold most, as (name, bytes): known from Caution on."""
    sheds: int = 0
    evacuations: int = 0

    @property
    def accepting(self) -> bool:
        return self.level < Level.CRITICAL

    @property
    def advice(self) -> str:
        """What the user can do, as the end of a sentence."""
        named = ", ".join(f"{name} holds {size / GB:.1f} GB" for name, size in self.largest)
        return f"close something{f' ({named})' if named else ''} and try again"

    def refusal(self) -> str | None:
        """Why nothing new may begin now; None when it may."""
        if self.accepting:
            return None
        if self.sample.available >= self.lines.acceptance:
            return "memory was low a moment ago: new requests begin again in some seconds"
        return (
            f"only {self.sample.available / GB:.1f} GB of memory are free, and new requests begin again "
            f"above {self.lines.acceptance / GB:.1f} GB: {self.advice}"
        )


class Memory:
    """The thread and its view. `start` it once; it ends with the process."""

    def __init__(self, probe: Callable[[], Sample], lines: Lines, ours: Callable[[], Iterable[int]]) -> None:
        self._probe = probe
        self._guard = Guard(lines)
        self._ours = ours
        self._blind = False
        self._shed_at = self._listed_at = float("-inf")
        # Without a first look nothing is known: as if all were free, since not knowing is not being low.
        self.view = View(lines, Sample(1 << 62))

    def start(self, shed: Callable[[int], bool], evacuate: Callable[[str], bool]) -> None:
        """`shed(bytes)`: have the engine give back so much; `evacuate(why)`: end it now. False = nothing to do.

        Both are called on the thread and must not wait.
        """

        def watch() -> None:
            while True:
                self.round(shed, evacuate)
                time.sleep(pause(self.view.level, self.view.sample, self.view.lines))

        threading.Thread(target=watch, name="memory", daemon=True).start()

    def round(self, shed: Callable[[int], bool], evacuate: Callable[[str], bool]) -> None:
        """What the thread does at once: look, act, and find what could be closed."""
        self.look(time.monotonic())
        self.act(time.monotonic(), shed, evacuate)
        self.list_largest(time.monotonic())

    def look(self, now: float) -> None:
        """One look, and the level after it; a look that fails changes nothing, and is logged when it is the first."""
        try:
            sample = self._probe()
        except Exception:  # whatever it is, not seeing must neither end the thread nor count as being low
            if not self._blind:
                log.exception("the memory probe fails; the last level stays until it sees again")
            self._blind = True
            return
        self._blind = False
        before, level = self.view.level, self._guard.feed(sample, now)
        self.view = replace(self.view, sample=sample, level=level)
        if level is not before:
            log.warning("memory: %s, %.2f GB available", level.label, sample.available / GB)

    def act(self, now: float, shed: Callable[[int], bool], evacuate: Callable[[str], bool]) -> None:
        """What the level asks for."""
        view = self.view
        if view.level is Level.EMERGENCY:
            why = (
                f"memory ran out ({view.sample.available / GB:.1f} GB were free), so the model was given up "
                "to keep the machine from freezing"
            )
            if evacuate(why):
                log.error("%s", why)
                self.view = replace(view, evacuations=view.evacuations + 1)
        elif (missing := shortage(view)) and now - self._shed_at >= SHED_S and shed(missing):
            self._shed_at = now
            self.view = replace(view, sheds=view.sheds + 1)

    def list_largest(self, now: float) -> None:
        """Find what the user could close, before that is asked for."""
        if self.view.level > Level.SAFE and now - self._listed_at >= LARGEST_S:
            self._listed_at = now
            self.view = replace(self.view, largest=tuple(largest(self._ours())))


def shortage(view: View) -> int:
    """Bytes that the engine should give back: at Caution what is missing to its end, at Critical all it can."""
    if view.level is Level.SAFE:
        return 0
    if view.level >= Level.CRITICAL:
        return 1 << 62
    return max(0, int(view.lines.comfort - view.sample.available))
