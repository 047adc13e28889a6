"""Claude Code's private install, for machines that have none: one pinned version under our data directory.

Made beside its final place and renamed into it, so that whatever stops an installation leaves nothing in the way of
the next one. Nothing else on the machine is touched: npm gets a cache and a configuration of its own.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shim.errors import CANNOT_CREATE, NOT_FOUND, UNAVAILABLE, Failure, say
from shim.terminal.progress import Progress
from sidecar.shared.config import Config

PACKAGE = "@anthropic-ai/claude-code"
VERSION = "2.1.330"
"""The version that the client tests run against; the client changes weekly."""

SIZE = 381_000_000
"""Bytes on disk, measured; the download is about a third."""

BINARY = Path("node_modules/.bin/claude")

COMMAND = f"npm install -g {PACKAGE}@{VERSION}"
"""For those who want it on their PATH."""


def private(config: Config, version: str = VERSION) -> Path:
    """Where our own is, or would be."""
    return config.data / "claude-code" / version / BINARY


def claude(config: Config, version: str = VERSION) -> str:
    """The path of a `claude` that runs, installed first if need be; raises Failure."""
    binary = private(config, version)
    home = config.data / "claude-code" / version
    if binary.exists():
        return str(binary)
    if config.no_install:
        raise Failure(f"claude: command not found, and CLAUDE_LOCAL_NO_INSTALL is set. Run: {COMMAND}", NOT_FOUND)
    npm = shutil.which("npm")
    if npm is None:
        raise Failure(
            "claude: command not found, and there is no npm to install it with.\n"
            "Install Node.js (https://nodejs.org, brew install node, apt install npm) and try again, "
            f"or Claude Code itself: {COMMAND}",
            NOT_FOUND,
        )
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked(home.parent / "install.lock") as lock:
            if not binary.exists():
                install(npm, home, lock)
    except OSError as error:
        raise Failure(f"cannot install Claude Code in {home.parent}: {error.strerror}", CANNOT_CREATE) from None
    return str(binary)


def install(npm: str, home: Path, lock: int) -> None:
    """Install the version that `home`, which does not exist, is named after; to be called under the lock."""
    version = home.name
    say(f"claude is not on PATH: installing Claude Code {version} in {home.parent} (about {SIZE // 1_000_000} MB) …")
    working = home.with_name(f"{home.name}.part")
    shutil.rmtree(working, ignore_errors=True)  # what an interrupted installation has left
    working.mkdir()
    try:
        run_npm(npm, working, lock, version)
        verify(working / BINARY, version)
        shutil.rmtree(working / ".npm", ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
        working.rename(home)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    say(f"installed Claude Code {version}")


def run_npm(npm: str, working: Path, lock: int, version: str) -> None:
    """Run npm while the growing folder shows how far it is; raises Failure with npm's last lines."""
    command = [npm, "install", "--prefix", ".", "--cache", ".npm", "--no-audit", "--no-fund", "--no-update-notifier"]
    command += ["--no-progress", "--loglevel=error", f"{PACKAGE}@{version}"]
    with (working / "npm.log").open("w+b") as log:
        # npm shares the lock: should we be killed and it not, the next try waits for its end.
        process = subprocess.Popen(
            command, cwd=working, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[lock]
        )
        try:
            watch(process, working)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace")
    if process.returncode:
        advice = f"Correct that and try again, or install it yourself: npm install -g {PACKAGE}@{version}"
        why = last_lines(said) or f"it ended {ending(process.returncode)}, without a word"
        raise Failure(f"npm could not install Claude Code:\n{why}\n{advice}", UNAVAILABLE)


def watch(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the process, showing the bytes in its folder."""
    # npm says nothing about single packages, and this one is all there is to load. Its compressed copy in the cache
    # is in the folder as well, a third of the size.
    progress = Progress("installing Claude Code", os.isatty(sys.stderr.fileno()) if sys.stderr else False)
    while True:
        try:
            process.wait(0.5)
            break
        except subprocess.TimeoutExpired:
            progress.show(min(occupied(folder) * 3 // 4, SIZE - 1), SIZE)
    progress.finish()


def verify(binary: Path, version: str) -> None:
    """An installation counts when its binary runs; raises Failure."""
    try:
        result = subprocess.run([binary, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        said = (result.stdout + result.stderr).decode(errors="replace")
        works = result.returncode == 0 and version in said
    except (OSError, subprocess.TimeoutExpired) as error:
        said, works = str(error), False
    if not works:
        why = last_lines(said) or "its --version says nothing"
        raise Failure(f"the installed Claude Code does not run here:\n{why}", UNAVAILABLE)


def last_lines(text: str, count: int = 3) -> str:
    """The end of a log, where the reason is; npm's hint at its own log file is none. Empty where nothing is said."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    useful = [line for line in lines if "complete log of this run" not in line and "/_logs/" not in line]
    return "\n".join(useful[-count:])


def ending(status: int) -> str:
    """How a process has ended, for people."""
    if status >= 0:
        return f"with status {status}"
    import signal

    name = signal.Signals(-status).name if -status in {*signal.Signals} else f"signal {-status}"
    return f"by {name}" + (" (too little memory?)" if -status == signal.SIGKILL else "")


def occupied(folder: Path) -> int:
    """Bytes in a folder, hard links counted once."""
    sizes = {}
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.lstat(os.path.join(place, name))
            except OSError:
                continue
            sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold a lock file, as the descriptor that is given; says so when another terminal is at it already."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another terminal is installing it already; waiting …")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
