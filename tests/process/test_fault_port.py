"""The invocation's port is nobody else's while its command lives, above all once its relay has been killed."""

import errno
import itertools
import os
import shlex
import signal
import socket
import sys
import threading

import pytest

from shim.relay import port as ports
from tests.support import census, users
from tests.support.place import Place, Session, relays
from tests.support.processes import find_relay
from tests.support.waiting import wait_until

ADDRESSES = [
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET, "0.0.0.0"),
    (socket.AF_INET6, "::"),
    (socket.AF_INET6, "::ffff:127.0.0.1"),
]
"""Whoever listens at one of these is asked by a client of 127.0.0.1."""

OPTIONS = [socket.SO_REUSEADDR, socket.SO_REUSEPORT]


def taken(port: int) -> list[str]:
    """The ways in which this process, as whoever it is, can have a port: each address, each mix of options."""
    ways = []
    for (family, address), chosen in itertools.product(
        ADDRESSES, itertools.chain.from_iterable(itertools.combinations(OPTIONS, count) for count in range(3))
    ):
        with socket.socket(family) as rival:
            for option in chosen:
                rival.setsockopt(socket.SOL_SOCKET, option, 1)
            if family == socket.AF_INET6:
                rival.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            try:
                rival.bind((address, port))
                rival.listen()
                ways.append(f"{address} {chosen}")
            except OSError as error:
                assert error.errno == errno.EADDRINUSE, error
    return ways


def taken_by_another(port: int) -> str:
    """The same for another user; as text, since it comes from a process of theirs."""
    return users.run_as(users.SECOND, lambda: taken(port))


def kill_relay(session: Session) -> None:
    relay = find_relay(session.port)
    os.kill(relay, signal.SIGKILL)
    wait_until(lambda: not census.holders_of(session.port))


@users.needed
def test_another_user_never_gets_the_port_while_the_command_lives(session: Session) -> None:
    """They would receive the token and every prompt, and their answers could call tools."""
    assert taken_by_another(session.port) == "[]"
    kill_relay(session)
    assert taken_by_another(session.port) == "[]"
    port = session.port
    session.end()
    assert "127.0.0.1 ()" in taken_by_another(port)


@users.needed
def test_who_tries_all_the_time_does_not_get_the_port_in_the_moment_of_the_kill(place: Place) -> None:
    """Binding without a pause, from before the kill until after it."""
    for _ in range(3):
        session = Session(place)
        stop, tried = threading.Event(), []

        def rival(session: Session = session, stop: threading.Event = stop, tried: list = tried) -> None:
            while not stop.is_set():
                tried.append(taken(session.port))

        thread = threading.Thread(target=rival)
        thread.start()
        kill_relay(session)
        wait_until_grown(tried)
        stop.set()
        thread.join()
        assert not any(tried)
        session.end()


def wait_until_grown(tried: list) -> None:
    seen = len(tried)
    wait_until(lambda: len(tried) > seen + 2)


def test_after_the_relays_end_a_client_is_refused_at_once(session: Session) -> None:
    """Rather than left to wait for nobody: it tries again, and then says what is wrong."""
    kill_relay(session)
    with pytest.raises(ConnectionRefusedError):
        session.connect()


LET_GO = """
import os, stat, sys, time
for name in map(int, os.listdir("/dev/fd")):
    try:
        kind = os.fstat(name).st_mode
    except OSError:
        continue
    if name >= 100 and (stat.S_ISFIFO(kind) or "all" in sys.argv):
        os.close(name)
print("done", flush=True)
sys.stdin.read() if "all" in sys.argv else (os.close(1), os.close(2), time.sleep(600))
"""
SAY = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN";'


def test_a_job_that_inherits_the_port_alone_keeps_no_relay(place: Place) -> None:
    """The port is no lease: who holds it, and has let go of the lifeline, is not waited for."""
    job = shlex.join([sys.executable, "-IS", "-c", LET_GO])
    session = Session(place, f"{SAY} {job} </dev/null & echo $!; exit 0")
    child = int(session.process.stdout.readline())
    try:
        assert session.process.stdout.readline() == b"done\n"
        wait_until(lambda: not relays(place))
        assert not taken(session.port), "it holds the port"
    finally:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: taken(session.port))


def test_a_command_that_closes_all_it_was_not_told_of_is_served_as_ever(place: Place) -> None:
    """Some do so for safety's sake. The port is the relay's alone then."""
    session = Session(place, f"{SAY} exec {shlex.join([sys.executable, '-IS', '-c', LET_GO, 'all'])}")
    assert session.process.stdout.readline() == b"done\n"
    assert session.ask("/echo").startswith(b"HTTP/1.1 200")
    kill_relay(session)
    assert taken(session.port)
    session.end()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_port_is_held_by_what_the_command_gets(platform: str) -> None:
    """On every platform: with the relay's own socket closed, binding fails; only Linux can refuse connections."""
    listener, guard = ports.claim(platform)
    port = listener.getsockname()[1]
    with guard:
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0]:
            pass
        listener.close()
        assert not taken(port)
        if platform == "linux":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        else:
            socket.create_connection(("127.0.0.1", port)).close()
    assert taken(port)


def test_a_kernel_without_such_a_pair_gives_the_listening_socket_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> tuple[socket.socket, socket.socket]:
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr(ports, "_listener_and_guard", refuse)
    listener, guard = ports.claim("linux")
    with listener, guard:
        assert os.path.sameopenfile(listener.fileno(), guard.fileno())
