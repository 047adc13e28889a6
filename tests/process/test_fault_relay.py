"""The relay under attack and under load: strangers, other users, floods, kills at any moment. `--full` means it."""

import hashlib
import http.client
import os
import random
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import FULL
from tests.process.test_shim_relay import kill_sidecar, status_of
from tests.support.place import Place, Session, read_answer
from tests.support.processes import find_relay, resident
from tests.support.real_sidecar import REAL, Sidecar

STRANGERS = 10_000 if FULL else 400
MIRRORED = 100 if FULL else 2
KILLS = 200 if FULL else 8
SLOW_READERS = 100
DRIPPING, DRIP_S = 200, 0.5
QUESTIONS = 1000 if FULL else 100


def together(count: int, act: Callable[[int], None]) -> None:
    """Call `act` with 0 … count - 1, eight at a time."""
    numbers = iter(range(count))
    lock = threading.Lock()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while (number := take()) is not None:
                act(number)
        except BaseException as error:
            failures.append(error)

    def take() -> int | None:
        with lock:
            return next(numbers, None)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_strangers_are_all_refused_and_start_nothing(place: Place, session: Session) -> None:
    """With no token, with a wrong one and with one that is nearly right; by a relay whose sidecar is dead."""
    token = session.token
    last = "0" if token[-1] != "0" else "1"
    wrong = ["", "cl-", token[:-1], token + "0", token[:-1] + last, token.upper(), f"{token}\u00e9", "a" * 60_000]
    offers: list[dict[str, object]] = [{"authorization": None}]
    offers += [{"authorization": f"Bearer {each}"} for each in wrong] + [{"authorization": None, "x_api_key": wrong[4]}]
    offers += [{"authorization": token}, {"authorization": f"Basic {token}"}, {"authorization": None, "cookie": token}]
    kill_sidecar(place)

    def ask(number: int) -> None:
        with session.connect() as connection:
            head = session.head("/v1/messages", "POST", **offers[number % len(offers)])
            connection.sendall(head.decode().encode("latin-1"))
            assert status_of(read_answer(connection)) == 401

    together(STRANGERS, ask)
    assert len(place.starts()) == 1
    assert status_of(session.ask("/echo")) == 200


PAGES: list[dict[str, object]] = [
    {"origin": "null"},
    {"origin": "http://127.0.0.1"},
    {"sec_fetch_site": "same-origin"},
    {"sec_fetch_site": "none"},
    {"method": "OPTIONS", "access_control_request_private_network": "true"},
    {"host": "rebound.example"},
    {"host": None},
    {"host": "127.0.0.1"},
    {"host": "[::1]:80"},
    {"host": "127.0.0.1.rebound.example"},
]


@pytest.mark.parametrize("path", ["/health", "/echo"])
def test_a_browser_is_refused_whatever_it_asks(place: Place, session: Session, path: str) -> None:
    """Also what needs no token, also under a name that was made to point at this machine, and it starts nothing."""
    kill_sidecar(place)
    for page in [*PAGES, {"origin": f"http://127.0.0.1:{session.port}"}, {"host": f"user@127.0.0.1:{session.port}"}]:
        answer = session.ask(path, **page)
        assert status_of(answer) == (400 if page.get("host", "") is None else 403), page  # HTTP/1.1 needs a Host
        assert b"access-control" not in answer.lower()
    assert len(place.starts()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="takes a second user, whom only root can become")
def test_another_users_connection_to_the_socket_is_closed_without_a_word(short_dir: Path, tiny: Path) -> None:
    """Even where the directory lets them through: it is the kernel that is asked."""
    sidecar = Sidecar(short_dir, REAL, str(tiny))
    try:
        sidecar.start()
        short_dir.chmod(stat.S_IRWXU | stat.S_IXGRP | stat.S_IXOTH)
        sidecar.socket.chmod(0o666)
        assert said_to(65534, sidecar.socket) == b""
        assert said_to(os.geteuid(), sidecar.socket).startswith(b"HTTP/1.1 200")
    finally:
        sidecar.close()


def said_to(uid: int, path: Path) -> bytes:
    """What the sidecar answers to a user's question about health."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setuid(uid)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                os.write(writer, connection.recv(65536))
        except ConnectionError:
            pass
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


class Drippers:
    """Strangers who send their heads a letter at a time, and come back as soon as they are thrown out."""

    def __init__(self, session: Session, count: int) -> None:
        self._session = session
        self._stop = threading.Event()
        self.returns = 0
        self._connections = [session.connect() for _ in range(count)]
        self._thread = threading.Thread(target=self._drip)
        self._thread.start()

    def _drip(self) -> None:
        while not self._stop.wait(DRIP_S):
            for number, connection in enumerate(self._connections):
                try:
                    connection.sendall(b"G")
                except OSError:
                    self.returns += 1
                    connection.close()
                    self._connections[number] = self._session.connect()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._connections:
            connection.close()


def test_strangers_who_never_finish_a_word_keep_nobody_waiting(session: Session, figure: Callable[[str], None]) -> None:
    """More than there are seats. A good client, with a connection for each request, is told from them by its token."""

    def ask() -> float:
        began = time.perf_counter()
        assert status_of(session.ask("/echo")) == 200
        return time.perf_counter() - began

    def p50_p99() -> tuple[float, float]:
        times = sorted(ask() * 1000 for _ in range(QUESTIONS))
        return times[len(times) // 2], times[len(times) * 99 // 100]

    before = p50_p99()
    drippers = Drippers(session, DRIPPING)
    ask()
    beside = p50_p99()
    drippers.close()
    after = p50_p99()
    figure(
        f"{QUESTIONS} requests, p50 and p99 in ms: alone {before[0]:.1f}, {before[1]:.1f}; beside {DRIPPING} dripping "
        f"strangers, who came back {drippers.returns} times, {beside[0]:.1f}, {beside[1]:.1f}; after them "
        f"{after[0]:.1f}, {after[1]:.1f}"
    )


def test_much_data_both_ways_at_once_with_half_close(session: Session) -> None:
    block = os.urandom(1 << 20)
    for _ in range(MIRRORED):
        sent, received = hashlib.sha256(), hashlib.sha256()
        with session.connect() as connection:
            connection.sendall(session.head("/mirror", "POST"))

            def send(connection: socket.socket = connection, sent: "hashlib._Hash" = sent) -> None:
                for number in range(64):
                    piece = block[number:] + block[:number]
                    connection.sendall(piece)
                    sent.update(piece)
                connection.shutdown(socket.SHUT_WR)

            sender = threading.Thread(target=send)
            sender.start()
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1000)
            received.update(head.partition(b"\r\n\r\n")[2])
            while data := connection.recv(1 << 20):
                received.update(data)
            sender.join()
        assert received.digest() == sent.digest()


def test_slow_readers_cost_two_buffers_each(session: Session) -> None:
    """Backpressure: what a client does not read stays with the sidecar."""
    relay = find_relay(session.port)
    before = resident(relay)
    connections = [session.connect() for _ in range(SLOW_READERS)]
    for connection in connections:
        connection.sendall(session.head("/megabytes", x_count=50))
    for _ in range(5):
        for connection in connections:
            assert connection.recv(1)
    grown = resident(relay) - before
    for connection in connections:
        connection.close()
    assert grown < 20_000, f"{grown} kB"


def test_a_kill_at_any_moment_ends_in_an_answer_an_error_or_a_reset(place: Place, session: Session) -> None:
    """Never in half an answer that looks like a whole one."""
    chance = random.Random(1)
    seen: list[str] = []
    for _ in range(KILLS):
        assert status_of(session.ask("/echo")) == 200  # one that lives
        clients = [threading.Thread(target=lambda: seen.append(outcome(session))) for _ in range(4)]
        for client in clients:
            client.start()
        threading.Event().wait(chance.uniform(0, 0.12))  # the moment is what is tried
        kill_sidecar(place)
        for client in clients:
            client.join()
    assert set(seen) <= {"answer", "error", "reset"}, seen
    assert len(seen) == 4 * KILLS
    print({kind: seen.count(kind) for kind in sorted({*seen})})


def outcome(session: Session) -> str:
    """How a request of a client that never retries ends."""
    connection = http.client.HTTPConnection("127.0.0.1", session.port, timeout=60)
    try:
        connection.request("GET", "/slowly", headers={"authorization": f"Bearer {session.token}"})
        answer = connection.getresponse()
        body = answer.read()
    except ConnectionResetError:
        return "reset"
    except http.client.HTTPException as error:
        return repr(error)
    finally:
        connection.close()
    if answer.status == 503:
        return "error"
    return "answer" if (answer.status, body) == (200, b"word" * 20) else f"{answer.status} {body!r}"
