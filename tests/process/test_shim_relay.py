"""The relay: who is let in, and what its clients see when the sidecar dies, lingers or floods them."""

import hashlib
import itertools
import json
import os
import signal
import socket
import statistics
import threading
import time
from pathlib import Path

import pytest

from shim.relay.forwarding import REPEATS
from shim.relay.replay_buffer import SHELF
from shim.relay.server import SEATS
from tests.support.place import Place, Session, read_answer
from tests.support.processes import find_relay
from tests.support.waiting import wait_until

MEGABYTE = bytes(range(256)) * 4096


def kill_sidecar(place: Place) -> None:
    """Returns when it is gone, as far as the kernel is concerned."""
    pid = place.starts()[-1]
    os.kill(pid, signal.SIGKILL)
    # Not merely a zombie: while one of its threads is still dying, so are its sockets.
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_request_goes_through_and_back_unchanged(session: Session) -> None:
    body = os.urandom(100_000)
    answer = session.ask("/echo", body, method="POST")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n" + body)


def test_either_header_may_carry_the_token(session: Session) -> None:
    assert status_of(session.ask("/echo", authorization=None, x_api_key=session.token)) == 200
    assert status_of(session.ask("/echo", x_api_key="another")) == 200


@pytest.mark.parametrize("token", [None, "Bearer wrong", "Bearer ", "Basic x"])
def test_without_the_token_nothing_is_forwarded(place: Place, session: Session, token: str | None) -> None:
    answer = session.ask("/echo", authorization=token)
    assert status_of(answer) == 401
    error = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert error["error"]["type"] == "authentication_error"
    assert f"request-id: {error['request_id']}".encode() in answer
    assert place.status()["requests"]["total"] == 1  # the status itself


def test_another_terminals_token_is_a_wrong_token(place: Place, session: Session) -> None:
    other = Session(place)
    assert status_of(session.ask("/echo", authorization=f"Bearer {other.token}")) == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://example.org"},
        {"sec_fetch_site": "cross-site"},
        {"host": "evil.example"},
        {"host": "127.0.0.1:1"},
        {"method": "OPTIONS"},
    ],
)
def test_web_pages_are_refused_with_the_right_token_even(session: Session, headers: dict) -> None:
    answer = session.ask("/echo", **headers)
    assert status_of(answer) == 403
    assert b"access-control" not in answer.lower()


def test_localhost_is_a_name_of_the_port(session: Session) -> None:
    assert status_of(session.ask("/echo", host=f"localhost:{session.port}")) == 200


def test_health_needs_no_token_and_starts_nothing(place: Place, session: Session) -> None:
    assert json.loads(session.ask("/health", authorization=None).partition(b"\r\n\r\n")[2])["pid"] == place.starts()[0]
    kill_sidecar(place)
    answer = session.ask("/health", authorization=None)
    assert status_of(answer) == 503
    assert b'"api_error"' in answer
    assert len(place.starts()) == 1


def test_a_refused_connection_starts_nothing(place: Place, session: Session) -> None:
    kill_sidecar(place)
    for headers in ({"authorization": None}, {"origin": "null"}, {"host": "evil"}):
        assert status_of(session.ask("/echo", **headers)) in (401, 403)
    assert len(place.starts()) == 1


def test_a_head_that_is_too_long_or_too_strange_is_refused(session: Session) -> None:
    for head, status in {b"GET / HTTP/1.1\r\nx: " + b"x" * 70_000: 431, b"nonsense\r\n\r\n": 400}.items():
        with session.connect() as connection:
            connection.sendall(head)
            assert status_of(read_answer(connection)) == status


def test_a_head_may_come_byte_by_byte(session: Session) -> None:
    with session.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in session.head("/echo", "POST", content_length=2) + b"hi":
            connection.sendall(bytes([byte]))
        assert read_answer(connection).endswith(b"hi")


def test_a_silent_connection_is_ended_after_five_seconds(session: Session) -> None:
    with session.connect() as connection:
        started = time.monotonic()
        connection.sendall(b"GET / HT")
        assert status_of(read_answer(connection)) == 408
        assert 4 < time.monotonic() - started < 8


def test_a_connection_can_be_kept_for_many_requests(session: Session) -> None:
    with session.connect() as connection:
        for number in range(20):
            body = str(number).encode()
            connection.sendall(session.head("/echo", "POST", content_length=len(body)) + body)
            assert read_answer(connection).endswith(b"\r\n\r\n" + body)


def test_a_sidecar_that_died_before_a_request_is_started_again_unnoticed(place: Place, session: Session) -> None:
    kill_sidecar(place)
    assert session.ask("/echo", b"hello", method="POST").endswith(b"hello")
    assert len(place.starts()) == 2


def test_two_terminals_agree_on_the_next_sidecar(place: Place, session: Session) -> None:
    other = Session(place)
    kill_sidecar(place)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda each=each: answers.append(each.ask("/echo", b"x", method="POST")))
        for each in [session, other] * 5
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [status_of(answer) for answer in answers] == [200] * 10
    assert len(place.starts()) == 2
    assert len(place.status()["leases"]) == 2


@pytest.mark.parametrize("before", [0, 1])
def test_a_request_that_its_sidecar_died_over_is_answered_by_the_next(
    place: Place, session: Session, before: int
) -> None:
    """Its client learns nothing of it: there need not be any retry in it."""
    body = os.urandom(300_000)
    with session.connect() as connection:
        for _ in range(before):
            connection.sendall(session.head("/echo"))
            assert status_of(read_answer(connection)) == 200
        connection.sendall(session.head("/die-once", "POST", content_length=len(body)) + body)
        assert read_answer(connection).endswith(b"\r\n\r\n" + body)
    assert len(place.starts()) == 2


def test_a_body_that_was_under_way_when_the_sidecar_died_arrives_at_the_next(place: Place, session: Session) -> None:
    body = os.urandom(300_000)
    with session.connect() as connection:
        connection.sendall(session.head("/echo", "POST", content_length=len(body)) + body[:100_000])
        looks = itertools.count(1)  # each is a request as well
        wait_until(lambda: place.status()["requests"]["total"] > next(looks))
        kill_sidecar(place)
        connection.sendall(body[100_000:])
        assert read_answer(connection).endswith(b"\r\n\r\n" + body)
    assert len(place.starts()) == 2


@pytest.mark.parametrize("before", [0, 1])
def test_a_request_that_kills_every_sidecar_becomes_a_503_to_retry(place: Place, session: Session, before: int) -> None:
    with session.connect() as connection:
        for _ in range(before):
            connection.sendall(session.head("/echo"))
            assert status_of(read_answer(connection)) == 200
        connection.sendall(session.head("/die", "POST", content_length=1) + b"x")
        answer = read_answer(connection)
    assert status_of(answer) == 503
    assert b"\r\nretry-after: 1\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "api_error"
    assert session.ask("/echo", b"again", method="POST").endswith(b"again")
    assert len(place.starts()) == 1 + REPEATS + 1


def test_a_request_too_large_to_be_kept_becomes_a_503_to_retry(place: Place, session: Session) -> None:
    answer = session.ask("/die-once", bytes(SHELF + 1), method="POST")
    assert status_of(answer) == 503
    assert len(place.starts()) == 1


def test_an_answer_cut_by_the_sidecars_death_ends_in_a_reset(place: Place, session: Session) -> None:
    """Never a clean end: a client that reads until the end would take half an answer for the whole."""
    for _ in range(10):
        with session.connect() as connection:
            connection.sendall(session.head("/begin-and-wait"))
            seen = b""
            while not seen.endswith(b"hello\r\n"):
                seen += connection.recv(4096)
            kill_sidecar(place)
            with pytest.raises(ConnectionResetError):
                assert connection.recv(4096) != b""


def test_the_sidecars_own_end_of_a_connection_is_passed_on_politely(session: Session) -> None:
    with session.connect() as connection:
        connection.sendall(session.head("/close"))
        data = b""
        while piece := connection.recv(4096):
            data += piece
        assert data.endswith(b"bye")


def test_a_client_that_leaves_is_noticed_by_the_sidecar(place: Place, session: Session) -> None:
    connection = session.connect()
    connection.sendall(session.head("/begin-and-wait"))
    while not connection.recv(4096).endswith(b"hello\r\n"):
        pass
    connection.close()
    wait_until((place.run / "saw-the-end").exists)


def test_half_close_and_much_data_upwards(session: Session) -> None:
    with session.connect() as connection:
        connection.sendall(session.head("/until-end", "POST"))
        expected = hashlib.sha256()
        for _ in range(64):
            connection.sendall(MEGABYTE)
            expected.update(MEGABYTE)
        connection.shutdown(socket.SHUT_WR)
        assert read_answer(connection).endswith(expected.hexdigest().encode())


def test_much_data_downwards(session: Session) -> None:
    with session.connect() as connection:
        connection.sendall(session.head("/megabytes", x_count=64))
        rest = connection.recv(100).partition(b"\r\n\r\n")[2]
        received, size = hashlib.sha256(rest), len(rest)
        while size < 64 << 20:
            piece = connection.recv(1 << 20)
            assert piece
            received.update(piece)
            size += len(piece)
        expected = hashlib.sha256()
        for _ in range(64):
            expected.update(MEGABYTE)
        assert received.hexdigest() == expected.hexdigest()


def test_silent_connections_lock_nobody_out(session: Session) -> None:
    """More of them than there are seats; a client with a token is served all the same."""
    silent = [session.connect() for _ in range(SEATS + 50)]
    for connection in silent:
        connection.sendall(b"GET")
    times = []
    for _ in range(20):
        started = time.monotonic()
        assert status_of(session.ask("/echo")) == 200
        times.append(time.monotonic() - started)
    for connection in silent:
        connection.close()
    assert statistics.median(times) < 0.2
    assert max(times) < 3


def test_a_shell_with_few_descriptors_gets_the_seats_that_they_suffice_for(place: Place) -> None:
    """Without one to reach the sidecar with, a connection would be taken for the loss of it."""
    place.shim = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh", *place.shim]
    session = Session(place)
    kept = [session.connect() for _ in range(30)]
    for connection in kept:
        connection.sendall(session.head("/echo"))
        assert status_of(read_answer(connection)) == 200
    late = [session.connect() for _ in range(30)]
    for connection in kept:
        connection.close()
    for connection in late:
        connection.sendall(session.head("/echo"))
        assert status_of(read_answer(connection)) == 200
        connection.close()
    assert len(place.starts()) == 1


def test_more_clients_than_seats_are_all_served(session: Session) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(status_of(session.ask("/echo", b"x", method="POST"))))
        for _ in range(SEATS + 50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * (SEATS + 50)


def test_a_start_that_fails_is_a_503_with_its_reason(place: Place) -> None:
    """The relay keeps the environment it was born with, so the fake itself must change its mind."""
    hook = place.folder / "sidecar"
    original = place.environment["CLAUDE_LOCAL_TEST_SIDECAR"]
    full = f'if [ -e "{place.folder}/full" ]; then echo "error 74 the disk is full" >&3; exit; fi'
    hook.write_text(f'#!/bin/sh\n{full}\nexec {original} "$@"\n')
    hook.chmod(0o755)
    place.environment["CLAUDE_LOCAL_TEST_SIDECAR"] = str(hook)
    session = Session(place)
    (place.folder / "full").touch()
    kill_sidecar(place)
    answer = session.ask("/echo")
    assert status_of(answer) == 503
    assert b"the disk is full" in answer
    assert b"retry-after" in answer
    (place.folder / "full").unlink()
    wait_until(lambda: status_of(session.ask("/echo")) == 200)


def test_a_killed_relay_frees_the_lease(place: Place, session: Session) -> None:
    os.kill(find_relay(session.port), signal.SIGKILL)
    wait_until(lambda: not place.status()["leases"])
    assert session.end() == 0


def test_nothing_rides_along_with_a_question_that_needs_no_token(session: Session) -> None:
    """A second request on the same connection would reach the sidecar, which believes what comes over its socket."""
    with session.connect() as connection:
        free = session.head("/health", authorization=None)
        connection.sendall(free + session.head("/control/status", authorization=None))
        said = b""
        while data := connection.recv(65536):
            said += data
    assert said.count(b"HTTP/1.1 ") == 1
    assert b'"leases"' not in said


def test_the_sidecar_is_not_controlled_through_the_port(session: Session) -> None:
    for path in ("/control/status", "/control/stop", "/control/lease"):
        assert session.ask(path).startswith(b"HTTP/1.1 404")
