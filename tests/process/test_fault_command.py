"""The command beside the bare one: how it ends, what a terminal does to it, what it finds. `--full` tries all codes."""

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys

import pytest

from tests.conftest import FULL
from tests.process.test_shim_launch import PROBE
from tests.support.fake_sidecar import LIMITS, ROOT
from tests.support.place import Place, relays
from tests.support.processes import is_running
from tests.support.waiting import wait_until

CODES = range(256) if FULL else (0, 1, 7, 126, 127, 255)
SIGNALS = ["HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM"]
SIGNALS += ["TERM", "XCPU", "XFSZ", "SYS"]


def test_the_exit_code_is_the_commands_own(place: Place) -> None:
    assert [place.call("sh", "-c", f"exit {code}").returncode for code in CODES] == [*CODES]


def test_a_signal_kills_the_command_as_without_us(place: Place) -> None:
    """Without a core file, which some of them would leave."""
    for name in SIGNALS if FULL else SIGNALS[::4]:
        script = f"ulimit -c 0; kill -{name} $$"
        bare = subprocess.run(["sh", "-c", script], check=False)
        assert bare.returncode == -getattr(signal, f"SIG{name}")
        assert place.call("sh", "-c", script).returncode == bare.returncode


class Shell:
    """An interactive shell in a terminal of its own, typed into as a person would: a line once the prompt is there."""

    def __init__(self, place: Place) -> None:
        environment = {**place.environment, "PS1": "prompt> ", "ENV": "", "TERM": "dumb"}
        self._seen = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(place.folder)
            os.execvpe("sh", ["sh", "-i"], environment)
        self.say("stty -echo")

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def say(self, line: str) -> None:
        """A line for the shell, which must have nothing else to do: what comes too early another might read."""
        self.until("prompt> ")
        self.type(f"{line}\n")

    def until(self, pattern: str) -> str:
        """The pattern's group, once the terminal shows it; forgets all up to there."""
        while not (match := re.search(pattern, self._seen)):
            assert select.select([self.terminal], [], [], 60)[0], self._seen
            self._seen += os.read(self.terminal, 4096).decode(errors="replace")
        self._seen = self._seen[match.end() :]
        return match[1] if match.groups() else match[0]

    def status(self) -> str:
        """Of the last command, once it has ended or stopped."""
        self.say("echo status $?")
        return self.until(r"status (\d+)")

    def close(self) -> None:
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


INTERRUPT, SUSPEND, END = "\x03", "\x1a", "\x04"


def job_control(place: Place, prefix: str) -> list[str]:
    """What a shell says of a command that is stopped, resumed, put aside, fetched back and interrupted."""
    shell = Shell(place)
    seen = []
    command = f"{prefix} sh -c 'echo be''gun; exec cat'"
    shell.say(command)
    shell.until("begun")
    shell.type(SUSPEND)
    seen.append(shell.status())
    shell.say("fg")
    shell.type("hello\n")
    seen.append(shell.until("hello"))
    shell.type(SUSPEND)
    seen.append(shell.status())
    shell.say("bg")
    seen.append(shell.status())
    shell.say("fg")
    shell.type("again\n")
    seen.append(shell.until("again"))
    shell.type(END)
    seen.append(shell.status())
    shell.say(command)
    shell.until("begun")
    shell.type(INTERRUPT)
    seen.append(shell.status())
    shell.say(f"{prefix} sh -c 'trap \"echo cau''ght; exit 9\" INT; echo be''gun; while :; do sleep 0.05; done'")
    shell.until("begun")
    shell.type(INTERRUPT)
    shell.until("caught")
    seen.append(shell.status())
    shell.say("exit")
    shell.close()
    return seen


def test_keys_and_job_control_do_what_they_do_without_us(place: Place) -> None:
    keeper = place.start("sh", "-c", "read line")
    bare = job_control(place, "")
    assert bare == ["148", "hello", "148", "0", "again", "0", "130", "9"]
    assert job_control(place, shlex.join(place.shim)) == bare
    keeper.communicate()


def test_a_terminal_that_hangs_up_takes_the_command_and_its_relay_along(place: Place) -> None:
    shell = Shell(place)
    shell.say(f"{shlex.join(place.shim)} sh -c 'echo pid $$ be''gun; exec sleep 60'")
    pid = int(shell.until(r"pid (\d+) begun"))
    assert relays(place)
    shell.close()
    wait_until(lambda: not is_running(pid))
    wait_until(lambda: not relays(place))
    wait_until(lambda: not place.status()["leases"])


def test_ctrl_z_while_the_launcher_waits_stops_it_and_fg_goes_on(place: Place) -> None:
    loading = {"event": "loading", "after": 1.0, **LIMITS}
    place.ways(events=[{"event": "downloading", "model": "phi", "done": 1, "total": 3}, loading])
    shell = Shell(place)
    shell.say(f"{shlex.join(place.shim)} sh -c 'echo be''gun; exit 5'")
    shell.until("downloading phi")
    shell.type(SUSPEND)
    assert shell.status() == "148"
    shell.say("fg")
    shell.until("begun")
    assert shell.status() == "5"
    shell.say("exit")
    shell.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_the_users_shell_has_set_reaches_the_command(place: Place) -> None:
    """Ignored signals, limits, an open descriptor, a mask of modes: set outside, around the prefix."""
    outside = "trap '' INT HUP QUIT USR1; ulimit -n 200; ulimit -c 0; umask 077; exec 7</dev/null; exec"
    probe = [sys.executable, "-S", "-c", PROBE, "a b", ""]
    found = []
    for prefix in ([], place.shim):
        script = f"{outside} {shlex.join([*prefix, *probe])}"
        options = {"cwd": place.folder, "env": place.environment, "stdin": subprocess.DEVNULL}
        result = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, check=True, **options)  # type: ignore[call-overload]
        found.append(json.loads(result.stdout))
    bare, ours = found
    assert 7 in bare["fds"]
    added, missing = set(ours["fds"]) - set(bare["fds"]), set(bare["fds"]) - set(ours["fds"])
    assert (len(added), missing) == (2, set()), "the lifeline and the port"
    for probed in found:
        del probed["fds"], probed["env"]
    assert ours == bare


def test_the_environment_is_the_users_and_what_the_readme_names(place: Place) -> None:
    """Through bin/claude-local, whose own variables are names that a user may have exported."""
    mine = {"root": "/mine", "self": "me", "target": "x", "complete": "no", "name": "n", "base": "b", "EMPTY": ""}
    environment = {**place.environment, **mine, "PWD": str(place.folder), "LANG": "C.UTF-8"}
    env = [sys.executable, "-IS", "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    options = {"env": environment, "cwd": place.folder, "capture_output": True, "check": True}
    bare = json.loads(subprocess.run(env, **options).stdout)  # type: ignore[call-overload]
    ours = json.loads(subprocess.run([ROOT / "bin" / "claude-local", *env], **options).stdout)  # type: ignore[call-overload]
    added = {name for name in {*bare, *ours} if bare.get(name) != ours.get(name)}
    allowed = ("ANTHROPIC_", "CLAUDE_CODE_", "CLAUDE_STREAM_", "API_TIMEOUT_MS", "NO_PROXY", "no_proxy")
    assert not [name for name in added if not name.startswith(allowed)]
