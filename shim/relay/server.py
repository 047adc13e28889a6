"""The relay's port: connections are accepted, looked at, and served in a thread each, a limited number at once."""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from shim.errors import Failure, Outdated
from shim.relay import access
from shim.relay.access import Refusal
from shim.relay.forwarding import FAREWELL, Exchange, Lost, shut
from shim.relay.lease_keeper import Holder
from shim.relay.replay_buffer import Memo, Shelf

SEATS = 128
"""Connections at once. A terminal may have 100 requests under way (PER_TERMINAL in the sidecar's routes), and clients
keep a connection for seconds after its answer: with fewer seats, a script that asks so much at once would wait for its
own idle connections. Each may cost two threads and 128 KB, 16 MB in all."""

SPARE = 32
"""Descriptors for everything but connections, of which each takes two."""

HEAD_SECONDS = 5.0
"""For the whole first head. A client of ours sends it in one piece."""

PATIENCE = 0.25
"""Seconds after which a connection without a token gives its seat up: silent ones must lock nobody out."""

STACK = 256 * 1024
"""Bytes of a thread's stack: the system's default of 8 MB is address space that some limits count."""

RETRY_AFTER = 1

NEVER = float("inf")

ATTEMPTS = 3
"""Sidecars that may die between their first breath and a request's first byte."""

GONE = "The local model's process ended while it had this request. It is being started again; please retry."


class Post(NamedTuple):
    """What a relay is told once, for all its visitors."""

    port: int
    token: str
    log: Callable[[str], None]
    idle: float = NEVER
    """Seconds without a visitor after which it ends."""
    at_rest: bool = False
    """That no sidecar runs is no trouble: the next request starts one."""
    refused: Callable[[bytes, Refusal], None] = lambda head, refusal: None
    """Told of those who are turned away."""


class Seats:
    """Who is connected, strangers (no token seen yet) and guests."""

    def __init__(self, number: int = SEATS, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = clock()
        """When somebody left last."""
        self._number = number
        self._clock = clock
        self._change = threading.Condition()
        self._strangers: dict[socket.socket, float] = {}  # in order of arrival
        self._guests: set[socket.socket] = set()

    def take(self, newcomer: socket.socket) -> None:
        """Waits for a seat, or takes that of a stranger who has been silent for too long."""
        with self._change:
            while len(self._strangers) + len(self._guests) >= self._number:
                oldest = next(iter(self._strangers), None)
                patience = PATIENCE - (self._clock() - self._strangers[oldest]) if oldest is not None else None
                if oldest is not None and patience is not None and patience <= 0:
                    del self._strangers[oldest]
                    shut(oldest, socket.SHUT_RDWR)
                else:
                    self._change.wait(patience)
            self._strangers[newcomer] = self._clock()

    def welcome(self, stranger: socket.socket) -> None:
        """It has shown the token."""
        with self._change:
            if self._strangers.pop(stranger, None) is not None:
                self._guests.add(stranger)

    def leave(self, visitor: socket.socket) -> None:
        with self._change:
            self._strangers.pop(visitor, None)
            self._guests.discard(visitor)
            self._left = self._clock()
            self._change.notify()

    def empty_for(self) -> float:
        """Seconds since the last one left; 0 while somebody is there."""
        with self._change:
            return 0.0 if self._strangers or self._guests else self._clock() - self._left


def serve(listener: socket.socket, holder: Holder, post: Post) -> None:
    """Accept until nobody has come for `post.idle` seconds. Who comes then waits for the next to accept."""
    threading.stack_size(STACK)
    seats, shelf = Seats(_affordable()), Shelf()
    while (rest := post.idle - seats.empty_for()) > 0:
        try:
            listener.settimeout(rest if rest < NEVER else None)
            client, _ = listener.accept()
        except TimeoutError:
            continue
        except OSError as error:
            post.log(f"accept: {error}")  # no descriptor left: those in use will come back
            time.sleep(0.1)
            continue
        seats.take(client)
        visitor = Visitor(client, post, holder, seats, Memo(shelf))
        try:
            threading.Thread(target=visitor.run, daemon=True).start()
        except RuntimeError as error:
            post.log(f"no thread for a connection: {error}")  # a limit on processes; those in use will come back
            client.close()
            seats.leave(client)


def _affordable() -> int:
    """As many seats as there are descriptors for. macOS starts programs with 256, which they may raise themselves."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SPARE + 2 * SEATS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return SEATS if soft == resource.RLIM_INFINITY else seats_for(soft)


def seats_for(descriptors: int) -> int:
    """How many connections so many descriptors are enough for."""
    return max(1, min(SEATS, (descriptors - SPARE) // 2))


class Visitor:
    """One connection to our port, from its first byte to its last."""

    def __init__(self, client: socket.socket, post: Post, holder: Holder, seats: Seats, memo: Memo) -> None:
        self._client = client
        self._post = post
        self._holder = holder
        self._seats = seats
        self._memo = memo

    def run(self) -> None:
        """The one place where an error of any kind becomes the end of one connection."""
        try:
            self._visit()
        except OSError:
            pass  # the client is gone
        except Exception:
            import traceback

            self._post.log(traceback.format_exc())
        finally:
            self._client.close()
            self._seats.leave(self._client)

    def _visit(self) -> None:
        # Every event of a stream is a small write of its own; Nagle would hold it back for the one before.
        self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        method = head = b""
        has_token = False
        try:
            head, more = read_head(self._client)
            if not head:
                return
            method = head.partition(b" ")[0]
            has_token = access.admit(head, self._post.port, self._post.token)
            if has_token:
                self._seats.welcome(self._client)
            # Without a token nothing of the client's own is forwarded, or a second request could ride along.
            upstream = self._send_first(head + more if has_token else access.anonymous(head), has_token)
            if not has_token:
                self._pass_on(upstream)
                return
        except Refusal as refusal:
            if refusal.status == 503 and not has_token and self._post.at_rest:
                self._client.sendall(access.at_rest(head_only=method == b"HEAD"))
            else:
                self._post.refused(head, refusal)
                self._client.sendall(access.answer(refusal, request_id(), head_only=method == b"HEAD"))
            self._linger()
            return
        self._memo.add(head + more)
        apology = access.answer(Refusal(503, "api_error", GONE, RETRY_AFTER), request_id())
        Exchange(self._client, upstream, self._memo, self._ask_again, self._holder.alive, apology).run()

    def _pass_on(self, upstream: socket.socket) -> None:
        """One answer and no more; raises Refusal when there is none."""
        answered = False
        with upstream:
            shut(upstream, socket.SHUT_WR)
            while data := upstream.recv(access.HEAD_LIMIT):
                answered = True
                self._client.sendall(data)
        if not answered:
            raise Refusal(503, "api_error", GONE, RETRY_AFTER)
        self._linger()

    def _send_first(self, data: bytes, may_start: bool) -> socket.socket:
        """A connection to the sidecar that has taken the first bytes. Until it has, another can be found."""
        for _ in range(ATTEMPTS):
            try:
                upstream = self._holder.upstream(may_start)
            except Failure as failure:
                final = isinstance(failure, Outdated)
                after = 0 if final else RETRY_AFTER
                raise Refusal(503, "api_error", f"claude-local: {failure.reason}", after, final) from None
            try:
                upstream.sendall(data)
                return upstream
            except OSError:
                upstream.close()
        raise Refusal(503, "api_error", GONE, RETRY_AFTER)

    def _ask_again(self, words: bytes) -> socket.socket:
        """For Exchange: only what is a request with the token, from its first byte on."""
        end = words.find(access.END) + len(access.END)
        try:
            if end < len(access.END) or not access.admit(words[:end], self._post.port, self._post.token):
                raise Lost
        except Refusal:
            raise Lost from None
        try:
            return self._send_first(words, may_start=True)
        except Refusal as refusal:
            raise Lost(access.answer(refusal, request_id())) from None

    def _linger(self) -> None:
        """Closed with bytes unread, a connection is reset, and our answer lost with it."""
        shut(self._client, socket.SHUT_WR)
        deadline = time.monotonic() + FAREWELL
        while (left := deadline - time.monotonic()) > 0:
            self._client.settimeout(left)
            if not self._client.recv(access.HEAD_LIMIT):
                break


def read_head(client: socket.socket, seconds: float = HEAD_SECONDS) -> tuple[bytes, bytes]:
    """The first request head and what came with it; empty when the client left without a word. Raises Refusal."""
    deadline = time.monotonic() + seconds
    data = bytearray()
    seen = 0
    while (end := data.find(access.END, max(0, seen - 3))) < 0:
        seen = len(data)
        if len(data) >= access.HEAD_LIMIT:
            raise Refusal(431, "invalid_request_error", "The request head is longer than 64 KB.")
        client.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            piece = client.recv(access.HEAD_LIMIT - len(data))
        except TimeoutError:
            raise Refusal(408, "invalid_request_error", "The request head did not come within 5 s.") from None
        if not piece:
            return b"", b""
        data += piece
    client.settimeout(None)
    end += len(access.END)
    return bytes(data[:end]), bytes(data[end:])


def request_id() -> str:
    """In the form of the API's own."""
    return "req_" + os.urandom(12).hex()
