"""Global mode: its port, who holds it, and what is left of it. The sidecar is the fake; relay and files are real."""

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from shim.claude_code import install
from shim.global_mode import service_units
from shim.global_mode.settings_file import SPARE
from tests.conftest import FULL
from tests.support.fake_sidecar import ROOT
from tests.support.place import Place, read_answer
from tests.support.processes import find_relay, free_port, is_running
from tests.support.waiting import wait_until

BEFORE = '{"theme":"dark",\n "env":{"ANTHROPIC_BASE_URL":"https://before.example"}}'


class Standing(Place):
    """A user's place, and the port of their global mode."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.settings = folder / ".claude" / "settings.json"
        self.settings.parent.mkdir()
        self.settings.write_text(BEFORE)
        self.files = folder / "data" / "global"
        self.ways(grace=0.3)

    def on(self, *more: str, **options: object) -> subprocess.CompletedProcess:
        return self.call("global", "on", "--detached", "--port", str(self.port), *more, **options)

    def off(self) -> None:
        result = self.call("global", "off")
        assert result.returncode == 0, result

    @property
    def token(self) -> str:
        return (self.files / "token").read_text().strip()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def ask(self, path: str, authorization: str | None = "", method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """Status and body of one request; "" is the right token."""
        lines = {"host": f"127.0.0.1:{self.port}", "connection": "close", **headers}
        if authorization is not None:
            lines["authorization"] = authorization or f"Bearer {self.token}"
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        with self.connect() as connection:
            connection.sendall(f"{method} {path} HTTP/1.1\r\n{text}\r\n".encode())
            head, _, body = read_answer(connection).partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def ours(self) -> list[psutil.Process]:
        """Every process of this place."""
        mark = str(self.folder)
        return [each for each in psutil.process_iter() if mark in " ".join(cmdline(each))]

    def wait_until_at_rest(self) -> None:
        wait_until(lambda: not any(map(is_running, self.starts())))

    def clean(self) -> None:
        for process in self.ours():
            process.kill()
        super().clean()


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Standing]:
    place = Standing(tmp_path)
    yield place
    place.clean()
    assert not place.logged(), place.logged()


def test_on_and_off_leave_nothing_and_change_nothing(place: Standing) -> None:
    before = sorted(path.relative_to(place.folder) for path in place.folder.rglob("*"))
    turned_on = place.on()
    assert turned_on.returncode == 0
    assert "first prompt is large for that: the window has 12,345 tokens" in turned_on.stdout
    env = json.loads(place.settings.read_text())["env"]
    assert env["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{place.port}"
    assert (env["ANTHROPIC_MODEL"], env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"]) == ("fake", "12345")
    assert place.ask("/echo")[0] == 200
    place.off()
    assert place.settings.read_text() == BEFORE
    place.wait_until_at_rest()
    assert not place.ours()
    after = [path.relative_to(place.folder) for path in place.folder.rglob("*")]
    assert sorted(path for path in after if path.parts[0] not in ("logs", "data")) == before
    assert not place.files.exists()


def test_off_when_it_is_off_changes_nothing(place: Standing) -> None:
    assert place.call("global", "off").stdout == "global mode is off\n"
    assert place.call("global").stdout == "global mode is off\n"
    assert place.settings.read_text() == BEFORE


def test_who_has_no_claude_is_told_how_to_get_one(place: Standing) -> None:
    """Also where `claude-local claude` works: that has a private one."""
    programs = place.folder / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to("/bin/sh")
    (programs / "cat").symlink_to("/bin/cat")
    place.environment["PATH"] = str(programs)
    assert "no `claude` on your PATH yet: npm install -g" in place.on().stdout
    private = place.folder / "data/claude-code" / install.VERSION / install.BINARY
    private.parent.mkdir(parents=True)
    private.touch(0o755)
    assert f"ln -s {private} ~/.local/bin/claude" in place.on().stdout
    (programs / "claude").symlink_to("/bin/true")
    assert "PATH" not in place.on().stdout
    place.off()


def test_the_doctor_does_not_take_us_for_a_fault(place: Standing) -> None:
    assert "ANTHROPIC_BASE_URL" in place.call("doctor", "settings").stdout
    place.on()
    said = place.call("doctor", "settings").stdout
    assert "global mode is on" in said
    assert "ANTHROPIC_BASE_URL" not in said


def test_status_says_what_there_is(place: Standing) -> None:
    place.on()
    table = json.loads(place.call("global", "status", "--json").stdout)
    assert table == {
        "on": True,
        "settings": str(place.settings),
        "in_settings": True,
        "port": place.port,
        "url": f"http://127.0.0.1:{place.port}",
        "holder": "relay",
        "outdated_service": False,
        "health": table["health"],
        "model": "phi-3-mini",
        "default_model": "phi-3-mini",
        "token_file": str(place.files / "token"),
    }
    os.kill(find_relay(place.port), signal.SIGKILL)
    assert "not in order" in place.call("global").stdout
    assert place.on().returncode == 0
    assert json.loads(place.call("global", "--json").stdout)["on"]


def test_the_token_is_in_its_file_alone(place: Standing) -> None:
    """Not in settings.json, which may be under version control; not where other users can look."""
    place.on()
    secret = place.token.encode()
    for path in [path for path in place.folder.rglob("*") if path.is_file()]:
        if secret in path.read_bytes():
            assert path == place.files / "token"
            assert path.stat().st_mode & 0o777 == 0o600
    assert place.files.stat().st_mode & 0o777 == 0o700
    for process in place.ours():
        assert secret.decode() not in " ".join(process.cmdline())
        assert secret.decode() not in str(process.environ())
    helper = json.loads(place.settings.read_text())["apiKeyHelper"]
    assert subprocess.run(helper, shell=True, capture_output=True).stdout.strip() == secret


def test_health_is_there_when_nothing_is_loaded_and_starts_nothing(place: Standing) -> None:
    place.on()
    place.wait_until_at_rest()
    started = place.starts()
    status, body = place.ask("/health", authorization=None)
    assert (status, json.loads(body)["status"]) == (200, "idle")
    assert place.ask("/health", authorization=None, method="HEAD") == (200, b"")
    assert place.starts() == started
    assert place.ask("/echo")[0] == 200
    assert json.loads(place.ask("/health", authorization=None)[1])["pid"] == place.starts()[-1]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"authorization": None}, 401),
        ({"authorization": "Bearer cl-wrong"}, 401),
        ({"origin": "https://example.org"}, 403),
        ({"host": "evil.example"}, 403),
        ({"method": "OPTIONS"}, 403),
        ({"path": "/control/stop"}, 404),
    ],
)
def test_others_are_refused_and_start_nothing(place: Standing, request_: dict, status: int) -> None:
    place.on()
    place.wait_until_at_rest()
    started = place.starts()
    assert place.ask(**{"path": "/echo", **request_})[0] == status
    assert place.starts() == started


def test_a_port_that_is_taken_is_said_before_anything_is_changed(place: Standing) -> None:
    with socket.create_server(("127.0.0.1", place.port)):
        result = place.on()
    assert result.returncode == 73
    assert f"port {place.port}: Address already in use" in result.stderr
    assert place.settings.read_text() == BEFORE


@pytest.mark.parametrize("text", ["", "{", "[]", "// mine\n{}"])
def test_settings_that_are_not_understood_are_left_alone(place: Standing, text: str) -> None:
    place.settings.write_text(text)
    result = place.on()
    assert result.returncode == 78
    assert "settings.json is not understood" in result.stderr
    assert place.settings.read_text() == text
    assert not place.starts()


def test_a_model_that_cannot_be_had_is_said_before_anything_is_changed(place: Standing) -> None:
    place.ways(events=[{"event": "failed", "reason": "no such model", "exit_code": 69}], grace=0.3)
    result = place.on()
    assert (result.returncode, result.stderr) == (69, "claude-local: no such model\n")
    assert place.settings.read_text() == BEFORE


def test_another_port_replaces_the_first(place: Standing) -> None:
    place.on()
    first, place.port = place.port, free_port()
    assert place.on().returncode == 0
    assert place.ask("/echo")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first))
    place.off()
    assert place.settings.read_text() == BEFORE


def test_a_state_that_cannot_be_read_is_no_dead_end(place: Standing) -> None:
    """A disk that was full, an editor: what the message says to do must do."""
    assert place.on().returncode == 0
    (place.files / "state.json").write_text("[]")
    again = place.on()
    assert again.returncode == 70 and again.stderr.endswith("Run: claude-local global off\n")
    place.off()
    assert place.settings.read_text() == BEFORE
    assert not place.files.exists()
    place.wait_until_at_rest()
    assert not place.ours()


@pytest.mark.parametrize("text", ["", "[]", '{"path": 1}'])
@pytest.mark.parametrize("words", ["global", "global off", "uninstall --yes"])
def test_a_journal_that_cannot_be_read_is_said_in_a_line(place: Standing, text: str, words: str) -> None:
    place.files.mkdir(parents=True)
    (place.files / "journal.json").write_text(text)
    result = place.call(*words.split())
    assert result.returncode == 74 and result.stderr.count("\n") == 1
    assert f"and remove {place.files / 'journal.json'}" in result.stderr
    assert place.settings.read_text() == BEFORE


def test_many_at_once_agree(place: Standing) -> None:
    words = ["global", "on", "--detached", "--port", str(place.port)]
    crowd = [place.start(*words) for _ in range(5)] + [place.start("global", "off") for _ in range(5)]
    for process in crowd:
        process.communicate(timeout=60)
    assert place.on().returncode == 0
    place.off()
    assert place.settings.read_text() == BEFORE


def test_a_kill_at_any_moment_leaves_a_way_back(place: Standing, figure: Callable[[str], None]) -> None:
    """Of the whole command, at moments of chance; test_settings does it at each step of what writes settings.json."""
    kills = 0
    rounds = 100 if FULL else 6
    for number in range(rounds):
        chance = random.Random(number)
        action = ["on", "--detached", "--port", str(place.port)] if number % 2 else ["off"]
        process = place.start("global", *action)
        try:
            process.wait(chance.uniform(0.02, 0.7))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.communicate()
        assert json.loads(place.settings.read_text())["theme"] == "dark"
        if number % 4 == 3:
            place.off()
            assert place.settings.read_text() == BEFORE
            assert [path.name for path in place.settings.parent.iterdir()] == ["settings.json"]
            assert not Path(f"{place.settings}{SPARE}").exists()
    place.off()
    figure(f"{kills} of {rounds} killed")


class ServiceManager:
    """What systemd does with a socket unit: hold the socket, start the service when somebody connects and none runs.

    sd_listen_fds(3): the socket is descriptor 3, and two variables say so, one of them the process's own number.
    """

    SCRIPT = "import sys; from shim.global_mode import __main__ as m; m.LEAST = 0.3; sys.exit(m.main(sys.argv[1]))"

    def __init__(self, place: Standing) -> None:
        self.listener = socket.create_server(("127.0.0.1", place.port), backlog=100)
        self.started: list[int] = []
        self._command = [sys.executable, "-I", "-c", self.SCRIPT, str(place.files)]
        self._environment = {"HOME": str(place.folder), "PATH": os.environ["PATH"]}  # all that a service is given
        self._end, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while self._wake not in select.select([self.listener, self._wake], [], [])[0]:
            pid = os.fork()
            if pid == 0:
                os.dup2(self.listener.fileno(), 3)
                passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "claude-local.socket"}
                os.execve(self._command[0], self._command, self._environment | passed)
            self.started.append(pid)
            os.waitpid(pid, 0)

    def close(self) -> None:
        self._end.close()
        self._thread.join()
        self.listener.close()
        self._wake.close()


@pytest.mark.parametrize("how", [["-m"], [str(ROOT / "sidecar" / "__main__.py")]], ids=["module", "program"])
def test_a_service_of_an_older_version_still_starts_the_relay_and_is_told_of(place: Standing, how: list[str]) -> None:
    """Both names that such a service may hold. Turned on again, global mode is as new."""
    assert place.on().returncode == 0
    (relay,) = [each for each in place.ours() if "shim.global_mode" in cmdline(each)]
    relay.kill()
    wait_until(lambda: not is_running(relay.pid))
    units = place.folder / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    command = [sys.executable, "-I", *how, "shim.standing", str(place.files)]
    (units / "claude-local.service").write_text(service_units.systemd_service(command))
    state = json.loads((place.files / "state.json").read_text())
    (place.files / "state.json").write_text(json.dumps(state | {"holder": "systemd"}))
    reader, ready = os.pipe()
    with open(reader) as told:
        environment = {"HOME": str(place.folder), "PATH": os.environ["PATH"]}
        older = subprocess.Popen([*command, str(ready)], pass_fds=[ready], env=environment, start_new_session=True)
        os.close(ready)
        assert told.read() == "ready\n"
    assert place.ask("/health")[0] == 200 and place.ask("/echo")[0] == 200
    assert "An older version wrote the service" in place.call("global", "status").stdout
    assert "claude-local global on writes it anew" in place.logged()
    (place.folder / "logs" / "relay.log").unlink()
    assert place.on().returncode == 0
    older.wait(20)
    assert "older version" not in place.call("global", "status").stdout
    place.off()
    place.wait_until_at_rest()


@pytest.fixture
def manager(place: Standing) -> Iterator[ServiceManager]:
    """Global mode is on, and its port held by a service manager instead of a relay."""
    place.environment["CLAUDE_LOCAL_GRACE"] = "0"
    assert place.on().returncode == 0
    relay = find_relay(place.port)
    os.kill(relay, signal.SIGTERM)
    wait_until(lambda: not is_running(relay))
    place.wait_until_at_rest()
    manager = ServiceManager(place)
    yield manager
    for pid in manager.started[-1:]:
        if is_running(pid):
            os.kill(pid, signal.SIGTERM)
    manager.close()


def test_the_first_request_starts_the_relay_and_the_last_ends_it(place: Standing, manager: ServiceManager) -> None:
    assert place.ask("/echo")[0] == 200
    wait_until(lambda: not is_running(manager.started[0]))
    place.wait_until_at_rest()
    assert len(manager.started) == 1
    assert place.ask("/echo")[0] == 200
    assert len(manager.started) == 2


def test_health_starts_the_relay_alone(place: Standing, manager: ServiceManager) -> None:
    before = place.starts()
    assert place.ask("/health", authorization=None)[0] == 200
    assert len(manager.started) == 1
    assert place.starts() == before


def test_who_comes_while_the_relay_leaves_is_served_by_the_next(place: Standing, manager: ServiceManager) -> None:
    """A connection that nobody has accepted stays with who holds the socket."""
    for _ in range(40 if FULL else 4):
        assert place.ask("/echo")[0] == 200
        leaving = manager.started[-1]
        wait_until(lambda leaving=leaving: not is_running(leaving))
        assert place.ask("/echo")[0] == 200


def test_a_relay_that_is_killed_is_started_again(place: Standing, manager: ServiceManager) -> None:
    assert place.ask("/echo")[0] == 200
    os.kill(manager.started[0], signal.SIGKILL)
    assert place.ask("/echo")[0] == 200
    assert len(manager.started) == 2


def test_the_relay_of_a_service_holds_no_lease_of_its_own(place: Standing, manager: ServiceManager) -> None:
    """Only requests are use: an open session that asks nothing keeps no memory."""
    place.ways(grace=3)
    assert place.ask("/echo")[0] == 200
    leases = place.status()["leases"]
    assert [(lease["command"], lease["strong"]) for lease in leases] == [("global mode", False)]
    place.wait_until_at_rest()


def test_a_socket_that_others_can_reach_is_not_taken(place: Standing) -> None:
    place.on()
    os.kill(find_relay(place.port), signal.SIGTERM)
    script = (
        "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid());"
        "from shim.global_mode import socket_activation as activation; print(activation.listener())"
    )
    for address in ("0.0.0.0", "127.0.0.1"):
        with socket.create_server((address, 0)) as listener:
            os.set_inheritable(listener.fileno(), True)
            shell = f'exec "$@" 3<&{listener.fileno()}'
            result = subprocess.run(
                ["bash", "-c", shell, "bash", sys.executable, "-I", "-c", script],
                env={"LISTEN_FDS": "1", "PATH": os.environ["PATH"]},
                pass_fds=[listener.fileno()],
                capture_output=True,
                text=True,
                cwd=ROOT,
            )
        assert result.stdout.startswith("None" if address == "0.0.0.0" else "<socket"), result
