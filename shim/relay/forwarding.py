"""One connection, once it is let in: bytes both ways, and how it ends.

Two threads and two blocking copies. Backpressure is a send that waits, half-close is a shutdown passed on, and the
memory of a connection is two buffers, however slow its reader, and what it said last until an answer to it begins.
It knows no HTTP beyond the error it may send.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from shim.relay.replay_buffer import Memo

BUFFER = 64 * 1024
"""Bytes read at once; 400 MB/s and more, and 16 MB in all with 128 connections."""

REPEATS = 2
"""How often a connection asks again unnoticed. A request that kills every sidecar is for its client to judge."""

FAREWELL = 2.0
"""Seconds that a client may go on sending after our last word: closed at once, it would never read that word."""


class Exchange:
    """Forward between a client and a fresh connection to the sidecar until both ends are done."""

    def __init__(
        self,
        client: socket.socket,
        upstream: socket.socket,
        memo: Memo,
        ask_again: Callable[[bytes], socket.socket],
        is_alive: Callable[[], bool],
        apology: bytes,
    ) -> None:
        """`upstream` has taken what is in the `memo`."""
        self._client = client
        self._upstream = upstream
        self._memo = memo
        self._ask_again = ask_again
        """Say the words of a memo to another sidecar, if they are a request; raises Lost."""
        self._is_alive = is_alive
        """Whether the sidecar is alive, as far as the kernel knows."""
        self._apology = apology
        """The whole error answer for a request that was forwarded and never answered."""
        self._client_spoke_last = True  # the head that let it in
        self._answered = False
        self._client_is_done = False
        self._uploaded = threading.Event()
        self._speaking = threading.Lock()
        """Held while something is said upstream: what is said again must not be mixed with what comes next."""

    def run(self) -> None:
        """Returns when the connection is over; both sockets are closed then."""
        try:
            threading.Thread(target=self._upload, daemon=True).start()
            self._download()
        finally:
            self._memo.clear()
            shut(self._upstream, socket.SHUT_RDWR)
            self._upstream.close()

    def _upload(self) -> None:
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        try:
            while size := self._client.recv_into(buffer):
                with self._speaking:
                    self._client_spoke_last = True
                    self._memo.add(view[:size])
                    # A sidecar that is gone is the other thread's matter. What the client still has to say is read
                    # all the same: said again, or lost (see FAREWELL).
                    with contextlib.suppress(OSError):
                        self._upstream.sendall(view[:size])
            with self._speaking:
                self._client_is_done = True
                shut(self._upstream, socket.SHUT_WR)
        except OSError:
            # The client is gone for good, which the sidecar must learn at once: it may be generating for nobody.
            with self._speaking:
                self._client_is_done = True
                shut(self._upstream, socket.SHUT_RDWR)
        finally:
            self._uploaded.set()

    def _download(self) -> None:
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        repeats = 0
        while True:
            while size := _receive(self._upstream, buffer):
                if self._client_spoke_last:
                    self._client_spoke_last = False
                    self._memo.clear()
                self._answered = True
                try:
                    self._client.sendall(view[:size])
                except OSError:
                    shut(self._upstream, socket.SHUT_RDWR)
                    return self._close()
            orderly = self._is_orderly()
            if repeats == REPEATS or not self._repeat():
                return self._end_of_answers(orderly)
            repeats += 1

    def _is_orderly(self) -> bool:
        """Whether the sidecar chose to end the connection here, rather than died or gave an answer up.

        To end one that is in order it closes its sending side alone and waits for ours; a killed process closes both.
        Once our own side is closed the two look alike, and all that is left to ask is whether it lives.
        """
        try:
            self._upstream.send(b"")
            return True
        except OSError:
            return self._client_is_done and not self._is_gone()

    def _is_gone(self) -> bool:
        """A process that dies closes its descriptors one after the other, the oldest last: give it a moment."""
        for _ in range(10):
            if not self._is_alive():
                return True
            time.sleep(0.002)
        return False

    def _repeat(self) -> bool:
        """Ask another sidecar what this one left without a single byte of answer; False when that cannot be."""
        with self._speaking:
            words = self._memo.words()
            if self._client_is_done or not words:
                return False
            self._is_gone()  # until then it would be asked again itself
            try:
                upstream = self._ask_again(words)
            except Lost as lost:
                self._apology = lost.apology or self._apology
                return False
            self._upstream.close()
            self._upstream = upstream
            return True

    def _end_of_answers(self, orderly: bool) -> None:
        """The sidecar closed. Its own decision is passed on; its death must never look like the end of an answer.

        A client that has ended its sending side is one that left, to the sidecar, which then owes it no answer.
        A dead sidecar with the client having spoken last means a request without any answer: say so, it is retried.
        With the sidecar having spoken last, the answer may have been complete, or cut anywhere: only a reset tells
        the client to trust none of it; on a connection that is merely idle a reset does no harm.
        """
        if orderly and (self._answered or self._client_is_done):
            self._say_goodbye()
        elif self._client_spoke_last:
            with contextlib.suppress(OSError):
                self._client.sendall(self._apology)
            self._say_goodbye()
        else:
            # Wake the thread that reads: while it does, closing would not take effect.
            shut(self._client, socket.SHUT_RD)
            self._uploaded.wait(FAREWELL)
            reset(self._client)

    def _say_goodbye(self) -> None:
        shut(self._client, socket.SHUT_WR)
        self._uploaded.wait(FAREWELL)
        self._close()

    def _close(self) -> None:
        shut(self._client, socket.SHUT_RDWR)
        self._uploaded.wait(FAREWELL)
        self._client.close()


class Lost(Exception):
    """What was said cannot be said again: it is no request, or nobody is there (`apology`: the answer saying so)."""

    def __init__(self, apology: bytes = b"") -> None:
        super().__init__()
        self.apology = apology


def reset(connection: socket.socket) -> None:
    """End a TCP connection so that the other side cannot take it for the end of an answer."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def shut(connection: socket.socket, how: int) -> None:
    """Shut down one or both directions; that the other side was faster is no error."""
    with contextlib.suppress(OSError):
        connection.shutdown(how)


def _receive(connection: socket.socket, buffer: bytearray) -> int:
    try:
        return connection.recv_into(buffer)
    except OSError:
        return 0
