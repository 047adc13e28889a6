"""How far the running streams are, and how fast each of them goes: for people to look at, decided by nothing."""

from collections import deque
from collections.abc import Iterable

from sidecar.engine.scheduling.stream import Stream
from sidecar.frames import Live

LOOKS = 6
"""What a speed is measured over: so many looks, a second apart."""


class Flow:
    """Remembers a few figures of each stream that runs, and nothing of those that have ended."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, bool], deque[tuple[float, int]]] = {}

    def look(self, streams: Iterable[Stream], now: float) -> tuple[Live, ...]:
        """Callable on any thread: what it reads of a stream are numbers that only grow. `now` in seconds."""
        seen = self._seen
        self._seen = {}
        return tuple(self._one(stream, now, seen) for stream in streams)

    def _one(self, stream: Stream, now: float, seen: dict[tuple[int, bool], deque[tuple[float, int]]]) -> Live:
        writing = stream.unread <= 0
        done = stream.output_tokens if writing else stream.read
        looks = seen.get((stream.id, writing)) or deque(maxlen=LOOKS)
        looks.append((now, done))
        self._seen[stream.id, writing] = looks
        since, before = looks[0]
        speed = (done - before) / (now - since) if now > since else 0.0
        return Live(
            stream.id,
            stream.priority,
            stream.prompt_length,
            stream.prompt_length if writing else stream.read,
            stream.output_tokens,
            round(speed, 1),
        )
