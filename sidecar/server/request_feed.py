"""Leases that want to see their requests: a line for each that has ended, for `claude-local serve`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trio

from sidecar.requests.request_log import Record
from sidecar.server.leases import Lease
from sidecar.shared.protocol import LeaseEvent

BEHIND = 256
"""Lines that wait for a reader who is slow; later ones are lost rather than kept."""


class Followers:
    """The leases that asked for it, while they last."""

    def __init__(self) -> None:
        self._lines: dict[Lease, trio.MemorySendChannel[LeaseEvent]] = {}

    @contextmanager
    def following(self, lease: Lease) -> Iterator[AsyncIterator[LeaseEvent]]:
        """What there is to tell the lease's holder; nothing at all if it did not ask."""
        send, receive = trio.open_memory_channel[LeaseEvent](BEHIND)
        if lease.request.follow:
            self._lines[lease] = send
        try:
            yield receive
        finally:
            self._lines.pop(lease, None)

    def tell(self, lease: Lease | None, line: dict[str, Any]) -> None:
        """A request of the lease has ended."""
        if lease in self._lines:
            with suppress(trio.WouldBlock):
                self._lines[lease].send_nowait(LeaseEvent("request", request=line))


def line(method: str, path: str, status: int, seconds: float, record: Record | None) -> dict[str, Any]:
    """What is said of a request. `status` 0: the client left before there was an answer. `record`: of an answer that
    is complete; its counts are tokens. Pure."""
    said: dict[str, Any] = {"method": method, "path": path, "status": status, "seconds": round(seconds, 3)}
    if record is None:
        return said
    rate = record.output / record.wrote_s if record.wrote_s else 0.0
    counts = {"read": record.read, "cached": record.from_memory + record.from_disk, "written": record.output}
    return {**said, "model": record.model, **counts, "tokens_per_s": round(rate, 1)}
