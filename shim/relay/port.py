"""The invocation's port on 127.0.0.1: ours until the command has ended, whatever becomes of the relay that serves it.

The command knows the address for life, and sends token and prompts to whoever answers there. So it holds the port
itself, in a socket that it inherits and knows nothing of: a relay that is killed leaves a port that nobody else can
take, another user least of all.
"""

import socket
import sys

HOST = "127.0.0.1"

BACKLOG = 128
"""Connections that wait when all seats are taken."""

TRIES = 3
"""Ports to try: between its two sockets one could be listened at by another, who must guess the number for that."""


def claim(platform: str = sys.platform) -> tuple[socket.socket, socket.socket]:
    """The relay's listening socket, and what holds its port in the command."""
    for _ in range(TRIES if platform == "linux" else 0):
        try:
            return _listener_and_guard()
        except OSError:
            continue
    # Elsewhere two sockets at one port, of which one listens, are not known to stay out of each other's way. The
    # command then holds the listening one, and who connects after the relay's end waits instead of being refused.
    listener = socket.create_server((HOST, 0), backlog=BACKLOG)
    return listener, listener.dup()


def _listener_and_guard() -> tuple[socket.socket, socket.socket]:
    """Two sockets at one port. The second never listens: without the first, whoever connects is refused at once."""
    guard = socket.socket()
    try:
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        guard.bind((HOST, 0))
        listener = socket.create_server(guard.getsockname(), backlog=BACKLOG)
        # From now on it shares with nobody: neither at this address nor at the wildcard, however they ask.
        guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        guard.close()
        raise
    return listener, guard
