"""Making a folder's prompt ready while its client still starts: only while nobody wants anything of the engine.

A request ends it at once; what had been read by then stays, and the rest is read when the engine is idle again.
"""

from sidecar.engine.cache.folder_prompts import Places
from sidecar.engine.scheduling.scheduler import Scheduler


class Prewarm:
    """The folders that are to be made ready, one after the other."""

    def __init__(self, places: Places, scheduler: Scheduler) -> None:
        self.places = places
        self._scheduler = scheduler
        self._wanted: list[str] = []
        self._at: str | None = None
        self._id = 0

    def ask(self, place: str) -> None:
        """Have a folder made ready when there is time for it."""
        if place != self._at and place not in self._wanted and self.places.find(place):
            self._wanted.append(place)

    def begin(self) -> None:
        """Nobody wants anything: begin with the next one, if there is one."""
        self._at = None
        while self._wanted and self._at is None:
            place = self._wanted.pop(0)
            tokens = self.places.find(place)
            self._id -= 1  # a number that no request has: nobody listens to what is said of it
            if tokens and self._scheduler.warm(self._id, tokens):
                self._at = place

    def give_way(self) -> None:
        """Somebody wants something."""
        if self._at is not None:
            self._scheduler.cancel(self._id)
            self._wanted.insert(0, self._at)
            self._at = None

    def clear(self) -> None:
        """Forget all folders."""
        self._wanted.clear()
        self.places.clear()
