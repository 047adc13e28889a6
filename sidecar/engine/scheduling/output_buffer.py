"""What streams say, on its way out: put together for some hundredths of a second. Nobody reads faster than that.

Each write is a system call here and wakes two more processes and the client. Where the model has need of all cores, all
streams wait for that, as long as for a tenth of a token.
"""

import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from sidecar.conversation import Frame
from sidecar.frames import TextDelta, ThinkingDelta, ToolArguments

PAUSE_S = 0.06
"""The longest that words wait for more of them. Where a token takes half as long, each is written at once; where it
takes a tenth, every write saved is about a millisecond of two cores (the sidecar's part is 0.6 ms)."""


class Outbox:
    """Frames of all streams, in order. `send` takes any number of them; one call is one write."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._frames: list[tuple[int, Frame]] = []
        """With the stream that each is of."""
        self._last: dict[int, int] = {}
        """Where the last frame of each stream is."""
        self._sent = float("-inf")

    def add(self, stream: int, frames: Iterable[Frame]) -> None:
        """Take what a stream says. Words that follow words of its own become one frame with them."""
        for frame in frames:
            place = self._last.get(stream)
            joined = _joined(self._frames[place][1], frame) if place is not None else None
            if place is None or joined is None:
                self._last[stream] = len(self._frames)
                self._frames.append((stream, frame))
            else:
                self._frames[place] = stream, joined

    def drop(self, stream: int) -> None:
        """Forget what a stream has said: nobody listens any more."""
        others = [(each, frame) for each, frame in self._frames if each != stream]
        self._frames, self._last = others, {each: place for place, (each, _) in enumerate(others)}

    def flush(self, again_s: float = float("inf")) -> None:
        """Write what there is, unless that can wait until this is asked again, `again_s` seconds from now."""
        if self._frames and time.monotonic() + again_s - self._sent >= PAUSE_S:
            self._send(*(frame for _, frame in self._frames))
            self._frames.clear()
            self._last.clear()
            self._sent = time.monotonic()


def _joined(one: Frame, other: Frame) -> Frame | None:
    match one, other:
        case TextDelta(), TextDelta():
            return replace(one, text=one.text + other.text)
        case ThinkingDelta(), ThinkingDelta():
            return replace(one, text=one.text + other.text)
        case ToolArguments(), ToolArguments():
            return replace(one, json=one.json + other.json)
    return None
