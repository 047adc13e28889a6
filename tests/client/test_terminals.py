"""Terminals together and alone: what they share, what each has for itself, how they end, and what goes wrong."""

import os
import pty
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sidecar.models.resolve import DEMO
from tests.client.conftest import GRACE
from tests.client.test_sdk import HELLO, ask, make_client, text_of
from tests.process.test_shim_launch import read_until
from tests.support.home import LIMIT, MODEL, SHIM, Home
from tests.support.place import Session, read_answer
from tests.support.processes import is_running
from tests.support.waiting import wait_until


@pytest.fixture
def open_terminal(home: Home) -> Callable[[], Session]:
    """Opens one more terminal of the same user."""
    return lambda: Session(home)  # type: ignore[arg-type]  # it needs no more of a place than `start`


@pytest.fixture
def terminal(open_terminal: Callable[[], Session]) -> Iterator[Session]:
    session = open_terminal()
    yield session
    session.end()


def greets(terminal: Session, max_retries: int = 0) -> bool:
    with make_client(terminal, max_retries=max_retries) as client:
        return len(text_of(ask(client)).split()) == 5


def test_two_terminals_have_a_port_and_token_each_and_one_engine(
    home: Home, open_terminal: Callable[[], Session]
) -> None:
    one, two = open_terminal(), open_terminal()
    assert (one.port, one.token) != (two.port, two.token)
    assert greets(one)
    before = home.engine()
    assert greets(two)
    assert home.engine() == before
    engines = [process for process in home.machine.processes() if "sidecar.engine.worker" in process.cmdline()]
    assert [process.pid for process in engines] == [before]
    theirs = {(terminal.port, terminal.process.pid) for terminal in (one, two)}
    wait_until(lambda: {(lease["port"], lease["pid"]) for lease in home.status()["leases"]} == theirs)
    assert one.end() == two.end() == 0


def test_two_terminals_stream_at_the_same_time(open_terminal: Callable[[], Session]) -> None:
    """Neither waits for the other's end: each has its first word before the other's last."""
    spans: dict[int, list[float]] = {}
    together = threading.Barrier(2)
    text = " ".join(["stone garden lamp river"] * 8)

    def run(terminal: Session) -> None:
        with make_client(terminal) as client:
            assert greets(terminal)
            together.wait(LIMIT)
            asked = [{"role": "user", "content": f"say {text}"}]
            with client.messages.stream(model=MODEL, max_tokens=300, messages=asked) as stream:  # type: ignore[arg-type]
                spans[terminal.port] = [time.monotonic() for _ in stream.text_stream]

    terminals = [open_terminal(), open_terminal()]
    threads = [threading.Thread(target=run, args=[terminal]) for terminal in terminals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    one, two = spans.values()
    assert len(one) > 5
    assert len(two) > 5
    assert max(one[0], two[0]) < min(one[-1], two[-1])
    assert [terminal.end() for terminal in terminals] == [0, 0]


def test_a_token_opens_its_own_port_only_and_only_while_its_command_lives(
    home: Home, open_terminal: Callable[[], Session]
) -> None:
    one, two = open_terminal(), open_terminal()
    assert status_of(one.ask("/v1/models")) == 200
    assert status_of(one.ask("/v1/models", authorization=f"Bearer {two.token}")) == 401
    assert one.end() == 0
    wait_until(lambda: len(home.status()["leases"]) == 1)
    with pytest.raises(ConnectionRefusedError):
        one.connect().close()
    # The sidecar itself, past all relays.
    assert ask_sidecar(home, one.token) == 401
    assert ask_sidecar(home, two.token) == 200
    assert two.end() == 0


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def ask_sidecar(home: Home, token: str) -> int:
    """The status of a request on the Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(home.machine.run / "socket"))
        connection.sendall(f"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        return status_of(read_answer(connection))


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_exit_code_is_the_commands(home: Home, code: int) -> None:
    result = home.call("sh", "-c", f"exit {code}")
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "")


def test_a_missing_command_is_127_and_one_that_cannot_run_126(home: Home) -> None:
    assert home.call("no-such-command").returncode == 127
    (home.project / "data").write_text("x")
    assert home.call("./data").returncode == 126


def test_a_signal_ends_the_command_and_frees_its_lease(home: Home, open_terminal: Callable[[], Session]) -> None:
    terminal = open_terminal()
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.process.wait(LIMIT) == -signal.SIGTERM
    wait_until(lambda: not home.status()["leases"])


def test_ctrl_c_in_a_terminal_ends_the_command_as_without_us(home: Home) -> None:
    pid, screen = pty.fork()
    if pid == 0:
        os.execve(SHIM[0], [*SHIM, "sh", "-c", "echo ready; exec sleep 60"], home.environment)
    seen = read_until(screen, b"ready")
    os.write(screen, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    os.close(screen)
    assert b"Traceback" not in seen
    wait_until(lambda: not home.status()["leases"])


def test_the_next_request_after_the_engine_was_killed_is_answered(home: Home, terminal: Session) -> None:
    assert greets(terminal)
    before = home.engine()
    os.kill(before, signal.SIGKILL)
    assert greets(terminal, max_retries=2)
    assert home.engine() != before


@pytest.mark.full
@pytest.mark.parametrize("victim", ["engine", "sidecar"])
def test_a_request_under_way_when_its_engine_or_sidecar_is_killed_is_answered_by_the_next(
    home: Home, terminal: Session, victim: str
) -> None:
    """By a client that never retries.

    The prompt takes the model seconds to read, so the request is under way when the kill comes.
    """
    answers: list[str] = []
    text = f"{victim}: " + "stone garden lamp river. " * 800
    asked = [{"role": "user", "content": text}, {"role": "assistant", "content": "Hello!"}, *HELLO]

    def run() -> None:
        with make_client(terminal, max_retries=0) as client:
            answers.append(text_of(ask(client, asked)))

    before = home.engine() if victim == "engine" else home.status()["pid"]
    assert greets(terminal)
    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: home.status()["requests"]["running"] == 1)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not is_running(before))
    thread.join(LIMIT)
    assert [len(answer.split()) for answer in answers] == [5]


def test_the_next_request_after_the_sidecar_was_killed_is_answered(home: Home, terminal: Session) -> None:
    """The same port and token: the relay starts another sidecar, the user notices a pause at most."""
    assert greets(terminal)
    before = home.status()["pid"]
    engine = home.engine()
    os.kill(before, signal.SIGKILL)
    assert greets(terminal, max_retries=2)
    assert home.status()["pid"] != before
    # Two models in memory are what must never be: the old engine sees its end of the pipe.
    wait_until(lambda: not is_running(engine))


def test_status_says_what_runs_to_people_and_to_scripts(home: Home, terminal: Session) -> None:
    engine = home.engine()
    table = home.status()
    assert table["running"] is True
    assert table["model"]["name"] == MODEL
    assert table["engine"] == {"pid": engine, "state": "ready"}
    [lease] = [lease for lease in table["leases"] if lease["pid"] == terminal.process.pid]
    assert (lease["command"], lease["folder"]) == ("sh", str(home.project))
    text = home.call("status").stdout
    for part in (MODEL, f"pid {table['pid']}", str(terminal.port), "safe"):
        assert part in text


def test_stop_ends_everything_and_the_next_request_starts_it_again(home: Home, terminal: Session) -> None:
    engine = home.engine()
    assert home.call("stop").returncode == 0
    wait_until(lambda: not is_running(engine))
    assert greets(terminal, max_retries=2)


def test_stop_and_status_where_nothing_runs_start_nothing(lonely: Home) -> None:
    for word, said in (("status", "nothing runs"), ("stop", "nothing was running")):
        result = lonely.call(word)
        assert (result.returncode, result.stdout) == (0, f"{said}\n")
    assert not lonely.machine.processes()


def test_nothing_is_left_after_the_grace_period(lonely: Home) -> None:
    terminal = Session(lonely)  # type: ignore[arg-type]
    assert greets(terminal)
    engine = lonely.engine()
    assert engine in [process.pid for process in lonely.machine.processes()]
    assert terminal.end() == 0
    lonely.machine.wait_until_empty(GRACE + 10)
    assert not list(lonely.machine.run.glob("claude-settings-*"))
    assert not (lonely.machine.run / "socket").exists()


@pytest.mark.parametrize(
    ("spoil", "code", "named"),
    [
        ("missing", 66, "config.json"),
        ("corrupt", 65, "model.safetensors"),
        ("cut off", 65, "model.safetensors"),
        ("offline", 69, "demo"),
        ("unknown", 64, "demo"),
        ("config", 78, "config.toml"),
    ],
)
def test_what_cannot_work_is_told_in_two_lines_and_the_next_try_does(
    lonely: Home, spoil: str, code: int, named: str
) -> None:
    good = dict(lonely.environment)
    config = lonely.folder / ".config" / "claude-local" / "config.toml"
    spoilt(spoil, lonely, config)
    result = lonely.call("echo", "ran")
    assert (result.returncode, result.stdout) == (code, ""), result
    assert result.stderr.startswith("claude-local: ")
    assert 1 <= result.stderr.count("\n") <= 2
    assert named in result.stderr
    config.unlink(missing_ok=True)
    lonely.environment = good
    result = lonely.call("echo", "ran")
    assert (result.returncode, result.stdout, result.stderr) == (0, "ran\n", "")


def spoilt(what: str, home: Home, config: Path) -> None:
    """Make it so that no model can be had."""
    environment = home.environment
    model = home.folder / "model"
    if what == "missing":
        environment["CLAUDE_LOCAL_MODEL"] = str(model)
    elif what in ("corrupt", "cut off"):
        shutil.copytree(DEMO, model)
        weights = model / "model.safetensors"
        weights.write_bytes(b"\xff" * 1000 if what == "corrupt" else weights.read_bytes()[:-1000])
        environment["CLAUDE_LOCAL_MODEL"] = str(model)
    elif what == "offline":
        environment |= {"CLAUDE_LOCAL_MODEL": "phi-3-mini", "HF_ENDPOINT": "http://127.0.0.1:1"}
    elif what == "unknown":
        environment["CLAUDE_LOCAL_MODEL"] = "fie-3"
    else:
        config.parent.mkdir(parents=True)
        config.write_text("grace = ")
