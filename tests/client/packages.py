"""Real agents and SDKs for the tests: pinned versions, installed once per machine, and found again.

A row here is all that a new version needs. No npm, or no network on the first run, is a failure, not a skip.
"""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

NODE = "22.23.3"
"""For packages that want more than the machine's own node is."""

NPM = {
    "ai": ("ai@7.0.173", "@ai-sdk/anthropic@4.0.105"),
    "cline": ("cline@3.0.65",),
    "cn": ("@continuedev/cli@1.5.47",),
    "copilot": ("@github/copilot@1.0.102",),
    "kilo": ("@kilocode/cli@7.7.7",),
    "kimi": ("@moonshot-ai/kimi-code@2.1.0",),
    "node": (f"node@{NODE}",),
    "opencode": ("opencode-ai@1.18.33",),
    "pi": ("@earendil-works/pi-coding-agent@1.6.0",),
    "qwen": ("@qwen-code/qwen-code@0.24.4",),
}
PYPI = {
    "aider": ("aider-chat==0.86.2",),
    "anthropic": ("anthropic==0.49.0",),
    "llm": ("llm==0.36", "llm-anthropic==0.30"),
    "mini": ("mini-swe-agent==2.4.6",),
}
REGISTRY = "npm's registry"
"""Stands for its host, which each machine may have set to another."""
LIMIT = 900
"""Seconds for one of them over a slow line; aider brings 700 MB."""


class Installed(NamedTuple):
    folder: Path
    programs: Path
    """The folder of its commands."""


def installed(name: str) -> Installed:
    """Where a row is installed, which is now if it has not been."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    what = NPM.get(name) or PYPI[name]
    folder = cache / "claude-local-tests" / "agents" / name / re.split("[@=]", what[0])[-1]
    complete = folder / "complete"
    if not complete.exists():
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run has left
        folder.mkdir(parents=True)
        if name in NPM:
            run("npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--no-update-notifier", *what)
        else:
            run(sys.executable, "-m", "venv", str(folder))
            run(str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *what)
        complete.touch()
    return Installed(folder, folder / ("node_modules/.bin" if name in NPM else "bin"))


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, f"{words}:\n{done.stderr[-2000:]}"


@cache
def registry() -> str:
    """The host that npm installs from."""
    said = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True).stdout
    return urlsplit(said.strip()).hostname or ""


def node() -> str:
    """A folder with a node of version 22 or newer in it; empty where the machine's own will do."""
    said = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout if shutil.which("node") else ""
    major = int(said.strip().lstrip("v").partition(".")[0] or 0)
    return "" if major >= 22 else str(installed("node").programs)
