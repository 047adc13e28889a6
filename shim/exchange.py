"""One connection, once it is let in: bytes both ways, and how it ends.

Two threads and two blocking copies. Backpressure is a send that waits, half-close is a shutdown passed on, and the
memory of a connection is two buffers, however slow its reader. It knows no HTTP beyond the error it may send.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

BUFFER = 64 * 1024
"""Bytes read at once; 400 MB/s and more, and 16 MB in all with 128 connections."""

FAREWELL = 2.0
"""Seconds that a client may go on sending after our last word: closed at once, it would never read that word."""


class Exchange:
    """Forward between a client and a fresh connection to the sidecar until both ends are done."""

    def __init__(
        self, client: socket.socket, upstream: socket.socket, is_orderly: Callable[[], bool], apology: bytes
    ) -> None:
        self._client = client
        self._upstream = upstream
        self._is_orderly = is_orderly
        """Whether the sidecar is alive: asked when it closes, since a killed process closes just as politely."""
        self._apology = apology
        """The whole error answer for a request that was forwarded and never answered."""
        self._client_spoke_last = True  # the head that let it in
        self._answered = False
        self._client_is_done = False
        self._uploaded = threading.Event()

    def run(self) -> None:
        """Returns when the connection is over; both sockets are closed then."""
        try:
            threading.Thread(target=self._upload, daemon=True).start()
            self._download()
        finally:
            shut(self._upstream, socket.SHUT_RDWR)
            self._upstream.close()

    def _upload(self) -> None:
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        try:
            while size := self._client.recv_into(buffer):
                self._client_spoke_last = True
                try:
                    self._upstream.sendall(view[:size])
                except OSError:
                    # The sidecar is gone. What the client still has to say is read, and lost: see FAREWELL.
                    continue
            self._client_is_done = True
            shut(self._upstream, socket.SHUT_WR)
        except OSError:
            # The client is gone for good, which the sidecar must learn at once: it may be generating for nobody.
            shut(self._upstream, socket.SHUT_RDWR)
        finally:
            self._uploaded.set()

    def _download(self) -> None:
        buffer = bytearray(BUFFER)
        view = memoryview(buffer)
        while size := _receive(self._upstream, buffer):
            self._client_spoke_last = False
            self._answered = True
            try:
                self._client.sendall(view[:size])
            except OSError:
                break
        else:
            return self._end_of_answers()
        shut(self._upstream, socket.SHUT_RDWR)
        return self._close()

    def _end_of_answers(self) -> None:
        """The sidecar closed. Its own decision is passed on; its death must never look like the end of an answer.

        A client that has ended its sending side is one that left, to the sidecar, which then owes it no answer.
        A dead sidecar with the client having spoken last means a request without any answer: say so, it is retried.
        With the sidecar having spoken last, the answer may have been complete, or cut anywhere: only a reset tells
        the client to trust none of it; on a connection that is merely idle a reset does no harm.
        """
        orderly = self._is_orderly()
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
