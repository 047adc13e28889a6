"""The relay's lease: taken before the command starts, taken again when a request finds it gone.

It knows when a lease is needed, and nothing of how one is got (attach) or of the bytes that need it (exchange).
"""

import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from shim.errors import OS_ERROR, Failure, Outdated
from shim.lease import attach
from shim.lease.attach import Lease
from sidecar.shared.pauses import OWN
from sidecar.shared.protocol import LeaseEvent, LeaseRequest
from sidecar.shared.run_directory import RunDirectory

ATTEMPTS = 3
"""Sidecars that may die under a terminal that is waiting for its model; more is a model that kills them."""

REPEAT = 1.0
"""Seconds for which a failure stands: requests that waited for the same attempt are not to make one each, in turn."""


class Holder:
    """One invocation's lease. Every method may be called from any thread."""

    def __init__(
        self,
        directory: RunDirectory,
        request: LeaseRequest,
        start: attach.Start,
        outdated: Callable[[str], None] = lambda reason: None,
        remedy: str = "start the command again",
    ) -> None:
        """`outdated`: told once when no sidecar that can be started will ever serve us; `remedy`: what helps then."""
        # threading costs 3 ms to import, which the sidecar can use for its answer: see Relay.run.
        import _thread

        self._directory = directory
        self._request = request
        self._start = start
        self._outdated, self._remedy = outdated, remedy
        self._lock = _thread.allocate_lock()
        self._lease: Lease | None = None
        self._failure: tuple[float, Failure] | None = None
        """The last one, and until when it stands."""

    def launch(self, tell: Callable[[LeaseEvent], bool]) -> None:
        """Take the first lease and `tell` its events until nobody listens or it ends for good."""
        for _ in range(ATTEMPTS):
            try:
                lease = self.ensure()
            except Failure as failure:
                tell(LeaseEvent("failed", reason=failure.reason, exit_code=failure.exit_code))
                return
            # Without a launcher that waits, the end of a lease is a matter for the next request.
            if not (_tell_all(lease, tell) and tell(LeaseEvent("retry"))):
                return
        tell(LeaseEvent("failed", reason="the sidecar died three times while it loaded the model"))

    def upstream(self, may_start: bool) -> socket.socket:
        """A new connection to the sidecar that holds our lease; raises Failure.

        What `may_start` nothing needs no lease either: any sidecar will do.

        Connected first, then asked whether the lease is still alive: one that lives was granted by the process that
        listens, since there is never a second. The other way round, the connection could be to a successor that has
        never heard of our token.
        """
        deadline = OWN.now() + attach.LIMIT
        while OWN.now() < deadline:
            lease = self.ensure() if may_start else self._lease
            connection = attach.connect(self._directory, deadline)
            if lease is None and connection is None:
                break
            if connection is not None and (lease is None or lease.alive()):
                return connection
            if connection is not None:
                connection.close()
            if lease is not None:
                self._drop(lease)
        raise Failure("no sidecar is running")

    def alive(self) -> bool:
        """Whether the sidecar is there, as far as the kernel knows."""
        lease = self._lease
        return lease is not None and lease.alive()

    def soften(self) -> None:
        """The command has ended, something it started has not: from now on only requests count as use."""
        with self._lock:
            self._request = self._request._replace(strong=False)
            strong, self._lease = self._lease, None
            if strong is None:
                return
            # The new one first, or a request between the two would find its token unknown.
            # A failure here is left to the next request, which can say what is wrong.
            with suppress(Failure, OSError):
                self._lease = attach.try_lease(self._directory, self._request, OWN.now() + attach.LIMIT)
            strong.close()

    def ensure(self) -> Lease:
        """The lease, taken first if there is none that lives; raises Failure."""
        with self._lock:
            if self._lease is not None and self._lease.alive():
                return self._lease
            if self._failure is not None and time.monotonic() < self._failure[0]:
                raise self._failure[1]
            self._forget()
            try:
                self._lease = attach.attach(self._directory, self._request, self._start)
            except Outdated as failure:
                final = Outdated(f"{failure.reason}: {self._remedy}", failure.exit_code)
                self._failure = (float("inf"), final)
                self._outdated(final.reason)
                raise final from None
            except Failure as failure:
                self._failure = (time.monotonic() + REPEAT, failure)
                raise
            except OSError as error:
                raise Failure(f"cannot reach the sidecar: {error.strerror or error}", OS_ERROR) from None
            return self._lease

    def _drop(self, lease: Lease) -> None:
        with self._lock:
            if self._lease is lease:
                self._forget()

    def _forget(self) -> None:
        if self._lease is not None:
            self._lease.close()
            self._lease = None


def launcher_pipe(descriptor: int) -> Callable[[LeaseEvent], bool]:
    """What `launch` tells the waiting launcher through; False once it has become the command, or is gone."""

    def tell(event: LeaseEvent) -> bool:
        try:
            os.write(descriptor, event.encode())
        except BlockingIOError:
            if event.event != "downloading":  # a stopped launcher (Ctrl-Z) misses progress, never the outcome
                select.select([], [descriptor], [])
                return tell(event)
        except OSError:
            return False
        return True

    return tell


def _tell_all(lease: Lease, tell: Callable[[LeaseEvent], bool]) -> bool:
    """False when nobody listens any more; True when the lease ended before that."""
    lease.followed = True
    try:
        return tell(lease.granted) and all(tell(event) for event in lease.events)
    except (Failure, OSError):
        return True
    finally:
        lease.followed = False
