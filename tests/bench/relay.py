"""What the relay costs: a round trip through it beside one straight to the Unix socket, its bytes a second, its memory.

.venv/bin/python -m tests.bench.relay [rounds]

The other end is the tests' fake sidecar, which echoes: what is measured is the way, not the model.
"""

import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.place import Place, Session, read_answer
from tests.support.processes import find_relay, resident

MEGABYTES = 512
"""For each direction."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        try:
            session = Session(place)
            relay = find_relay(session.port)
            print(f"{'memory':24} {resident(relay) / 1024:8.1f} MB resident, nobody connected yet")
            compare(place, session, rounds)
            print(f"{'down':24} {down(session):8.0f} MB/s")
            print(f"{'up':24} {up(session):8.0f} MB/s")
            print(f"{'memory':24} {resident(relay) / 1024:8.1f} MB resident, after it")
        finally:
            place.clean()


def compare(place: Place, session: Session, rounds: int) -> None:
    """The same small request and answer on a connection that is kept, both ways in turn."""
    with session.connect() as relayed, socket.socket(socket.AF_UNIX) as straight:
        relayed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        straight.connect(str(place.run / "socket"))
        request = session.head("/echo", "POST", content_length=100) + bytes(100)
        times: dict[str, list[float]] = {"straight": [], "relayed": []}
        for _ in range(rounds):
            for name, connection in (("straight", straight), ("relayed", relayed)):
                began = time.perf_counter()
                connection.sendall(request)
                read_answer(connection)
                times[name].append((time.perf_counter() - began) * 1e6)
    for name, values in times.items():
        print(f"round trip, {name:12} {statistics.median(values):8.0f} µs median   {min(values):6.0f} µs best")
    added = statistics.median(times["relayed"]) - statistics.median(times["straight"])
    print(f"{'the relay adds':24} {added:8.0f} µs median")


def down(session: Session) -> float:
    """MB/s of an answer."""
    with session.connect() as connection:
        connection.sendall(session.head("/megabytes", x_count=MEGABYTES))
        return timed(lambda: drain(connection, MEGABYTES << 20))


def up(session: Session) -> float:
    """MB/s of a request. The other end hashes nothing: it reads, and answers at the end."""
    with session.connect() as connection:
        connection.sendall(session.head("/swallow", "POST", content_length=MEGABYTES << 20))
        block = os.urandom(1 << 20)

        def send() -> None:
            for _ in range(MEGABYTES):
                connection.sendall(block)
            read_answer(connection)

        return timed(send)


def drain(connection: socket.socket, size: int) -> None:
    buffer = bytearray(1 << 20)
    while size > 0:
        size -= connection.recv_into(buffer)


def timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return MEGABYTES / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
