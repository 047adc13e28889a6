"""Leases: who uses the model, and from when on nobody does.

A state machine without a clock: every call that needs the time gets it. What to do at a deadline is `serve`'s.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from sidecar.shared.protocol import LeaseRequest

FIRST_LEASE_S = 30.0
"""As long as the shim that started the sidecar goes on trying."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """One invocation's hold on the sidecar."""

    request: LeaseRequest
    since: float

    @property
    def place(self) -> str:
        """A key of its folder, which says nothing of its name."""
        return hashlib.blake2b(str(self.request.folder).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def describe(self, now: float) -> dict[str, object]:
        """As `claude-local status` shows it."""
        wanted = self.request
        return {
            "pid": wanted.pid,
            "command": _readable(wanted.command),
            "folder": _readable(wanted.folder),
            "port": wanted.port,
            "model": _readable(wanted.model),
            "strong": wanted.strong,
            "since_s": round(now - self.since, 1),
        }


def _readable(name: str) -> str:
    """A name of the file system's may be no text: JSON has no bytes."""
    return name.encode("utf-8", "replace").decode()


@dataclass(slots=True)
class Leases:
    """All leases and the requests under way. Times are seconds on one clock; `never` is infinity."""

    grace: float
    unload: float
    last_use: float
    running: int = 0
    """Requests under way."""
    served: int = 0
    granted: bool = False
    """Whether anybody ever held a lease."""
    _held: dict[str, list[Lease]] = field(default_factory=dict)

    def grant(self, request: LeaseRequest, now: float) -> Lease:
        lease = Lease(request, now)
        self.granted = True
        self._held.setdefault(request.token_sha256, []).append(lease)
        self.last_use = now
        return lease

    def release(self, lease: Lease, now: float) -> None:
        held = self._held[lease.request.token_sha256]
        held.remove(lease)
        if not held:
            del self._held[lease.request.token_sha256]
        if lease.request.strong:
            self.last_use = now

    def find(self, token_sha256: str) -> Lease | None:
        """The lease that a token belongs to."""
        held = self._held.get(token_sha256)
        return held[-1] if held else None

    def touch(self, now: float) -> None:
        """Somebody has a use for the model, without a request yet."""
        self.last_use = now

    def begin(self, now: float) -> None:
        """A request of any lease begins."""
        self.running += 1
        self.served += 1
        self.last_use = now

    def end(self, now: float) -> None:
        self.running -= 1
        self.last_use = now

    def __iter__(self) -> Iterator[Lease]:
        return iter([lease for held in self._held.values() for lease in held])

    @property
    def exit_at(self) -> float:
        """When the sidecar may go: soft leases do not hold it, their requests do."""
        if self.running or any(lease.request.strong for lease in self):
            return float("inf")
        # Whoever started it needs a moment to come in.
        return self.last_use + (self.grace if self.granted else max(self.grace, FIRST_LEASE_S))

    @property
    def unload_at(self) -> float:
        """When the engine may go although terminals are open."""
        return float("inf") if self.running else self.last_use + self.unload
