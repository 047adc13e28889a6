"""Agents behind the prefix: the real programs, each in a network of its own that notes whom they call.

A scripted model stands in where it is about the agent and not about the model: the demo model's choice of tool is
silly, and prompts of 20,000 tokens take it a minute.
"""

import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.client import alone, packages, scripted_sidecar
from tests.client.conftest import machine
from tests.support.home import MODEL, SHIM, Home, Machine
from tests.support.waiting import wait_until

SECRET = "plum seven"
ELSEWHERE = "http://10.9.8.7/v1"
"""Where a user's own settings point: a call to it is a fault that the recorder sees."""
TOKEN = re.compile(rb"cl-[0-9a-f]{64}")


class Case(NamedTuple):
    """An agent, a command line that asks it once, and what else it does."""

    name: str
    words: tuple[str, ...]
    """Before the prompt."""
    leaves: tuple[str, ...]
    """Files of its own that it may make or change, as patterns of paths in the home."""
    owns: tuple[tuple[str, str], ...] = ()
    """The user's settings, which name somebody else."""
    calls: tuple[str, ...] = ()
    """Whom it asks on its own account and cannot be kept from: never for an answer."""
    reads: bool = True
    """Whether it has a tool that reads files."""
    ends: bool = True
    """Whether it ends by itself where it finds no network."""


PROVIDER = {
    "npm": "@ai-sdk/openai-compatible",
    "options": {"baseURL": ELSEWHERE, "apiKey": "sk-user"},
    "models": {"big": {"name": "big"}},
}
SETTINGS = json.dumps(
    {
        "$schema": "https://opencode.ai/config.json",
        "provider": {"openai": PROVIDER},
        "model": "openai/big",
        "small_model": "openai/big",
    }
)
QWEN = {
    "security": {"auth": {"selectedType": "openai", "apiKey": "sk-user", "baseUrl": ELSEWHERE}},
    "model": {"name": "big"},
    "modelProviders": {"anthropic": [{"id": MODEL, "baseUrl": ELSEWHERE, "envKey": "HOME"}]},
    "$version": 4,
}

KIMI = f"""\
default_model = "big"
[models.big]
provider = "mine"
model = "big"
max_context_size = 100000
[providers.mine]
type = "openai"
base_url = "{ELSEWHERE}"
api_key = "sk-user"
"""
CN = f"""\
name: mine
version: 1.0.0
schema: v1
models: [{{name: big, provider: openai, model: big, apiBase: "{ELSEWHERE}", apiKey: sk-user}}]
"""

CASES = {
    case.name: case
    for case in (
        Case(
            "pi",
            ("pi", "-p"),
            (".pi/agent/auth.json", ".pi/agent/models-store.json", ".pi/agent/sessions/*"),
            ((".pi/agent/settings.json", json.dumps({"defaultProvider": "openai", "defaultModel": "gpt-4o"})),),
        ),
        Case(
            "opencode",
            ("opencode", "run"),
            (".config/opencode/.gitignore", ".local/share/opencode/*", ".local/state/opencode/*"),
            ((".config/opencode/opencode.json", SETTINGS),),
            # It fetches a package for plugins into its own folder, where that is missing.
            (f"name {packages.REGISTRY}",),
        ),
        Case(
            "cn",
            ("cn", "-p"),
            (".continue/logs/*", ".continue/permissions.yaml", ".continue/sessions/*"),
            ((".continue/config.yaml", CN),),
            ("name api.continue.dev",),  # whether there is a newer version
        ),
        Case("qwen", ("qwen", "-y", "-p"), (".qwen/*",), ((".qwen/settings.json", json.dumps(QWEN)),)),
        Case(
            "cline",
            ("cline",),
            (".cline/data/*",),
            calls=("name data.cline.bot",),  # which features are on
        ),
        Case("copilot", ("copilot", "--allow-all-tools", "-p"), (".cache/*", ".copilot/*", ".config/*")),
        Case(
            "llm",
            ("llm",),
            (".config/io.datasette.llm/logs.db",),
            ((".config/io.datasette.llm/default_model.txt", "gpt-4o"),),
            reads=False,
        ),
        Case(
            "aider",
            ("aider", "--yes-always", "--message"),
            (".aider/*", "project/.aider*", "project/.gitignore"),
            (
                ("project/.aider.conf.yml", f"model: openai/big\nopenai-api-base: {ELSEWHERE}\n"),
                ("project/.env", "AIDER_MODEL=openai/big\nANTHROPIC_API_KEY=sk-user\nOPENAI_API_KEY=sk-user\n"),
            ),
            reads=False,
        ),
        Case(
            "mini",
            ("mini", "-y", "--exit-immediately", "-t"),
            (".config/mini-swe-agent/last_mini_run.traj.json",),
            ((".config/mini-swe-agent/.env", "MSWEA_MODEL_NAME=openai/big\nOPENAI_API_KEY=sk-user\n"),),
        ),
        Case("kimi", ("kimi", "-p"), (".kimi-code/*",), ((".kimi-code/config.toml", KIMI),)),
        Case(
            "kilo",
            ("timeout", "240", "kilo", "run"),
            (".config/kilo/*", ".local/share/kilo/*", ".local/state/*"),
            ((".config/kilo/kilo.json", SETTINGS),),
            ends=False,
        ),
    )
}
QUICK = ("pi", "opencode", "cn", "qwen", "cline", "llm")
TIERS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.full) for name in CASES]


@pytest.fixture(scope="module")
def scripted() -> Iterator[Machine]:
    """A machine with the scripted model, up before anybody asks it: out of the network that is watched."""
    stand_in = f"{sys.executable} -I {scripted_sidecar.__file__}"
    with machine(grace=600, CLAUDE_LOCAL_TEST_SIDECAR=stand_in) as place:
        Home("first", place).call("true")
        yield place


@pytest.fixture(scope="module")
def model(shared: Machine) -> Machine:
    """A machine with the demo model, up likewise: what it keeps, compiled kernels say, is in another home."""
    Home("first", shared).call("true")
    return shared


class Visit(NamedTuple):
    """What came of one call of an agent."""

    said: str
    calls: dict[str, int]
    changed: list[str]
    """Files in the home that are new, different or gone."""


def visit(case: Case, place: Machine, prompt: str, seconds: float = 300) -> tuple[Home, Visit]:
    """Ask an agent once, in a home with the user's own settings in it."""
    home = Home("home", place)
    home.environment["PATH"] = ":".join(
        [str(packages.installed(case.name).programs), *filter(None, [packages.node()]), home.environment["PATH"]]
    )
    home.environment["TMPDIR"] = str(place.folder / "tmp")
    (place.folder / "tmp").mkdir(exist_ok=True)
    (home.project / "notes.txt").write_text(f"The launch code is {SECRET}.\n")
    home.run("git", "init", "-q", ".")
    for path, text in case.owns:
        (home.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (home.folder / path).write_text(text)
    before, file = files(home), place.folder / "calls.json"
    done = home.run(*alone.command(file), *SHIM, *case.words, prompt, timeout=seconds)
    after = files(home)
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    assert done.returncode == 0 or not case.ends, f"{done.stdout}\n{done.stderr}"
    return home, Visit(done.stdout, json.loads(file.read_text()), changed)


def cpu() -> float:
    """Seconds of CPU that all children have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def files(home: Home) -> dict[str, bytes]:
    """Every file of a home, but for what git keeps for itself."""
    found = [path for path in home.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(home.folder)): path.read_bytes() for path in found if ".git" not in path.parts}


def judge(case: Case, home: Home, visit: Visit) -> None:
    """It has called nobody, changed nothing of the user's, and written down nothing of ours."""
    calls = {call.replace(packages.registry(), packages.REGISTRY) for call in visit.calls}
    assert calls <= set(case.calls), visit.calls
    strange = [path for path in visit.changed if not any(fnmatch(path, pattern) for pattern in case.leaves)]
    assert not strange, strange
    assert not {path for path, _ in case.owns} & set(visit.changed)
    for path, content in files(home).items():
        assert not TOKEN.search(content), f"{path} has a token of ours"
        assert str(home.machine.run).encode() not in content, f"{path} names our folder"
    wait_until(lambda: not list(home.machine.run.glob("agent-*")))


CALLS = """
import contextlib, socket
with contextlib.suppress(OSError):
    socket.getaddrinfo("example.org", 443)
for family, address in ((socket.AF_INET, "10.9.8.7"), (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET, "127.0.0.1")):
    with contextlib.suppress(OSError), socket.socket(family) as end:
        end.connect((address, 443))
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
    end.sendto(b"", ("10.9.8.7", 99))
"""


def test_the_recorder_sees_every_name_and_address_that_is_called(tmp_path: Path) -> None:
    """Else it would say little that the agents call nobody."""
    file = tmp_path / "calls.json"
    subprocess.run([*alone.command(file), sys.executable, "-c", CALLS], check=True, timeout=60)
    assert set(json.loads(file.read_text())) == {"name example.org", "10.9.8.7:443", "2001:db8::1:443", "10.9.8.7:99"}


@pytest.mark.parametrize("name", TIERS)
def test_an_agent_uses_its_tool_asks_nobody_else_and_leaves_nothing_of_ours(
    name: str, scripted: Machine, figure: Callable[[str], None]
) -> None:
    """Its user's own settings name another model: they are neither followed nor changed."""
    case = CASES[name]
    began, spent = time.monotonic(), cpu()
    home, visited = visit(case, scripted, f"Read the file {scripted.folder}/home/project/notes.txt")
    figure(f"{time.monotonic() - began:.1f} s, {cpu() - spent:.1f} s of CPU")
    assert (SECRET if case.reads else scripted_sidecar.GREETING) in visited.said
    judge(case, home, visited)


@pytest.mark.full
@pytest.mark.parametrize("name", CASES)
def test_an_agent_is_greeted_by_the_demo_model(name: str, model: Machine, figure: Callable[[str], None]) -> None:
    """The real engine behind it. Where an agent wants more than words of a model, its first request must be served."""
    case = CASES[name]
    began, spent = time.monotonic(), cpu()
    home, visited = visit(case, model, "Hello in 5 words")
    figure(f"{time.monotonic() - began:.1f} s, {cpu() - spent:.1f} s of CPU")
    assert visited.said.strip()
    judge(case, home, visited)
