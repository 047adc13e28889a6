"""`claude-local doctor` finds what was really planted, and its fix is right: where that is a command, it is run."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shim.commands import doctor
from tests.support.hub import Hub, serving
from tests.support.models import make_tiny
from tests.support.real_place import RealPlace

REPOSITORY = "someone/tiny-model"
ALICE = "alice"
"""The user whose name nobody may read."""


class Patient(RealPlace):
    """A user with an empty home, on whom the doctor is called."""

    def __init__(self, folder: Path) -> None:
        home = folder / "home" / ALICE
        home.mkdir(parents=True)
        super().__init__(home, grace=60)
        for name in [*self.environment]:
            if name.lower().endswith("_proxy") or name.startswith(("HF_", "XDG_")):
                del self.environment[name]
        self.environment |= {"HF_HUB_DISABLE_XET": "1", "PATH": f"{home}/bin:/usr/bin:/bin"}
        self.bin = home / "bin"
        self.bin.mkdir()
        self.options: dict[str, Any] = {"cwd": home}
        """For the process that examines."""

    def examine(self, *names: str) -> tuple[int, dict[str, dict[str, str]]]:
        """The exit code, and each check's finding."""
        done = self.call("doctor", *names, "--json", **self.options)
        assert done.stdout, done.stderr
        table = json.loads(done.stdout)
        assert table["ok"] is (done.returncode == 0)
        return done.returncode, {each["name"]: each for each in table["checks"]}

    def program(self, name: str, script: str) -> None:
        file = self.bin / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    def settings(self, table: object, file: str = ".claude/settings.json") -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table if isinstance(table, str) else json.dumps(table))


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    patient = Patient(tmp_path)
    yield patient
    patient.clean()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """With a model whose weights are large enough to be kept under their hash."""
    files = make_tiny(tmp_path_factory.mktemp("large"), hidden_size=256, intermediate_size=512, num_hidden_layers=4)
    with serving(Hub(REPOSITORY, files)) as hub:
        yield hub


@pytest.fixture(scope="module")
def downloaded(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with that model in it."""
    home = tmp_path_factory.mktemp("hf")
    download(home, hub)
    return home


def download(home: Path, hub: Hub) -> None:
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-I", "-m", "sidecar.models.resolve", REPOSITORY]
    subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)


@contextmanager
def process(script: str, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """Another program, once it has said that it is there."""
    command = [sys.executable, "-c", f"import fcntl, os, signal, socket, sys\n{script}", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None and child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


LOCK = """
f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(f, fcntl.LOCK_EX)
os.write(f, str(os.getpid()).encode())
print("held", flush=True)
signal.pause()
"""
STRANGER = """
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
print("listens", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"220 mail.example ready\\r\\n")
    c.close()
"""


# The faults. Each function plants one and says what must be found: the words of the text, and those of the fix.


class Expected(NamedTuple):
    text: str
    fix: str


Plant = Callable[[Patient], AbstractContextManager[Expected]]


def simple(text: str, fix: str, do: Callable[[Patient], object]) -> Plant:
    def plant(patient: Patient) -> AbstractContextManager[Expected]:
        do(patient)
        return nullcontext(Expected(text, fix))

    return plant


def variables(text: str, fix: str, **values: str) -> Plant:
    return simple(text, fix, lambda patient: patient.environment.update(values))


def linked_run_directory(patient: Patient) -> None:
    real = patient.run.with_name(f"{patient.run.name}-real")
    patient.run.rename(real)
    patient.run.symlink_to(real)


def stale_socket(patient: Patient) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(patient.run / "socket"))
        listener.listen()


def read_only_lock(patient: Patient) -> None:
    (patient.run / "life.lock").touch(0o400)


@contextmanager
def stuck_start(patient: Patient) -> Iterator[Expected]:
    with process(LOCK, patient.run / "spawn.lock") as child:
        yield Expected("has been starting a sidecar", f"kill {child.pid}")


@contextmanager
def leaving_sidecar(patient: Patient) -> Iterator[Expected]:
    with process(LOCK, patient.run / "life.lock") as child:
        yield Expected(f"sidecar {child.pid} is leaving", "claude-local stop --now")


@contextmanager
def stranger(patient: Patient) -> Iterator[Expected]:
    with process(STRANGER, patient.run / "socket") as child:
        yield Expected(f"process {child.pid}", f"kill {child.pid}")


@contextmanager
def taken_port(patient: Patient) -> Iterator[Expected]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        patient.environment["CLAUDE_LOCAL_PORT"] = str(number)
        yield Expected(f"port {number} is taken by process {os.getpid()}", f"config set port {number + 1}")


def readable_token(patient: Patient) -> None:
    folder = patient.folder / "data" / "global"
    folder.mkdir(parents=True)
    (folder / "token").touch(0o644)


FILL = 'mount -t tmpfs -o size=64k tmpfs "$0" && { head -c 100000 /dev/zero >"$0/x" 2>/dev/null; exec "$@"; }'


def full_disk(patient: Patient) -> None:
    """A small file system of its own where the system lets us have one, else a limit of a file's size."""
    place = patient.folder / "hf"
    place.mkdir()
    patient.environment["HF_HOME"] = str(place)
    if alone("--mount"):
        patient.shim = [*alone("--mount"), "sh", "-c", FILL, str(place), *patient.shim]
    else:
        patient.options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))


def alone(namespace: str) -> list[str]:
    """What runs a command in a namespace of its own; nothing where the system does not let us."""
    command = ["unshare", namespace] if os.geteuid() == 0 else ["unshare", namespace, "--map-root-user"]
    can = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if can else []


def folder_that_is_a_file(patient: Patient) -> None:
    (patient.folder / "cache").touch()
    patient.environment["HF_HOME"] = str(patient.folder / "cache")


def unknown_key(patient: Patient) -> None:
    file = patient.folder / ".config" / "claude-local" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('modle = "demo"\n')


def settings(table: object, file: str = ".claude/settings.json") -> Callable[[Patient], None]:
    return lambda patient: patient.settings(table, file)


def no_programs(patient: Patient) -> None:
    patient.environment["PATH"] = str(patient.bin)


def half_a_model(patient: Patient) -> None:
    patient.environment["CLAUDE_LOCAL_MODEL"] = str(patient.folder)


class Fault(NamedTuple):
    check: str
    level: str
    plant: Plant
    cured: bool = False
    """Whether the fix is a command that is run here, after which all is well."""


ELSEWHERE = {"env": {"ANTHROPIC_BASE_URL": "https://gateway.example", "ANTHROPIC_AUTH_TOKEN": "sk-ant-hidden1"}}
BEDROCK = {"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}}
FAULTS = {
    "a run directory open to others": Fault(
        "run-directory", "failure", simple("open to other users", "chmod 700", lambda p: p.run.chmod(0o755))
    ),
    "a run directory that is a link": Fault(
        "run-directory", "failure", simple("symbolic link", "Remove it", linked_run_directory)
    ),
    "a run directory with a long name": Fault(
        "run-directory", "failure", variables("too long", "shorter run_dir", CLAUDE_LOCAL_RUN_DIR="/tmp/" + "x" * 120)
    ),
    "a stale socket": Fault("stale", "warning", simple("left by a process", "rm ", stale_socket), True),
    "a lock that is read-only": Fault("stale", "failure", simple("not yours to write", "rm ", read_only_lock), True),
    "a start that hangs": Fault("stale", "failure", stuck_start, True),
    "a sidecar that takes its time to leave": Fault("sidecar", "warning", leaving_sidecar, True),
    "a stranger on our socket": Fault("sidecar", "failure", stranger, True),
    "a port that global mode wants": Fault("global", "warning", taken_port),
    "a token that others can read": Fault("global", "failure", simple("by others", "chmod 600", readable_token), True),
    "a full disk": Fault("disk", "failure", simple("takes no file", "free some space", full_disk)),
    "a cache that is a file": Fault("disk", "failure", simple("Not a directory", "a folder", folder_that_is_a_file)),
    "an unknown key": Fault("configuration", "failure", simple("unknown key 'modle'", "model", unknown_key)),
    "a mistyped variable": Fault(
        "configuration", "warning", variables("CLAUDE_LOCAL_MODLE", "CLAUDE_LOCAL_MODEL", CLAUDE_LOCAL_MODLE="demo")
    ),
    "a value that is none": Fault(
        "configuration", "failure", variables("CLAUDE_LOCAL_GRACE", "correct that", CLAUDE_LOCAL_GRACE="soon")
    ),
    "a small memory limit": Fault(
        "memory",
        "failure",
        variables(
            "only 1.0 GB",
            "raise CLAUDE_LOCAL_MEMORY_LIMIT_GB",
            CLAUDE_LOCAL_MEMORY_LIMIT_GB="1",
            CLAUDE_LOCAL_MODEL="phi-3-mini",
        ),
    ),
    "a proxy that is not there": Fault(
        "proxies", "failure", variables("nobody answers", "unset https_proxy", https_proxy="http://127.0.0.1:1")
    ),
    "a proxy that is no address": Fault(
        "proxies", "failure", variables("is no address", "http_proxy=http://", HTTP_PROXY="http://")
    ),
    "user settings that lead elsewhere": Fault(
        "settings", "warning", simple("ANTHROPIC_BASE_URL", '"env"', settings(ELSEWHERE))
    ),
    "project settings that lead elsewhere": Fault(
        "settings",
        "warning",
        simple("USE_BEDROCK", ".local", settings(BEDROCK, ".claude/settings.local.json")),
    ),
    "settings that are no JSON": Fault("settings", "warning", simple("no JSON", "correct", settings("{,}"))),
    "an old Claude Code": Fault(
        "claude",
        "warning",
        simple("1.0.24", "claude update", lambda p: p.program("claude", "echo '1.0.24 (Claude Code)'")),
    ),
    "a Claude Code that does not run": Fault(
        "claude",
        "failure",
        simple("GLIBC", "npm install -g", lambda p: p.program("claude", "echo no GLIBC here >&2; exit 1")),
    ),
    "neither Claude Code nor npm": Fault("claude", "warning", simple("no npm", "Node.js", no_programs)),
    "a hub out of reach": Fault(
        "hub",
        "failure",
        variables(
            "cannot be reached", "go online", HF_ENDPOINT="http://127.0.0.1:1", CLAUDE_LOCAL_MODEL="someone/tiny-model"
        ),
    ),
    "a hub that is not to be asked": Fault(
        "hub",
        "failure",
        variables("offline mode", "unset HF_HUB_OFFLINE", HF_HUB_OFFLINE="1", CLAUDE_LOCAL_MODEL="someone/tiny-model"),
    ),
    "a name that no model has": Fault(
        "model", "failure", variables("no model is called 'phi-33'", "phi-3-mini", CLAUDE_LOCAL_MODEL="phi-33")
    ),
    "a folder that is no model": Fault("model", "failure", simple("no config.json", "config.json", half_a_model)),
    "a sidecar that does not start": Fault(
        "answer",
        "failure",
        variables("does not answer", "sidecar.log", CLAUDE_LOCAL_TEST_SIDECAR="/bin/false", CLAUDE_LOCAL_MODEL="demo"),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if place % 2 else []) for place, name in enumerate(FAULTS)]
)
def test_a_planted_fault_is_found_with_its_fix(patient: Patient, name: str) -> None:
    fault = FAULTS[name]
    with fault.plant(patient) as expected:
        status, found = patient.examine(fault.check)
        finding = found[fault.check]
        assert finding["level"] == fault.level, finding
        assert expected.text in finding["text"], finding
        assert expected.fix in finding["fix"], finding
        assert status == (1 if fault.level == "failure" else 0)
        if fault.cured:
            patient.program("claude-local", f'exec {" ".join(patient.shim)} "$@"')
            subprocess.run(["sh", "-c", finding["fix"]], env=patient.environment, check=True, timeout=60)
            assert patient.examine(fault.check)[1][fault.check]["level"] == "ok"


# Models from the hub


@pytest.fixture
def owner(patient: Patient, hub: Hub, downloaded: Path) -> Patient:
    """A user who has that model and can reach its hub."""
    shutil.copytree(downloaded, patient.folder / "hf", symlinks=True)
    patient.environment |= {
        "HF_HOME": str(patient.folder / "hf"),
        "HF_ENDPOINT": hub.url,
        "CLAUDE_LOCAL_MODEL": REPOSITORY,
    }
    return patient


def weights(owner: Patient) -> Path:
    [file] = owner.folder.glob("hf/hub/models--*/snapshots/*/model.safetensors")
    return file.resolve()


def cut(file: Path) -> None:
    with file.open("r+b") as data:
        data.truncate(file.stat().st_size // 2)


def flip(file: Path) -> None:
    """One bit in the middle, which no parser would notice."""
    with file.open("r+b") as data:
        data.seek(file.stat().st_size // 2)
        byte = data.read(1)[0]
        data.seek(-1, os.SEEK_CUR)
        data.write(bytes([byte ^ 1]))


def test_a_model_that_is_whole_is_said_to_be(owner: Patient) -> None:
    status, found = owner.examine("model", "hub")
    assert status == 0
    assert "every file as the hub has it" in found["model"]["text"]
    assert REPOSITORY in found["hub"]["text"]


@pytest.mark.parametrize(("damage", "words"), [(cut, "not whole"), (flip, "model.safetensors is not what the hub has")])
def test_a_damaged_model_is_found_and_the_fix_brings_it_back(
    owner: Patient, hub: Hub, damage: Callable[[Path], None], words: str
) -> None:
    damage(weights(owner))
    status, found = owner.examine("model")
    assert status == 1
    assert words in found["model"]["text"]
    assert found["model"]["fix"] == f"claude-local models pull {REPOSITORY}"
    assert owner.call("models", "pull", REPOSITORY).returncode == 0
    assert owner.examine("model")[0] == 0


def test_a_hub_out_of_reach_does_not_matter_once_the_model_is_here(owner: Patient) -> None:
    owner.environment["HF_ENDPOINT"] = "http://127.0.0.1:1"
    status, found = owner.examine("hub")
    assert (status, found["hub"]["level"]) == (0, "warning")
    assert "not needed now" in found["hub"]["text"]


def test_a_licence_that_is_not_accepted_is_said_with_its_place(owner: Patient, hub: Hub) -> None:
    shutil.rmtree(owner.folder / "hf")
    hub.refusal = (403, {"X-Error-Code": "GatedRepo"})
    try:
        status, found = owner.examine("hub")
    finally:
        hub.refusal = None
    assert status == 1
    assert "accept its licence" in found["hub"]["text"]
    assert f"{hub.url}/{REPOSITORY}" in found["hub"]["fix"]


def test_a_model_that_the_hub_does_not_have_is_said(owner: Patient) -> None:
    owner.environment["CLAUDE_LOCAL_MODEL"] = "someone/else"
    status, found = owner.examine("hub", "model")
    assert status == 1
    assert "has no someone/else" in found["hub"]["text"] and "check the name" in found["hub"]["fix"]
    assert found["model"]["level"] == "ok"


# Ports, in a network of their own where the system lets us have one


ONE_PORT = """
import socket, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
open("/proc/sys/net/ipv4/ip_local_port_range", "w").write("40000 40000")
taken = socket.create_server(("127.0.0.1", 40000))
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
NO_PORT = """
import errno, os, socket, sys
def create_server(*_): raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
socket.create_server = create_server
sys.argv[1:] = sys.argv[sys.argv.index("doctor"):]
sys.path.insert(0, %r)
from shim.main import main
sys.exit(main())
"""


def test_a_machine_without_a_free_port_is_found(patient: Patient) -> None:
    network = alone("--net") if shutil.which("ip") else []
    script = ONE_PORT if network else NO_PORT % str(Path(__file__).parents[2])
    patient.shim = [*network, sys.executable, "-c", script, *patient.shim]
    status, found = patient.examine("port")
    assert status == 1
    assert os.strerror(98) in found["port"]["text"]
    assert "end what holds so many ports" in found["port"]["fix"]


# All of it


def test_a_healthy_machine_is_called_so_and_only_mlx_leaves_kernels(patient: Patient) -> None:
    """With the built-in model, which really answers. A warning may come from this machine (its OpenBLAS, its disk)."""
    patient.environment["CLAUDE_LOCAL_MODEL"] = "demo"
    patient.program("claude", "echo '2.1.330 (Claude Code)'")
    status, found = patient.examine("--quick")
    kernels = patient.folder / ".cache/claude-local/kernels"
    left = {*patient.folder.rglob("*")} - {*kernels.rglob("*"), kernels, kernels.parent, kernels.parent.parent}
    assert left == {patient.bin, patient.bin / "claude"}
    assert (status, {name for name in found if name in doctor.NAMES}) == (0, {*doctor.NAMES} - {"panics", "answer"})
    status, found = patient.examine("answer", "sidecar")
    assert status == 0
    assert found["answer"]["text"].startswith("demo answered in")
    assert "model demo, ready" in patient.examine("sidecar")[1]["sidecar"]["text"]


def test_without_a_model_on_disk_demo_answers_in_its_place(patient: Patient) -> None:
    patient.environment["CLAUDE_LOCAL_MODEL"] = "qwen3-4b"
    status, found = patient.examine("answer")
    assert status == 0
    assert "in place of qwen3-4b" in found["answer"]["text"]


def test_its_lines_can_be_pasted_into_a_bug_report(patient: Patient) -> None:
    """No token, no password, no name of the user; one line for each check, its fix beneath, no colour."""
    secrets = {
        "HF_TOKEN": "hf_hiddenhidden",
        "ANTHROPIC_AUTH_TOKEN": "sk-ant-hidden",
        "https_proxy": "http://bob:hiddenword@127.0.0.1:1",
        "CLAUDE_LOCAL_MODEL": str(patient.folder / "models" / "mine"),
        "CLAUDE_LOCAL_LOG_DIR": str(patient.folder / "logs"),
        "HF_ENDPOINT": "http://carol:hiddenword@127.0.0.1:1",
    }
    patient.environment |= secrets
    patient.settings(ELSEWHERE)
    patient.program("claude", "exit 1")
    stale_socket(patient)
    done = patient.call("doctor", "--quick", cwd=patient.folder)
    assert done.returncode == 1
    for hidden in ("hidden", "bob", "carol", ALICE, "\x1b"):
        assert hidden not in done.stdout, hidden
    *lines, last = done.stdout.splitlines()
    assert re.fullmatch(r"\d failures?, \d warnings?", last)
    named = [line.split()[1] for line in lines if not line.startswith(" ")]
    assert named == [name for name in doctor.NAMES if name not in ("panics", "answer")]
    assert all(line.strip().startswith("fix: ") for line in lines if line.startswith(" "))
    assert not done.stderr


def test_an_unknown_check_is_named_with_the_nearest(patient: Patient) -> None:
    done = patient.call("doctor", "modle")
    assert done.returncode == 64
    assert "did you mean model?" in done.stderr


def test_signals_of_a_terminal_end_it(patient: Patient) -> None:
    """Ctrl-C while something hangs: it ends, and says nothing of a traceback."""
    with process(STRANGER.replace("c.close()", "signal.pause()").replace("c.sendall", "str"), patient.run / "socket"):
        child = patient.start("doctor", "platform", "sidecar")
        assert child.stdout is not None and child.stderr is not None
        assert b"platform" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == -signal.SIGINT
        assert b"Traceback" not in child.stderr.read()


def test_it_looks_also_from_a_folder_that_is_gone(patient: Patient) -> None:
    gone = patient.folder / "gone"
    gone.mkdir()
    script = 'rmdir "$PWD" && exec "$@"'
    command = ["sh", "-c", script, "sh", *patient.shim, "doctor", "configuration", "settings"]
    done = subprocess.run(command, cwd=gone, env=patient.environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
