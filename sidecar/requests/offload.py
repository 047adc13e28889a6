"""Large bodies are read beside the event loop, which serves everybody else meanwhile."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from sidecar.anthropic.fields import values
from sidecar.packing import undisturbed

LARGE = 1 << 18
"""Bytes of a body; smaller ones are read in some milliseconds, in which a thread would hardly have started."""
_LIMITER = trio.CapacityLimiter(2)
"""More of them at once would only take more memory."""

_T = TypeVar("_T")
_Rest = TypeVarTuple("_Rest")


async def aside(size: int, act: Callable[[*_Rest], _T], *rest: *_Rest) -> _T:
    """What `act`, which knows nothing of trio, makes of something that came in `size` bytes."""

    def run() -> _T:
        with undisturbed(size):
            return act(*rest)

    return act(*rest) if size < LARGE else await trio.to_thread.run_sync(run, limiter=_LIMITER)


async def parsed(parse: Callable[[bytes], _T], body: bytes) -> _T:
    """A body as typed values. Raises InvalidRequest or TooLarge."""

    def run() -> _T:
        values.check(body)
        return parse(body)

    return await aside(len(body), run)
