"""Fixtures of the client tier: the real Claude Code, and homes for it. On failure the sidecar's log is shown."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shim.claude_code import install
from sidecar.shared.config import Config
from tests.client.api import Terminal
from tests.support.home import Home, Machine

TYPESCRIPT = "1.12.0"
"""The version of the official SDK for TypeScript."""
INSTALL_LIMIT = 300
"""Seconds; 30 MB over a slow line."""
GRACE = 2.0
"""Seconds from the last command to the sidecar's end, where a test waits for that."""


@pytest.fixture(scope="session")
def claude() -> Path:
    """Claude Code as we pin it, or the version that CLAUDE_LOCAL_CLAUDE names ("latest": the newest that is published),
    installed once per machine by our own installer. No npm is a failure, not a skip."""
    if path := os.environ.get("CLAUDE_LOCAL_TEST_CLAUDE"):
        return Path(path)
    version = os.environ.get("CLAUDE_LOCAL_CLAUDE", install.VERSION)
    if version == "latest":
        command = ["npm", "view", install.PACKAGE, "version"]
        version = subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(install.claude(Config(data_dir=str(Path(cache) / "claude-local-tests")), version))


@pytest.fixture(scope="session")
def sdk() -> Path:
    """Where the official SDK for TypeScript is installed, once per machine. No npm is a failure, not a skip."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = cache / "claude-local-tests" / "anthropic-sdk" / TYPESCRIPT
    if not folder.exists():
        working = folder.with_name(f"{TYPESCRIPT}.{os.getpid()}")
        working.mkdir(parents=True)
        install = ["npm", "install", "--prefix", ".", "--no-audit", "--no-fund", f"@anthropic-ai/sdk@{TYPESCRIPT}"]
        subprocess.run(install, cwd=working, check=True, timeout=INSTALL_LIMIT, capture_output=True)
        try:
            working.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(working)
    return folder


@pytest.fixture(scope="session")
def read() -> Iterator[Path]:
    """What the model has read of the client's 15,000 tokens, for all modules; not under pytest's own folder, which is
    kept after the tests."""
    with tempfile.TemporaryDirectory(prefix="cl-read-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def shared(read: Path) -> Iterator[Machine]:
    """One machine for the tests of a module."""
    with machine(grace=600, CLAUDE_LOCAL_DISK_CACHE=str(read)) as place:
        yield place


@pytest.fixture
def home(shared: Machine, claude: Path) -> Iterator[Home]:
    """An empty home on the module's machine, always at the same place: paths are part of the client's prompt."""
    home = Home("home", shared, claude)
    yield home
    home.close()


@pytest.fixture
def lonely(read: Path, claude: Path) -> Iterator[Home]:
    """An empty home on a machine of its own, where a sidecar ends soon after its last command."""
    with machine(GRACE, CLAUDE_LOCAL_DISK_CACHE=str(read)) as place:
        home = Home("home", place, claude)
        yield home
        home.close()


@pytest.fixture(scope="session")
def demo() -> Iterator[Terminal]:
    """A terminal on the built-in model."""
    with _terminal("demo") as terminal:
        yield terminal


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal on a model that can be told to think, knows tools, and has learnt nothing."""
    from tests.support.models import make_tiny

    with _terminal(str(make_tiny(tmp_path_factory.mktemp("noise"), "qwen"))) as terminal:
        yield terminal


@pytest.fixture(params=["demo", "noise"])
def either(request: pytest.FixtureRequest) -> Terminal:
    terminal: Terminal = request.getfixturevalue(request.param)
    return terminal


@contextmanager
def _terminal(model: str) -> Iterator[Terminal]:
    with machine(grace=600) as place:
        terminal = Terminal(place, model)
        yield terminal
        terminal.close()
        assert "Traceback" not in place.logged(), place.logged()


@contextmanager
def machine(grace: float, **environment: str) -> Iterator[Machine]:
    """A machine of its own, with more of claude-local's variables set."""
    place = Machine(grace)
    place.environment |= environment
    try:
        yield place
    finally:
        place.remove()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Home | Terminal):
                report.sections.append(("logs of claude-local", value.machine.logged()))
    return report
