"""Shared fixtures: small real models, and a place where nothing of the user's is touched."""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# What tests read is nobody's conversation: it goes to no disk but where a test says so.
os.environ["CLAUDE_LOCAL_DISK_CACHE"] = "off"

FULL = bool(os.environ.get("CLAUDE_LOCAL_TEST_FULL"))
"""Whether the long ones run too: `bin/test --full`."""

# The same examples every time, so that a red run is the change's doing; the full run looks for new ones.
settings.register_profile("short", deadline=None, database=None, derandomize=True)
settings.register_profile("full", deadline=None, database=None, max_examples=2000)
settings.load_profile("full" if FULL else "short")

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "sidecar" / "demo"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight phi3 model whose chat template knows no tools and whose cache can be trimmed."""
    from tests.support.models import make_tiny

    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private directory with a path short enough for a Unix socket, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="cl-", dir="/tmp") as name:
        os.chmod(name, stat.S_IRWXU)
        yield Path(name)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: long; only `bin/test --full` runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    long = [] if FULL else [item for item in items if item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


_figures: list[str] = []


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """What a test has counted or measured, for the end of the run: times are told, not asserted."""
    return lambda text: _figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
        for line in _figures:
            terminalreporter.line(line)
