"""Our own places: configuration, disks, the run directory, what lies in it, who listens there."""

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from shim.claude_code import settings as claude
from shim.doctor.check import Finding, failure, ok, told, warning
from shim.doctor.context import Case
from shim.errors import Failure
from shim.lease import attach
from shim.lease.control_client import ask
from sidecar import __version__
from sidecar.models import hub
from sidecar.shared import config, protocol
from sidecar.shared import run_directory as run_directories
from sidecar.shared.run_directory import RunDirectory, RunDirectoryError

SPARE_GB = 2.0
"""Free disk below which logs and prefixes soon have no room."""
SPAWN_S = 3.0
"""A start that holds its lock for longer than this while we look is a slow one, or stuck."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk, the user's quota, the limit of a file's size."""
OURS = ("CLAUDE_LOCAL_TEST_",)
"""Beginnings of variables that no user sets."""


def configuration(case: Case) -> Finding:
    """config.toml and the variables."""
    if case.broken:
        return told(case.broken)
    for name, near in config.unknown_variables(case.environment):
        if not name.startswith(OURS):
            return warning(f"{name} is no setting", f"unset it; did you mean {near}?" if near else f"unset {name}")
    named = [name for name in case.environment if name.startswith(config.PREFIX) and not name.startswith(OURS)]
    file = config.config_file(case.environment)
    where = str(file) if file.exists() else "no config.toml"
    return ok(", ".join([where, *sorted(named)]))


class Disk(NamedTuple):
    """A folder that we write to. Sizes in bytes."""

    use: str
    path: Path
    free: int
    refused: int = 0
    """The errno with which a write to it failed."""


def disk(case: Case, missing: int) -> Finding:
    """`missing`: bytes of the model that have to be downloaded yet."""
    settings = case.settings
    places = [("models", hub.place()), ("Claude Code", settings.data), ("logs", settings.logs)]
    places += [("prefixes", settings.prefixes)] if settings.prefixes else []
    return judge_disk([look_at_disk(use, path) for use, path in places], missing)


def look_at_disk(use: str, path: Path) -> Disk:
    """Of the nearest folder that exists; writes a file without a name there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    refused = 0
    try:
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
    except OSError as error:
        refused = error.errno or errno.EIO
    return Disk(use, path, shutil.disk_usage(path).free, refused)


def judge_disk(disks: Iterable[Disk], missing: int) -> Finding:
    """`missing`: bytes that the first of them has yet to take."""
    disks = list(disks)
    for each in disks:
        if each.refused:
            fix = "free some space" if each.refused in FULL else f"make {each.path} a folder that you may write to"
            return failure(f"{each.path}, for {each.use}, takes no file: {os.strerror(each.refused)}", fix)
    first, least = disks[0], min(disks, key=lambda each: each.free)
    if first.free < missing:
        text = f"the model takes {missing / 1e9:.1f} GB, and {first.path} has {first.free / 1e9:.1f} GB free"
        return failure(text, "free some space, or set HF_HOME to a folder on a larger disk")
    here = f"{least.free / 1e9:.1f} GB free in {least.path}"
    if least.free < SPARE_GB * 1e9:
        return warning(here, "free some space; claude-local cache clear gives back what has been read")
    return ok(here)


def run_directory(case: Case) -> Finding:
    try:
        path = run_directories.run_directory(case.run_dir).path
    except RunDirectoryError as error:
        return told(str(error))
    return ok(f"{path}, yours alone")


def stale(case: Case) -> Finding:
    """What a killed process has left in the run directory, and locks that are held for long."""
    try:
        directory = run_directories.run_directory(case.run_dir)
    except RunDirectoryError:
        return failure("the run directory cannot be used", "see run directory")
    for lock in (directory.spawn_lock, directory.life_lock):
        if complaint := _unusable(lock):
            return failure(f"{lock} {complaint}", f"rm -r {lock}")
    if _is_held_for(directory.spawn_lock, SPAWN_S):
        holder = _holder(directory.spawn_lock)
        return failure(
            f"process {holder or '?'} has been starting a sidecar for more than {SPAWN_S:.0f} s",
            f"kill {holder}" if holder else f"fuser {directory.spawn_lock} names the process to end",
        )
    running = attach.holder(directory)
    left = [path for path in directory.path.glob("socket*") if not running]
    left += [path for path in directory.path.glob(f"{claude.PREFIX}*.json") if not _is_held_for(path, 0)]
    if left:
        names = ", ".join(path.name for path in sorted(left)[:3]) + (" …" if len(left) > 3 else "")
        more = " ".join(map(str, sorted(left)[:3]))
        return warning(f"left by a process that was killed, until the next start: {names}", f"rm {more}")
    return ok("none")


def sidecar(case: Case) -> Finding:
    """Who listens on our socket, if anybody does."""
    try:
        directory = run_directories.run_directory(case.run_dir)
        connection = attach.connect(directory, time.monotonic() + 2.0)
    except RunDirectoryError:
        return failure("the run directory cannot be used", "see run directory")
    except Failure as error:
        return told(error.reason)
    if connection is None:
        return _nobody(directory)
    with connection:
        pid = run_directories.peer_pid(connection)
    try:
        table = ask("GET", protocol.STATUS_PATH) or {}
    except Failure as error:
        if attach.holder(directory) == pid:
            return failure(f"sidecar {pid}: {error.reason}", "claude-local stop --now")
        table = {}
    if "protocol" not in table:
        text = f"process {pid} ({_name(pid)}) listens on {directory.socket} and is no sidecar"
        return failure(text, f"kill {pid}; rm -f {directory.socket}")
    return judge_status(table, pid)


def judge_status(table: dict[str, object], pid: int) -> Finding:
    """`table`: what the sidecar says of itself."""
    model, version = table.get("model"), table.get("version")
    state = model.get("state") if isinstance(model, dict) else "?"
    name = model.get("name") if isinstance(model, dict) else None
    here = f"{pid} runs, model {name or 'none yet'}, {state}"
    if state in ("dead", "failed", "stuck"):
        return failure(here, "claude-local stop --now; its log says more: claude-local logs")
    if version != __version__:
        return warning(f"{here}; it is version {version}, this is {__version__}", "claude-local stop, when it suits")
    return ok(here)


def _nobody(directory: RunDirectory) -> Finding:
    if pid := attach.holder(directory):
        return warning(
            f"sidecar {pid} is leaving and finishes its answers; new terminals wait for it", "claude-local stop --now"
        )
    return ok("none runs; the next command starts one")


def _unusable(lock: Path) -> str:
    """What is wrong with a lock file, if anything is. Root may open anything, so its mode is asked."""
    try:
        status = lock.lstat()
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return "is no file"
    if status.st_uid != os.geteuid() or not status.st_mode & stat.S_IWUSR or not status.st_mode & stat.S_IRUSR:
        return f"is not yours to write (mode {status.st_mode & 0o777:o}, user {status.st_uid})"
    return ""


def _is_held_for(path: Path, seconds: float) -> bool:
    """Whether somebody holds a lock on the file for so long."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        deadline = time.monotonic() + seconds
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.05)
    finally:
        os.close(descriptor)


def _holder(path: Path) -> int | None:
    """A process that has the file open."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and any(each.path == str(path) for each in process.open_files()):
                return int(process.pid)
    return None


def _name(pid: int) -> str:
    with suppress(psutil.Error):
        return str(psutil.Process(pid).name())
    return "gone"
