"""Starting a sidecar process: what it is given, and how it says that it is ready. Who may do so is attach's matter."""

import os
import select
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path

from shim.errors import UNAVAILABLE, Died, Failure
from sidecar.shared.pauses import OWN
from sidecar.shared.program import program
from sidecar.shared.run_directory import RunDirectory

READY_FD = 3
"""The descriptor number on which the sidecar finds its readiness pipe."""

PASSED = frozenset(["HOME", "PATH", "USER", "LOGNAME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD"])
PASSED_BEGINNINGS = ("LC_", "XDG_", "HF_", "CLAUDE_LOCAL_", "SSL_CERT_", "OPENBLAS_", "OMP_", "MLX_", "CUDA")
PASSED_ENDINGS = ("_proxy", "_PROXY")

PLACES = ("CLAUDE_LOCAL_RUN_DIR", "CLAUDE_LOCAL_DATA_DIR", "CLAUDE_LOCAL_LOG_DIR")
"""Paths that may be relative to a folder which the sidecar is not in."""

TEST_COMMAND = "CLAUDE_LOCAL_TEST_SIDECAR"
"""The tests' fake sidecar: a command line that replaces `program("sidecar.serve")`."""


def start(directory: RunDirectory, logs: Path, folder: str, deadline: float) -> None:
    """Start a sidecar and wait until it serves; raises Failure with what it says, or with where its log is.

    `folder` is the user's: what relative paths in the environment mean.
    """
    reader, writer = os.pipe()
    try:
        child = _spawn(directory, logs, folder, writer)
    finally:
        os.close(writer)
    try:
        line = _first_line(reader, deadline)
    except TimeoutError:
        os.kill(child, signal.SIGKILL)  # half started, it would only be in the way of the next try
        raise Failure(f"the sidecar was not ready in time; its log is {logs / 'sidecar.log'}") from None
    finally:
        os.close(reader)
    word, _, rest = line.partition(" ")
    if word == "ready":
        return
    if word == "error":
        code, _, reason = rest.partition(" ")
        raise Failure(reason or rest, int(code) if code.isdigit() else UNAVAILABLE)
    raise Died(f"the sidecar ended while it was starting; its log is {logs / 'sidecar.log'}")


def environment(base: Mapping[str, str], folder: str) -> dict[str, str]:
    """What the sidecar may know of the environment of whoever happened to start it: no keys, nobody's session."""
    passed = {
        name: value
        for name, value in base.items()
        if name in PASSED or name.startswith(PASSED_BEGINNINGS) or name.endswith(PASSED_ENDINGS)
    }
    for name in PLACES:
        if passed.get(name):
            passed[name] = os.path.join(folder, passed[name])
    return passed


def _spawn(directory: RunDirectory, logs: Path, folder: str, writer: int) -> int:
    hook = os.environ.get(TEST_COMMAND)
    command = shlex.split(hook) if hook else program("sidecar.serve")
    command += ["--run-dir", str(directory.path), "--ready-fd", str(READY_FD)]
    log = _open_log(logs)
    # posix_spawn, not fork: the relay has threads. Ignored signals would stay ignored in every child of the sidecar.
    defaults = [signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGXFSZ]
    actions = [
        (os.POSIX_SPAWN_DUP2, log, 1),
        (os.POSIX_SPAWN_DUP2, log, 2),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writer, READY_FD),
    ]
    # The relay sits in the root directory, in a session without a terminal, and so does what it starts. The session
    # is the sidecar's own where the system can do that in a spawn, so that no signal to the relay's group reaches it.
    variables = environment(os.environ, folder)
    try:
        try:
            return os.posix_spawn(
                command[0], command, variables, file_actions=actions, setsid=True, setsigdef=defaults, setsigmask=[]
            )
        except NotImplementedError:
            return os.posix_spawn(
                command[0], command, variables, file_actions=actions, setpgroup=0, setsigdef=defaults, setsigmask=[]
            )
    except OSError as error:
        raise Failure(f"cannot start the sidecar: {command[0]}: {error.strerror}") from None
    finally:
        os.close(log)


def _open_log(logs: Path) -> int:
    """The sidecar's stdout and stderr; its absence is no reason not to serve."""
    try:
        os.makedirs(logs, mode=0o700, exist_ok=True)
        return _above_stdio(os.open(logs / "sidecar.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError:
        return _above_stdio(os.open(os.devnull, os.O_WRONLY))


def _above_stdio(descriptor: int) -> int:
    # A dup2 of a descriptor onto itself would leave it closed in the child.
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, READY_FD + 1)
    os.close(descriptor)
    return moved


def _first_line(reader: int, deadline: float) -> str:
    """One line, or what there is of it when the other end goes; raises TimeoutError."""
    text = b""
    while b"\n" not in text:
        if not select.select([reader], [], [], max(0.0, deadline - OWN.now()))[0]:
            if OWN.now() < deadline:
                continue  # we were stopped, and so was it most likely
            raise TimeoutError
        if not (data := os.read(reader, 4096)):
            break
        text += data
    return text.partition(b"\n")[0].decode(errors="replace").strip()
