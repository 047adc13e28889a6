"""Starting a sidecar: what it gets, and how it is set apart where the system knows less than Linux."""

import json
import os
import shlex
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shim.lease import spawn
from sidecar.shared.run_directory import RunDirectory

TELL = """
import json, os, sys
folder = sys.argv[sys.argv.index("--run-dir") + 1]
facts = {"pid": os.getpid(), "group": os.getpgid(0), "session": os.getsid(0)}
open(os.path.join(folder, "facts"), "w").write(json.dumps(facts))
os.write(int(sys.argv[sys.argv.index("--ready-fd") + 1]), b"ready\\n")
"""


def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.setenv(spawn.TEST_COMMAND, shlex.join([sys.executable, "-IS", "-c", TELL]))
    spawn.start(RunDirectory(folder), folder / "logs", "/", time.monotonic() + 20)
    facts: dict[str, int] = json.loads((folder / "facts").read_text())
    os.waitpid(facts["pid"], 0)
    return facts


def test_a_sidecar_has_a_session_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = start(tmp_path, monkeypatch)
    assert facts["session"] == facts["group"] == facts["pid"]


def test_without_sessions_in_a_spawn_it_has_a_group_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS, with a stub of the call: signals to the relay's group must not reach the sidecar."""
    real = os.posix_spawn

    def without_sessions(*arguments: Any, **options: Any) -> int:
        if "setsid" in options:
            raise NotImplementedError
        return real(*arguments, **options)

    monkeypatch.setattr(os, "posix_spawn", without_sessions)
    facts = start(tmp_path, monkeypatch)
    assert facts["group"] == facts["pid"]
    assert facts["session"] == os.getsid(0)


def test_a_start_that_was_stopped_for_longer_than_it_may_take_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sidecar that it waits for was stopped too: to kill it would throw its work away."""
    monkeypatch.setattr(spawn, "OWN", SimpleNamespace(now=lambda: 100.0))
    reader, writer = os.pipe()
    late = threading.Timer(0.2, os.write, (writer, b"ready\n"))
    late.start()
    assert spawn._first_line(reader, 100.05) == "ready"
    late.join()
