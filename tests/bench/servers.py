"""The servers that the benches start: ours as users start it, and those that people would use instead.

Ours is `claude-local` itself: the client talks to a relay, as Claude Code does. The others, each in an environment of
its own under a folder PEERS, made with `python -m tests.bench.servers PEERS`:

    mlx-lm      mlx-lm==0.32.2        python -m mlx_lm.server --model M
    vllm        vllm-mlx==0.6.0       vllm-mlx serve M
    vllm-batch  the same              vllm-mlx serve M --continuous-batching
    rapid       rapid-mlx==0.16.10    rapid-mlx --no-telemetry --no-banner serve M

each with `mlx[cpu]` on Linux, and with a CPU build of torch where there is one, since some of them import it. All run
with the environment that our engine gets (its BLAS above all), offline, and with a HOME of their own that lasts from
`begin` to `end`: caches that they keep on disk survive a restart, as ours do, and no more than that.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sidecar.supervisor.environment import environment
from tests.bench.client import Api, Endpoint, ServerError
from tests.support.place import Place, Session
from tests.support.processes import is_running
from tests.support.waiting import wait_until

START_S = 180.0
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "RAPID_MLX_TELEMETRY": "0",
    "RAPID_MLX_DISABLE_VERSION_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """How one of the others is installed and started."""

    package: str
    venv: str
    command: tuple[str, ...]
    api: Api = "messages"


KINDS = {
    "mlx-lm": Kind(
        "mlx-lm==0.32.2", "mlxlm", ("{bin}/python", "-m", "mlx_lm.server", "--model", "{model}"), "completions"
    ),
    "vllm": Kind("vllm-mlx==0.6.0", "vllm", ("{bin}/vllm-mlx", "serve", "{model}")),
    "vllm-batch": Kind("vllm-mlx==0.6.0", "vllm", ("{bin}/vllm-mlx", "serve", "{model}", "--continuous-batching")),
    "rapid": Kind(
        "rapid-mlx==0.16.10", "rapid", ("{bin}/rapid-mlx", "--no-telemetry", "--no-banner", "serve", "{model}")
    ),
}


class Server(Protocol):
    """A server that can be started again with what it has kept."""

    def start(self) -> None:
        """Returns when the model is loaded or the server says that it is ready."""

    def terminal(self, folder: str) -> Endpoint:
        """Where a terminal in this folder (a name) sends its requests."""

    def stop(self) -> None: ...


class Ours:
    """claude-local in a home of its own: nothing of the user's is touched."""

    def __init__(self, model: Path, home: Path, **variables: str) -> None:
        self._model, self._home = model, home
        home.mkdir(parents=True, exist_ok=True)
        self.place = Place(home)
        del self.place.environment["CLAUDE_LOCAL_TEST_SIDECAR"]  # the real sidecar
        self.place.environment |= {"CLAUDE_LOCAL_MODEL": str(model), "CLAUDE_LOCAL_GRACE": "600", **variables}
        self._sessions: list[Session] = []

    def start(self) -> None:
        self.terminal("first")
        wait_until(lambda: self.status()["engine"]["state"] == "ready", START_S)

    def terminal(self, folder: str) -> Endpoint:
        place = self._home / "projects" / folder
        place.mkdir(parents=True, exist_ok=True)
        session = Session(_In(self.place, place))  # type: ignore[arg-type]  # it needs no more of a place than `start`
        self._sessions.append(session)
        return Endpoint(session.port, session.token, str(self._model))

    def status(self) -> Any:
        return self.place.status()

    def stop(self) -> None:
        """As a user does: the terminals end, then the sidecar."""
        for session in self._sessions:
            session.end()
        self._sessions.clear()
        status = self.status()
        if pid := status.get("pid"):
            self.place.call("stop")
            wait_until(lambda: not is_running(pid))

    def clean(self) -> None:
        with contextlib.suppress(ValueError, KeyError):  # there may be none to stop
            self.stop()
        self.place.clean()


@dataclass(slots=True)
class _In:
    """A place, entered through one folder."""

    place: Place
    folder: Path

    def start(self, *words: str) -> Any:
        return self.place.start(*words, cwd=self.folder)


@dataclass(eq=False)
class Peer:
    """One of the others."""

    name: str
    peers: Path
    model: Path
    home: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Raises ServerError when it does not begin to answer."""
        kind, self.port = KINDS[self.name], free_port()
        self.home.mkdir(parents=True, exist_ok=True)
        words = [word.format(bin=self.peers / "v" / kind.venv / "bin", model=self.model) for word in kind.command]
        # Away from the checkout, whose packages are not theirs.
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--host", "127.0.0.1", "--port", str(self.port)],
                env={**environment(), **QUIET, "HOME": str(self.home), "HF_HOME": str(self.home / "hf")},
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"{self.name} does not start: {self.log()[-300:]}")
            time.sleep(0.1)

    def terminal(self, folder: str) -> Endpoint:
        return Endpoint(self.port, "none", str(self.model), KINDS[self.name].api)

    def log(self) -> str:
        return (self.home / "log").read_text("utf-8", "replace")

    def stop(self) -> None:
        """Ask it to end, so that it may write what it keeps, then see that it does."""
        if self._process is None:
            return
        for ask, patience in ((signal.SIGTERM, 20.0), (signal.SIGKILL, 20.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, ask)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                break
        self._process = None

    def clean(self) -> None:
        self.stop()


@contextlib.contextmanager
def started(name: str, model: Path, peers: Path | None, **variables: str) -> Iterator[Ours | Peer]:
    """A server by its name, in a home that is gone afterwards. It is not started yet."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a time limit must not leave servers behind
    home = Path(tempfile.mkdtemp(prefix="cl-bench-", dir="/tmp"))
    server: Ours | Peer
    if name == "ours":
        server = Ours(model, home, **variables)
    else:
        assert peers is not None, "the others are in a folder: --peers"
        server = Peer(name, peers, model, home)
    try:
        yield server
    finally:
        server.clean()
        shutil.rmtree(home, ignore_errors=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v1/models")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def install(peers: Path) -> None:
    """Make the environments of all the others."""
    for kind in KINDS.values():
        folder = peers / "v" / kind.venv
        if (folder / "complete").exists():
            continue
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "-q"]
        subprocess.run([*pip, "torch==2.13.0+cpu"], check=False)
        subprocess.run([*pip, kind.package, "mlx[cpu]" if sys.platform == "linux" else "mlx"], check=True)
        (folder / "complete").touch()


if __name__ == "__main__":
    install(Path(sys.argv[1]).resolve())
