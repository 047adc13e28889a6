"""The start protocol and its HTTP, against a scripted other end of a Unix socket."""

import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shim.errors import Died, Failure, Outdated
from shim.lease import attach, http
from sidecar.shared import protocol, run_directory
from sidecar.shared.protocol import LeaseEvent, LeaseRequest
from sidecar.shared.run_directory import RunDirectory

REQUEST = LeaseRequest(token_sha256="0" * 64, pid=1, command="sh", folder="/", port=1, model="demo")
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
GRANTED = b'17\r\n{"event": "granted"}  \n\r\n'


@pytest.fixture
def directory() -> Iterator[RunDirectory]:
    """Short, since a socket's path has 100 bytes."""
    import shutil

    path = Path(f"/tmp/cl-{os.getpid()}-{os.urandom(4).hex()}")
    path.mkdir(mode=0o700)
    yield RunDirectory(path)
    shutil.rmtree(path)


@contextmanager
def serving(directory: RunDirectory, *answers: bytes, keep: bool = True) -> Iterator[list[bytes]]:
    """A sidecar that reads a request and says one thing, to one client after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory.socket))
    listener.listen()
    requests: list[bytes] = []
    connections: list[socket.socket] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            connections.append(connection)
            requests.append(connection.recv(65536))
            if answer:
                connection.sendall(answer)
            if not keep:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield requests
    finally:
        thread.join(20)
        for connection in (*connections, listener):
            connection.close()
        directory.socket.unlink(missing_ok=True)


def never(deadline: float) -> None:
    raise AssertionError("nothing was to be started")


def test_a_running_sidecar_grants_a_lease_and_nothing_is_started(directory: RunDirectory) -> None:
    with serving(directory, HEAD + GRANTED) as requests:
        lease = attach.attach(directory, REQUEST, never)
        assert lease.granted == LeaseEvent("granted")
        assert lease.alive()
        lease.close()
    assert requests[0].startswith(b"POST /control/lease HTTP/1.1\r\nhost: localhost\r\n")
    assert LeaseRequest.decode(requests[0].partition(b"\r\n\r\n")[2]) == REQUEST


def test_events_follow_until_the_sidecar_is_gone(directory: RunDirectory) -> None:
    event = LeaseEvent("ready", model="m", context_window=5)
    line = event.encode()
    with serving(directory, HEAD + GRANTED + b"%x\r\n%s\r\n" % (len(line), line), keep=False):
        lease = attach.attach(directory, REQUEST, never)
        assert list(lease.events) == [event]
        assert not lease.alive()
        lease.close()


def test_unread_events_do_not_hide_the_end(directory: RunDirectory) -> None:
    line = LeaseEvent("ready").encode()
    with serving(directory, HEAD + GRANTED + b"%x\r\n%s\r\n" % (len(line), line), keep=False):
        lease = attach.attach(directory, REQUEST, never)
    assert not lease.alive()
    lease.close()


def test_a_sidecar_that_is_leaving_is_followed_by_a_new_one(directory: RunDirectory) -> None:
    """`retry`, and an end without a word, mean the same: lock, look again, start."""
    started = []
    with serving(directory, HEAD + b'13\r\n{"event": "retry"}\n\r\n', b"", HEAD + GRANTED, keep=False):
        lease = attach.attach(directory, REQUEST, started.append)
        lease.close()
    assert len(started) == 1


def test_a_start_by_somebody_else_meanwhile_is_used(directory: RunDirectory) -> None:
    def start(deadline: float) -> None:
        context = serving(directory, HEAD + GRANTED)
        context.__enter__()
        running.append(context)
        raise Failure("another one holds the lock")

    running: list = []
    lease = attach.attach(directory, REQUEST, start)
    lease.close()
    running[0].__exit__(None, None, None)


def test_a_start_that_fails_is_told(directory: RunDirectory) -> None:
    def start(deadline: float) -> None:
        raise Failure("no disk", 74)

    with pytest.raises(Failure, match="no disk") as caught:
        attach.attach(directory, REQUEST, start)
    assert caught.value.exit_code == 74


@pytest.mark.parametrize(("deaths", "granted"), [(1, True), (2, False)])
def test_one_death_at_the_start_is_bad_luck_and_two_are_told(
    directory: RunDirectory, deaths: int, granted: bool
) -> None:
    running: list = []

    def start(deadline: float) -> None:
        running.append(None)
        if len(running) <= deaths:
            raise Died("it died")
        running.append(serving(directory, HEAD + GRANTED))
        running[-1].__enter__()

    if granted:
        attach.attach(directory, REQUEST, start).close()
        running[-1].__exit__(None, None, None)
    else:
        with pytest.raises(Failure, match="it died"):
            attach.attach(directory, REQUEST, start)
        assert len(running) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HEAD + b'2b\r\n{"event": "refused", "reason": "too busy"}\n\r\n', "too busy"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "HTTP 404"),
        (b"SSH-2.0-OpenSSH\r\n", "not understood"),
        (HEAD + b"zz\r\n", "not understood"),
        (HEAD + b"fffffff\r\n", "not understood"),
        (HEAD + b"3\r\n{]\n\r\n", "not understood"),
    ],
)
def test_another_answer_is_a_failure_with_a_sentence(directory: RunDirectory, answer: bytes, reason: str) -> None:
    with serving(directory, answer), pytest.raises(Failure, match=reason):
        attach.attach(directory, REQUEST, never)


def test_a_sidecar_that_hangs_is_given_up(directory: RunDirectory) -> None:
    with serving(directory, b""), pytest.raises(Failure, match="did not answer"):
        attach.attach(directory, REQUEST, never, limit=0.2)


def test_another_users_process_gets_not_one_byte(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "peer_uid", lambda connection: os.geteuid() + 1)
    with serving(directory, b"") as requests, pytest.raises(Failure, match="another user"):
        attach.attach(directory, REQUEST, never)
    assert requests == [b""]


def test_one_starts_while_the_others_wait(directory: RunDirectory) -> None:
    starts = []
    contexts: list = []

    def start(deadline: float) -> None:
        starts.append(deadline)
        contexts.append(serving(directory, *[HEAD + GRANTED] * 8))
        contexts[0].__enter__()

    leases: list[attach.Lease] = []
    threads = [
        threading.Thread(target=lambda: leases.append(attach.attach(directory, REQUEST, start))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(starts), len(leases)) == (1, 8)
    for lease in leases:
        lease.close()
    contexts[0].__exit__(None, None, None)


def feed(pieces: list[bytes]) -> io.BufferedReader:
    class Slow(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
            piece = pieces.pop(0) if pieces else b""
            buffer[: len(piece)] = piece
            return len(piece)

    return io.BufferedReader(Slow())


WHOLE = HEAD + b"3\r\na\nb\r\n2;x=y\r\nc\n\r\n1\r\nd\r\n0\r\n\r\n"


@pytest.mark.parametrize("cut", [lambda data: [data], lambda data: [bytes([byte]) for byte in data]])
def test_lines_are_put_together_however_they_come(cut: Callable[[bytes], list[bytes]]) -> None:
    stream = feed(cut(WHOLE))
    status, headers = http.answer(stream)
    assert status == 200
    assert list(http.lines(stream, headers)) == [b"a", b"bc", b"d"]


def test_an_answer_that_is_cut_anywhere_is_no_answer() -> None:
    for length in range(len(WHOLE) - len(b"\r\n")):
        stream = feed([WHOLE[:length]] if length else [])
        with pytest.raises(EOFError):
            list(http.lines(stream, http.answer(stream)[1]))


def test_a_body_with_a_length_is_read_too() -> None:
    stream = feed([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na\nb\nrest"])
    assert list(http.lines(stream, http.answer(stream)[1])) == [b"a", b"b"]


class Rested:
    """A clock that has left a pause out: of the time that passes here it sees nothing."""

    def now(self) -> float:
        return 100.0

    @contextmanager
    def kept(self) -> Iterator[None]:
        yield


def test_a_time_limit_that_ran_out_while_we_were_stopped_has_not_run_out(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel counts it all the same: the one who is asked was stopped as well, and answers when asked again."""
    monkeypatch.setattr(attach, "OWN", Rested())
    with serving(directory, b"", HEAD + GRANTED):
        attach.attach(directory, REQUEST, never, limit=0.2).close()


@pytest.mark.parametrize(("event", "of_ours"), [("refused", 1), ("retry", -2)])
def test_a_sidecar_of_another_protocol_that_we_have_started_ourselves_is_the_last(
    directory: RunDirectory, event: str, of_ours: int
) -> None:
    line = LeaseEvent(event, reason="another version", protocol=protocol.PROTOCOL + of_ours).encode()
    answer = HEAD + b"%x\r\n%s\r\n" % (len(line), line)
    starts = []

    def start(deadline: float) -> None:
        starts.append(deadline)
        context.enter_context(serving(directory, answer))

    with ExitStack() as context, pytest.raises(Outdated):
        attach.attach(directory, REQUEST, start)
    assert len(starts) == 1
