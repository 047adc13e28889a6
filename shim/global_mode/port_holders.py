"""Who holds global mode's port while nobody asks: systemd, launchd, or where neither is there a relay that stays.

Each is told to begin and to end, as often as one likes. They know nothing of settings and tokens.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from shim.errors import UNAVAILABLE, Failure
from shim.global_mode import service_units
from shim.global_mode.state import Folder
from shim.lease.attach import locker
from sidecar.shared.program import program

SECONDS = 15.0
"""For a service manager's answer, and for a relay to begin or to end."""

OLDER_MODULE = "shim.standing"
"""By this name older versions start the relay; a module there hands over."""


class Holder(Protocol):
    """`name` is what the user sees."""

    name: str

    def begin(self, port: int, folder: Folder) -> None:
        """Hold the port from now on and after a restart of the machine; raises Failure."""

    def end(self, folder: Folder) -> None:
        """Let go of it, and of the relay that serves it. Nothing to do is no failure."""

    def files(self) -> list[Path]:
        """What it has left on disk."""


def find(platform: str = sys.platform) -> Holder:
    """The best that this machine has for this user."""
    if platform == "darwin":
        return Launchd()
    if shutil.which("systemctl") and _call("systemctl", "--user", "show", "--property=Version").returncode == 0:
        return Systemd()
    return Relay()


def named(name: str) -> Holder:
    """The holder of that name."""
    return next((holder for holder in (Systemd(), Launchd()) if holder.name == name), Relay())


def command(folder: Folder) -> list[str]:
    """What starts the relay: this very claude-local, wherever it is installed."""
    return program("shim.global_mode", str(folder.path))


def is_outdated(holder: Holder) -> bool:
    """Whether its service was written by an older version, and starts the relay by a name that it had."""
    return any(OLDER_MODULE in file.read_text("utf-8", "replace") for file in holder.files() if file.is_file())


class Systemd:
    """A socket unit of the user's own manager. It takes connections from login to logout."""

    name = "systemd"

    def __init__(self) -> None:
        base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        self._units = Path(base) / "systemd" / "user"
        self._socket, self._service = (self._units / f"{service_units.NAME}.{kind}" for kind in ("socket", "service"))

    def begin(self, port: int, folder: Folder) -> None:
        self._units.mkdir(parents=True, exist_ok=True)
        self._socket.write_text(service_units.systemd_socket(port), "utf-8")
        self._service.write_text(service_units.systemd_service(command(folder)), "utf-8")
        for words in (
            ["daemon-reload"],
            ["reset-failed", self._socket.name, self._service.name],
            ["stop", self._socket.name, self._service.name],  # a port may have changed
            ["enable", "--now", self._socket.name],
        ):
            done = _call("systemctl", "--user", *words)
            if done.returncode and words[0] in ("daemon-reload", "enable"):
                raise Failure(f"systemctl --user {' '.join(words)}: {_reason(done)}", UNAVAILABLE)

    def end(self, folder: Folder) -> None:
        if any(file.exists() for file in self.files()):
            _call("systemctl", "--user", "disable", "--now", self._socket.name)
            _call("systemctl", "--user", "stop", self._service.name)
            for file in self.files():
                file.unlink(missing_ok=True)
            _call("systemctl", "--user", "daemon-reload")
        _end_relay(folder)

    def files(self) -> list[Path]:
        wanted = self._units / "sockets.target.wants" / self._socket.name
        return [file for file in (self._socket, self._service, wanted) if file.exists() or file.is_symlink()]


class Launchd:
    """A launch agent of the user. It takes connections from login to logout."""

    name = "launchd"

    def __init__(self) -> None:
        self._agent = Path("~/Library/LaunchAgents").expanduser() / f"{service_units.LABEL}.plist"
        # A session on the screen has a domain of its own; one over ssh has the user's alone.
        self._domains = (f"gui/{os.getuid()}", f"user/{os.getuid()}")

    def begin(self, port: int, folder: Folder) -> None:
        self._bootout()
        self._agent.parent.mkdir(parents=True, exist_ok=True)
        self._agent.write_bytes(service_units.launchd_agent(port, command(folder)))
        done = [_call("launchctl", "bootstrap", domain, str(self._agent)) for domain in self._domains[:1]]
        if done[0].returncode:
            done.append(_call("launchctl", "bootstrap", self._domains[1], str(self._agent)))
        if done[-1].returncode:
            raise Failure(f"launchctl bootstrap: {_reason(done[-1])}", UNAVAILABLE)

    def end(self, folder: Folder) -> None:
        self._bootout()
        self._agent.unlink(missing_ok=True)
        _end_relay(folder)

    def files(self) -> list[Path]:
        return [self._agent] if self._agent.exists() else []

    def _bootout(self) -> None:
        if self._agent.exists():
            for domain in self._domains:
                _call("launchctl", "bootout", f"{domain}/{service_units.LABEL}")


class Relay:
    """A relay of ours, apart from any terminal. It is not there any more when the machine has been restarted."""

    name = "relay"

    def begin(self, port: int, folder: Folder) -> None:
        _end_relay(folder)
        reader, writer = os.pipe()
        with open(os.devnull, "rb+") as nothing:
            process = subprocess.Popen(
                ["sh", "-c", '"$@" & ', "sh", *command(folder), str(writer)],  # nobody's child when sh has ended
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                pass_fds=[writer],
                start_new_session=True,
                cwd="/",
            )
        process.wait()
        os.close(writer)
        with os.fdopen(reader) as ready:
            line = ready.read()
        if not line.startswith("ready"):
            raise Failure(line.strip() or "the relay of global mode ended while it was starting", UNAVAILABLE)

    def end(self, folder: Folder) -> None:
        _end_relay(folder)

    def files(self) -> list[Path]:
        return []


def _end_relay(folder: Folder) -> None:
    """End the relay that holds the life lock; returns when it is gone."""
    limit = time.monotonic() + SECONDS
    while (pid := locker(folder.life_lock)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if time.monotonic() < limit else signal.SIGKILL)
        time.sleep(0.02)


def _call(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[0]
