"""`claude-local CMD`: the command is exactly what it would be without us. Real processes, a fake sidecar."""

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.fake_sidecar import LIMITS, ROOT
from tests.support.place import Place, Session, relays
from tests.support.processes import is_running
from tests.support.waiting import wait_until


def test_a_missing_command_is_127_and_starts_nothing(place: Place) -> None:
    result = place.call("no-such-command", "x")
    assert (result.returncode, result.stderr) == (127, "claude-local: no-such-command: command not found\n")
    assert not place.starts()


def test_a_mistyped_word_of_ours_is_answered_with_a_hint(place: Place) -> None:
    result = place.call("statsu")
    assert result.returncode == 127
    assert "did you mean claude-local status?" in result.stderr


def test_a_command_that_cannot_run_is_126(place: Place) -> None:
    file = place.folder / "data"
    file.write_text("x")
    assert place.call(str(file)).returncode == 126
    assert place.call(str(place.folder)).returncode == 126
    assert not place.starts()


def test_a_script_without_a_first_line_runs_as_in_a_shell(place: Place) -> None:
    script = place.folder / "script"
    script.write_text('echo "$1"; exit 5\n')
    script.chmod(0o755)
    result = place.call(str(script), "hello")
    assert (result.returncode, result.stdout) == (5, "hello\n")


def test_a_broken_configuration_is_one_line_and_78(place: Place) -> None:
    folder = place.folder / ".config" / "claude-local"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("grace = ")
    place.environment.pop("XDG_CONFIG_HOME", None)
    result = place.call("true")
    assert result.returncode == 78
    assert result.stderr.count("\n") == 1
    assert "config.toml" in result.stderr


def test_an_unsafe_run_directory_is_refused(place: Place) -> None:
    place.run.chmod(0o755)
    result = place.call("true")
    assert result.returncode == 73
    assert str(place.run) in result.stderr
    place.run.chmod(0o700)


PROBE = """
import json, os, resource, signal, sys
fds = {}
for name in os.listdir("/dev/fd"):
    try:
        fds[name] = os.readlink(f"/proc/self/fd/{name}")
    except OSError:
        pass
print(json.dumps({
    "argv": [os.fsencode(word).hex() for word in sys.argv[1:]], "cwd": os.getcwd(), "umask": os.umask(0),
    "fds": sorted(map(int, fds)),
    "limits": [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")],
    "signals": [line for line in open("/proc/self/status") if line.startswith("Sig") and "SigQ" not in line],
    "session": os.getsid(0) == os.getsid(os.getppid()), "env": open("/proc/self/environ").read(),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_command_finds_everything_as_without_us(place: Place) -> None:
    """argv, folder, umask, limits, signals, descriptors; two more of these, at a hundred or above: the lifeline and the
    port."""
    # A C locale, in which Python changes its own environment; arguments that are no UTF-8.
    environment = {**place.environment, "LC_ALL": "", "LANG": "C"}
    for name in [name for name in environment if name.startswith("LC_")]:
        del environment[name]
    shell = f'umask 027; exec {shlex.join([sys.executable, "-S", "-c", PROBE])} "$@"'
    command = [b"sh", b"-c", shell.encode(), b"sh", b"a b", b"", b"\xff\xfe", "ü".encode()]
    options = {"cwd": place.folder, "env": environment, "stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    bare = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, **options).stdout)
    shim = [word.encode() for word in place.shim]
    ours = json.loads(subprocess.run([*shim, *command], stdout=subprocess.PIPE, check=True, **options).stdout)
    inherited = set(ours.pop("fds")) - set(bare.pop("fds"))
    assert len(inherited) == 2
    assert min(inherited) >= 100
    before, after = (
        dict(entry.split("=", 1) for entry in probe.pop("env").split("\0") if entry) for probe in (bare, ours)
    )
    assert set(before) <= set(after)
    added = {name: value for name, value in after.items() if before.get(name) != value}
    assert all(name.startswith(("ANTHROPIC_", "CLAUDE_", "API_TIMEOUT")) or "proxy" in name.lower() for name in added)
    assert added["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert added["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == str(LIMITS["context_window"])
    assert ours == bare


def test_closed_standard_streams_stay_closed(place: Place) -> None:
    look = "for fd in 0 2; do [ -e /dev/fd/$fd ] || echo closed; done"
    script = f"exec 0<&- 2>&-; {shlex.join([*place.shim, 'sh', '-c', look])}"
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=place.environment, timeout=60)
    assert result.stdout == "closed\nclosed\n"


def test_a_pipe_ends_with_the_command_although_the_relay_may_stay(place: Place) -> None:
    """`claude-local CMD | cat`: the relay holds nothing of the terminal, here with a child that keeps it alive."""
    script = "exec 7>&1; echo out; sleep 60 >/dev/null 2>&1 7>&- & echo $!"
    result = place.call("sh", "-c", script, timeout=20)
    child = int(result.stdout.split()[1])
    assert result.stdout.startswith("out\n")
    assert relays(place)
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not relays(place))


def test_a_closed_reader_ends_the_command_by_sigpipe(place: Place) -> None:
    """`claude-local yes | head`: no traceback, no endless process."""
    script = f"{{ {shlex.join([*place.shim, 'yes'])}; echo $? >&2; }} | head -n 1"
    result = subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=place.environment, timeout=60)
    assert (result.stdout, result.stderr) == ("y\n", "141\n")


def test_the_relay_ends_after_the_command(place: Place) -> None:
    place.call("true")
    wait_until(lambda: not relays(place))


def test_two_terminals_share_one_sidecar_with_a_port_and_token_each(place: Place) -> None:
    one, two = Session(place), Session(place)
    assert (one.port, one.token) != (two.port, two.token)
    assert len(place.starts()) == 1
    leases = place.status()["leases"]
    assert {lease["port"] for lease in leases} == {one.port, two.port}
    assert {lease["pid"] for lease in leases} == {one.process.pid, two.process.pid}
    assert all(lease["command"] == "sh" and lease["strong"] for lease in leases)
    assert one.end() == 0
    wait_until(lambda: len(place.status()["leases"]) == 1)
    assert two.ask("/echo", b"still here").endswith(b"still here")
    two.end()


def test_killing_the_command_frees_its_lease(place: Place) -> None:
    session = Session(place)
    started = time.monotonic()
    session.process.kill()
    session.process.wait()
    wait_until(lambda: not place.status()["leases"], seconds=5)
    assert time.monotonic() - started < 5
    wait_until(lambda: not relays(place))


def test_a_child_that_outlives_the_command_keeps_a_soft_lease(place: Place) -> None:
    script = 'echo "$ANTHROPIC_BASE_URL $ANTHROPIC_AUTH_TOKEN"; sleep 60 >/dev/null 2>&1 & exit 3'
    session = Session(place, script)
    assert session.process.wait(20) == 3
    wait_until(lambda: [lease["strong"] for lease in place.status()["leases"]] == [False])
    assert session.ask("/echo", b"late").endswith(b"late")
    (relay,) = relays(place)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_sleep = (folder / "cmdline").read_bytes() == b"sleep\x0060\x00"
            if is_sleep and str(place.run).encode() in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except OSError:
            continue
    wait_until(lambda: not is_running(relay))
    wait_until(lambda: not place.status()["leases"])


def test_a_failing_start_is_told_in_the_sidecars_words(place: Place) -> None:
    place.ways(start="error 69 no model: try CLAUDE_LOCAL_MODEL=demo")
    result = place.call("true")
    assert (result.returncode, result.stderr) == (69, "claude-local: no model: try CLAUDE_LOCAL_MODEL=demo\n")
    wait_until(lambda: not relays(place))


def test_a_sidecar_that_dies_at_once_is_told_with_its_log(place: Place) -> None:
    place.environment["CLAUDE_LOCAL_TEST_SIDECAR"] = f"{sys.executable} -c 1/0"
    result = place.call("true")
    assert result.returncode == 69
    assert "sidecar.log" in result.stderr
    log = place.folder / "logs" / "sidecar.log"
    assert "ZeroDivisionError" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("ways", "code"),
    [
        ({"first": "refused", "code": 75}, 75),
        ({"first": "refused"}, 69),
        ({"events": [{"event": "failed", "reason": "fake: no", "exit_code": 66}]}, 66),
    ],
)
def test_a_refusal_ends_the_launcher_with_its_reason(place: Place, ways: dict, code: int) -> None:
    place.ways(**ways)
    result = place.call("true")
    assert (result.returncode, result.stderr) == (code, "claude-local: fake: no\n")


def test_a_download_is_shown_and_the_command_waits_for_it(place: Place) -> None:
    steps = [{"event": "downloading", "model": "phi", "done": done, "total": 2_000_000_000} for done in (0, 10**9)]
    place.ways(events=[*steps, {"event": "loading", **LIMITS}])
    result = place.call("echo", "here")
    assert result.stdout == "here\n"
    assert result.stderr.splitlines() == [
        "claude-local: downloading phi: 0 % of 2.00 GB",
        "claude-local: downloading phi: 50 % of 2.00 GB",
        "claude-local: fake is here; it is loaded now",
    ]


def test_ctrl_c_while_waiting_leaves_nothing_behind(place: Place) -> None:
    place.ways(events=[{"event": "downloading", "model": "phi", "done": 1, "total": 3}])
    process = place.start("true")
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT  # 130 in a shell, and the shell knows why
    assert process.stderr.read() == b""
    wait_until(lambda: not relays(place))
    wait_until(lambda: not place.status()["leases"])


def test_ctrl_c_in_a_terminal_kills_the_command_and_not_the_relay_first(place: Place) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done"
        os.execve(place.shim[0], [*place.shim, "sh", "-c", script], place.environment)
    seen = read_until(terminal, b"ready")
    os.write(terminal, b"\x03")
    seen += read_until(terminal, b"caught")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    os.close(terminal)
    assert b"Traceback" not in seen
    wait_until(lambda: not relays(place))


def test_closing_the_terminal_frees_the_lease(place: Place) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(place.shim[0], [*place.shim, "sh", "-c", "echo ready; sleep 60"], place.environment)
    read_until(terminal, b"ready")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGHUP
    wait_until(lambda: not relays(place))


def read_until(terminal: int, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        assert select.select([terminal], [], [], 20)[0], data
        data += os.read(terminal, 4096)
    return data


def test_twenty_first_starts_at_once_make_one_sidecar(place: Place) -> None:
    processes = [place.start("true") for _ in range(20)]
    assert [process.wait(60) for process in processes] == [0] * 20
    for process in processes:
        process.communicate()
    assert len(place.starts()) == 1


def test_the_sidecar_is_started_far_from_the_terminal_and_its_secrets(place: Place) -> None:
    place.environment["ANTHROPIC_API_KEY"] = "sk-secret"
    session = Session(place)
    (pid,) = place.starts()
    environment = json.loads((place.run / "environment").read_text())
    assert "ANTHROPIC_API_KEY" not in environment
    assert environment["HOME"] == str(place.folder)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) not in (os.getsid(0), os.getsid(session.process.pid))
    opened = {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)}
    assert opened == {"/dev/null", str(place.folder / "logs" / "sidecar.log")}
    for process in (pid, *relays(place)):
        assert session.token.encode() not in Path(f"/proc/{process}/cmdline").read_bytes()
    assert session.token.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    session.end()


def test_status_and_stop_when_nothing_runs(place: Place) -> None:
    for word, said in (("status", "nothing runs"), ("stop", "nothing was running")):
        result = place.call(word)
        assert (result.returncode, result.stdout) == (0, f"{said}\n")
    assert place.status() == {"running": False}
    assert not place.starts()


def test_status_shows_what_runs_and_stop_ends_it(place: Place) -> None:
    session = Session(place)
    text = place.call("status").stdout
    assert str(session.port) in text
    assert "context 12,345 tokens" in text
    assert place.status()["running"] is True
    assert place.call("stop").returncode == 0
    assert place.status() == {"running": False}
    session.end()


def test_stop_reaches_a_sidecar_that_has_taken_its_socket_away(place: Place) -> None:
    """It finishes a long answer and has unlinked its socket: only the life lock says that it is there."""
    script = "import fcntl,os,signal,sys; f=os.open(sys.argv[1],os.O_RDWR|os.O_CREAT); fcntl.flock(f,fcntl.LOCK_EX); "
    script += "os.write(f,str(os.getpid()).encode()); print('held',flush=True); signal.pause()"
    lock = str(place.run / "life.lock")
    with subprocess.Popen([sys.executable, "-c", script, lock], stdout=subprocess.PIPE) as leaving:
        assert leaving.stdout is not None and leaving.stdout.readline()
        assert f"sidecar {leaving.pid} finishes" in place.call("stop").stdout
        assert leaving.poll() is None
        assert place.call("stop", "--now").stdout == "stopped\n"
        assert leaving.wait(10) == -signal.SIGTERM


def test_an_unknown_option_of_a_word_of_ours_is_64(place: Place) -> None:
    result = place.call("status", "--jsn")
    assert result.returncode == 64
    assert "--json" in result.stderr


def test_claude_gets_a_private_settings_file_that_is_removed(place: Place) -> None:
    """A stand-in for Claude Code that shows its arguments; the real one is in tests/client."""
    folder = place.folder / "bin"
    folder.mkdir()
    (folder / "claude").write_text('#!/bin/sh\necho "$@"; cat "$2"; ls -l "$2"\n')
    (folder / "claude").chmod(0o755)
    place.environment |= {"PATH": f"{folder}:{place.environment['PATH']}", "CLAUDE_LOCAL_PROFILE": "full"}
    result = place.call("--print", "--settings", '{"env": {"MINE": "1"}, "model": "opus"}', "hi there")
    arguments, rest = result.stdout.split("\n", 1)
    table, listing = json.JSONDecoder().raw_decode(rest)[0], rest[rest.rindex("}") + 1 :]
    path = arguments.split()[1]
    assert arguments == f"--settings {path} --print hi there"
    assert table["env"]["MINE"] == "1"
    assert table["env"]["ANTHROPIC_MODEL"] == "fake"
    assert table["model"] == "opus"
    assert table["permissions"] == {"disableAutoMode": "disable"}
    assert listing.startswith("-rw-------")
    wait_until(lambda: not Path(path).exists())


def test_settings_that_cannot_be_read_stop_before_anything_starts(place: Place) -> None:
    place.environment["PATH"] = f"{place.folder}:{place.environment['PATH']}"
    (place.folder / "claude").write_text("#!/bin/sh\n")
    (place.folder / "claude").chmod(0o755)
    assert place.call("--settings", "/no/such/file").returncode == 66
    assert place.call("--settings", "{broken").returncode == 64
    assert not place.starts()


def test_no_claude_and_no_installation_is_127_with_the_command_to_run(place: Place) -> None:
    place.environment |= {"PATH": "/nowhere", "CLAUDE_LOCAL_NO_INSTALL": "1"}
    result = place.call("--print", "hi")
    assert result.returncode == 127
    assert "npm install -g @anthropic-ai/claude-code@" in result.stderr
    del place.environment["CLAUDE_LOCAL_NO_INSTALL"]
    result = place.call("--print", "hi")
    assert result.returncode == 127
    assert "Node.js" in result.stderr


def test_npm_that_fails_is_quoted_and_leaves_nothing(place: Place) -> None:
    folder = place.folder / "bin"
    folder.mkdir()
    (folder / "npm").write_text("#!/bin/sh\necho npm error code ENOTFOUND >&2\nmkdir -p node_modules\nexit 1\n")
    (folder / "npm").chmod(0o755)
    (folder / "mkdir").symlink_to("/bin/mkdir")
    place.environment["PATH"] = str(folder)
    result = place.call("--print", "hi")
    assert result.returncode == 69
    assert "npm error code ENOTFOUND" in result.stderr
    assert sorted(path.name for path in (place.folder / "data" / "claude-code").iterdir()) == ["install.lock"]


def test_the_shim_loads_nothing_heavy() -> None:
    """Start-up time and the relay's memory: neither the sidecar's libraries nor the big parts of the standard one."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "import shim.main, shim.relay.process, shim.relay.server; print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-IS", "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    heavy = {"trio", "msgspec", "mlx", "h11", "asyncio", "http", "email", "ssl", "hashlib", "subprocess", "argparse"}
    assert not loaded & heavy
    shared = (
        "",
        ".shared",
        *(f".shared.{name}" for name in ("config", "pauses", "program", "protocol", "run_directory")),
    )
    assert {name for name in loaded if name.startswith("sidecar")} == {f"sidecar{name}" for name in shared}
