"""Getting a lease: from the sidecar that runs, or from one that we start, exactly one whatever races.

connect -> lease -> lock -> connect again -> start -> lease. Only a granted lease counts: a connection alone may be to
a sidecar that is leaving. Nothing is sent before the kernel has said whose process is at the other end.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shim.errors import TEMPFAIL, UNAVAILABLE, Died, Failure, Outdated
from shim.lease import http
from sidecar.shared import protocol, run_directory
from sidecar.shared.pauses import OWN
from sidecar.shared.protocol import LeaseEvent, LeaseRequest
from sidecar.shared.run_directory import RunDirectory

LIMIT = 30.0
"""Seconds for the whole of it: a cold start on a busy machine takes two. Those in which we are stopped do not count."""

DEATHS = 2
"""Sidecars that may die in their first moments: one can be bad luck, two are a broken installation."""

Start = Callable[[float], None]
"""Starts a sidecar and returns when it serves; takes the deadline, raises Failure."""


class Lease:
    """A granted lease: it lives as long as this connection is open at both ends."""

    def __init__(self, connection: socket.socket, granted: LeaseEvent, events: Iterator[LeaseEvent]) -> None:
        self._connection = connection
        self.granted = granted
        self.events = events
        """What follows `granted`; ends when the lease does."""
        self.followed = False
        """Whether somebody reads `events`. If nobody does, `alive` throws them away."""

    def alive(self) -> bool:
        """Asks the kernel, not a flag that another thread may be late to lower."""
        try:
            if self.followed:
                return self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
            # An event that nobody reads would hide the end behind it.
            while self._connection.recv(4096, socket.MSG_DONTWAIT):
                pass
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Release it. Shutdown first: a thread that still reads would otherwise keep the connection open."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def connect(directory: RunDirectory, deadline: float) -> socket.socket | None:
    """A connection to a sidecar of this very user, or None when nobody listens."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.001, deadline - OWN.now()))
            connection.connect(str(directory.socket))
            if run_directory.peer_uid(connection) != os.geteuid():
                raise Failure(f"{directory.socket} is served by another user's process. Remove {directory.path}.")
            connection.settimeout(None)
            return connection
        except BlockingIOError:
            # Linux refuses to wait for a place in a full backlog of a Unix socket when there is a time limit.
            connection.close()
            if OWN.now() > deadline:
                raise _too_slow() from None
            time.sleep(0.005)
        except OSError:
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise


def try_lease(directory: RunDirectory, request: LeaseRequest, deadline: float) -> Lease | None:
    """A lease from the sidecar that runs; None when there is none, or one that is leaving.

    Raises Failure when it refuses, or does not answer in time.
    """
    return _granted(_ask(directory, request, deadline))


def _ask(directory: RunDirectory, request: LeaseRequest, deadline: float) -> Lease | LeaseEvent | None:
    """A lease, or what the sidecar says instead; None when there is none, or it goes without a word."""
    if (connection := connect(directory, deadline)) is None:
        return None
    connection.settimeout(max(0.001, deadline - OWN.now()))
    try:
        http.post(connection, protocol.LEASE_PATH, request.encode())
        events = _events(connection)
        first = next(events, None)
        if first is not None and first.event == "granted":
            connection.settimeout(None)
            return Lease(connection, first, events)
    except TimeoutError:
        connection.close()
        if OWN.now() < deadline:  # the kernel has counted the time for which we were stopped
            return _ask(directory, request, deadline)
        raise _too_slow() from None
    except OSError:
        first = None
    except BaseException:
        connection.close()
        raise
    connection.close()
    return first


def _granted(answer: Lease | LeaseEvent | None) -> Lease | None:
    if isinstance(answer, LeaseEvent):
        if answer.event == "refused" and answer.protocol > protocol.PROTOCOL:
            raise Outdated("the sidecar that runs is of a newer claude-local than this command", TEMPFAIL)
        if answer.event in ("refused", "failed"):
            raise Failure(answer.reason or "the sidecar refused this terminal", answer.exit_code or UNAVAILABLE)
        return None
    return answer


def attach(directory: RunDirectory, request: LeaseRequest, start: Start, limit: float = LIMIT) -> Lease:
    """A lease, whatever it takes within `limit` seconds; raises Failure with a sentence for the user."""
    with OWN.kept():
        return _attach(directory, request, start, OWN.now() + limit)


def _attach(directory: RunDirectory, request: LeaseRequest, start: Start, deadline: float) -> Lease:
    if lease := try_lease(directory, request, deadline):
        return lease
    deaths = 0
    while OWN.now() < deadline:
        with _locked(directory):
            # Whoever held the lock before us has most likely started one.
            if lease := try_lease(directory, request, deadline):
                return lease
            # Waiting for the lock can have used up our time: the holder needed all of its own.
            if OWN.now() > deadline:
                break
            try:
                start(deadline)
            except Failure as failure:
                # One that was started by nobody of ours (a test, a service) may have been faster.
                if lease := try_lease(directory, request, deadline):
                    return lease
                deaths += 1
                if deaths == DEATHS or not isinstance(failure, Died):
                    raise
                continue
            answer = _ask(directory, request, deadline)
            if isinstance(answer, LeaseEvent) and answer.protocol not in (0, protocol.PROTOCOL):
                raise Outdated("claude-local has been updated since this command was started", TEMPFAIL)
            if lease := _granted(answer):
                return lease
    raise _too_slow()


def holder(directory: RunDirectory) -> int | None:
    """The process id of the sidecar that holds the life lock, with or without a socket; None when there is none."""
    return locker(directory.life_lock)


def locker(lock: os.PathLike[str]) -> int | None:
    """The process id that whoever holds the lock has written into it."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        text = os.read(descriptor, 20)
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)


@contextmanager
def _locked(directory: RunDirectory) -> Iterator[None]:
    """Hold spawn.lock. The kernel frees it when its holder dies, in whatever way."""
    try:
        while True:
            descriptor = os.open(directory.spawn_lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Somebody may have removed the file while we waited: then this lock keeps nobody out.
            if is_still(descriptor, directory.spawn_lock):
                break
            os.close(descriptor)
    except OSError as error:
        raise Failure(f"{directory.spawn_lock}: {error.strerror}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def is_still(descriptor: int, path: os.PathLike[str]) -> bool:
    """Whether an open file has its name still: a lock on one without keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _events(connection: socket.socket) -> Iterator[LeaseEvent]:
    """The events of a lease; simply ends when the sidecar does, since that is what it means."""
    with connection.makefile("rb") as stream:
        try:
            status, headers = http.answer(stream)
            if status != 200:
                # A sidecar that is too old, or too new, to know what a lease is.
                raise Failure(f"the sidecar that runs does not grant leases (HTTP {status}): claude-local stop --now")
            for line in http.lines(stream, headers):
                yield LeaseEvent.decode(line)
        except (EOFError, ConnectionError):
            return
        except (http.BrokenAnswer, ValueError) as error:
            raise Failure(f"the sidecar that runs is not understood ({error}): claude-local stop --now") from None


def _too_slow() -> Failure:
    return Failure(f"the sidecar did not answer within {LIMIT:.0f} s: claude-local stop --now, then try again")
