"""The machine and what runs on it: system, Python, mlx, matrix products, memory, kernel panics."""

import json
import os
import platform as system
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from shim.doctor.check import Finding, failure, ok, warning
from shim.doctor.context import Case
from shim.relay import server
from shim.terminal.progress import size
from sidecar import __version__
from sidecar.memory import guard
from sidecar.memory.guard import Sample
from sidecar.memory.probe import Probe, largest
from sidecar.models import sizing
from sidecar.models.resolve import ModelFiles
from sidecar.shared import config
from sidecar.shared.program import program
from sidecar.supervisor import environment

REPORTS = Path("/Library/Logs/DiagnosticReports")
"""Where macOS leaves what it knows of a kernel panic."""
PANIC_DAYS = 14
OLDEST_MACOS = 14
"""What mlx's wheels are built for."""
FEW_FILES = 400
"""Terminals and requests together from which on a limit on open files is felt: the sidecar takes 256 requests at once,
beside open terminals."""
DEVICE_S = 60.0
"""For importing mlx from a cold disk."""


def platform() -> Finding:
    name = "macOS" if sys.platform == "darwin" else system.system()
    release = system.mac_ver()[0] if sys.platform == "darwin" else system.release()
    return judge_platform(sys.platform, system.machine(), name, release)


def judge_platform(kind: str, machine: str, name: str, release: str) -> Finding:
    """`kind`: as in sys.platform."""
    here = f"claude-local {__version__} on {name} {release}, {machine}"
    if kind == "darwin" and machine != "arm64":
        fix = "on Apple Silicon: install an arm64 Python (brew install python) and remove .venv; Intel Macs are too old"
        return failure(f"{here}: mlx needs Apple Silicon, and a Python made for it", fix)
    if kind == "darwin" and int(release.partition(".")[0] or 0) < OLDEST_MACOS:
        return failure(f"{here}: mlx needs macOS {OLDEST_MACOS}", "update macOS")
    if kind not in ("darwin", "linux"):
        return failure(f"{here}: only macOS and Linux are known", "on Windows: use it inside WSL 2")
    return ok(here)


def python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return judge_python(version, struct.calcsize("P") * 8, sys.prefix)


def judge_python(version: str, bits: int, prefix: str) -> Finding:
    here = f"Python {version} in {prefix}"
    if tuple(map(int, version.split(".")[:2])) < (3, 11):
        return failure(f"{here} is too old", "install Python 3.11 or newer, and remove .venv")
    if bits != 64:
        return failure(f"{here} has {bits} bits", "install a 64-bit Python, and remove .venv")
    return ok(here)


def mlx() -> Finding:
    """In a process of its own, as the engine is: a driver that does not fit can end it."""
    command = program("sidecar.engine.device")
    kernels = environment.find_kernels()
    try:
        done = subprocess.run(
            command,
            env=environment.environment(kernels=kernels),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEVICE_S,
        )
    except subprocess.TimeoutExpired:
        return failure(f"did not compute anything within {DEVICE_S:.0f} s", "restart the machine")
    has_nvidia = Path("/dev/nvidia0").exists() or Path("/dev/dxg").exists()
    return judge_mlx(done.returncode, done.stdout, done.stderr, sys.platform, has_nvidia, kernels.why)


def judge_mlx(status: int, said: str, complaints: str, kind: str, has_nvidia: bool, place: str = "") -> Finding:
    """From how `sidecar.engine.device` ended and what it said. `place`: what is wrong with where kernels belong."""
    if status or not said.strip():
        why = (complaints.strip().splitlines() or [f"ended with status {status}"])[-1]
        return failure(f"does not work: {why}", "remove .venv: the next start makes it again")
    about: dict[str, Any] = json.loads(said)
    here = f"mlx {about['mlx']}, mlx-lm {about['mlx_lm']}, on the {about['device'].upper()} ({about['name']})"
    if not about["right"]:
        return failure(f"{here} computes wrongly", "update the system and its GPU driver, and remove .venv")
    if about["device"] == "cpu" and kind == "darwin":
        return failure(f"{here}: no Metal", "run it on the Mac itself: virtual machines have no Metal")
    if about["device"] == "cpu" and has_nvidia:
        return warning(f"{here}, although there is an NVIDIA GPU", "pip install 'mlx[cuda]' into .venv")
    if trouble := place or about.get("without_kernels"):
        fix = "correct that, or point XDG_CACHE_HOME to a folder of yours alone, on a disk with some space"
        return warning(f"{here}; compiled kernels are not where they belong: {trouble}", fix)
    return ok(here)


def openblas() -> Finding:
    """Of use on Linux alone, where there is no GPU."""
    if preloaded := os.environ.get("LD_PRELOAD"):
        return ok(f"LD_PRELOAD is yours ({preloaded}) and stays")
    if library := environment.blas():
        return ok(f"prompts are read with {library}")
    return warning(
        "not installed: without a GPU, prompts are read 4 to 6 times slower", "apt install libopenblas0-pthread"
    )


def memory(case: Case, name: str, files: ModelFiles | None, weights: int) -> Finding:
    """`files`: the model, if it is on disk; `weights`: its bytes, 0 = nobody knows."""
    running = case.running() or {}
    held = float((running.get("memory") or {}).get("used_gb") or 0) * guard.GB
    sample = Probe(case.settings.memory_limit_gb * guard.GB)()
    sample = Sample(min(sample.total, sample.available + int(held)), sample.total)
    return judge_memory(case, name, files, weights, sample, largest([os.getpid()]))


def judge_memory(
    case: Case, name: str, files: ModelFiles | None, weights: int, sample: Sample, others: list[tuple[str, int]]
) -> Finding:
    """`sample`: what claude-local itself holds is free in it; `others`: (program, bytes) of those who hold most."""
    settings, caution = case.settings, case.settings.memory_caution_gb * guard.GB
    limit = settings.memory_limit_gb
    held = ", ".join(f"{program} {size(count)}" for program, count in others)
    advice = f"raise CLAUDE_LOCAL_MEMORY_LIMIT_GB ({limit:g})" if limit else f"close something (most have {held})"
    reason = sizing.load_refusal(name, files.memory_bytes if files else weights, sample.available, caution, advice)
    if reason:
        text, _, rest = reason.partition(f": {advice}")
        return failure(text, advice + rest)
    here = f"{sample.available / guard.GB:.1f} of {sample.total / guard.GB:.1f} GB are free"
    if not files:
        return ok(f"{here}; {name} takes {size(weights)} and fits" if weights else here)
    found = sizing.limits(files, sample.available, caution, settings.context, settings.cache_gb, settings.kv_bits)
    here += f"; {name} takes {size(weights)} and has room for {found.context_window:,} tokens"
    here += f" with {config.kv_format_name(found.kv_bits)}" * (found.kv_bits != "16")
    wanted = min(files.context_window, settings.context or sys.maxsize, sizing.AMPLE_WINDOW // 2)
    if found.context_window < wanted:
        fix = f"{advice}, or use a model whose tokens take less: CLAUDE_LOCAL_MODEL=qwen3-4b"
        return warning(f"{here}, too few for an agent's first request", fix)
    return ok(here)


def open_files() -> Finding:
    """The hard limit: below it we help ourselves."""
    return judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def judge_open_files(most: int) -> Finding:
    """`most`: how many a process may have, or RLIM_INFINITY. Every connection takes some: one in the sidecar for each
    terminal and each request, two in a terminal's relay."""
    if most == resource.RLIM_INFINITY:
        return ok("as many open files as are needed")
    together, each = max(1, most - server.SPARE), server.seats_for(most)
    here = f"{most:,} open files at most for a process: enough for {together:,} terminals and requests together"
    if together >= FEW_FILES and each == server.SEATS:
        return ok(here)
    fix = "raise the hard limit: docker run --ulimit nofile=4096, LimitNOFILE=4096 in a unit, limits.conf, ulimit -Hn"
    return warning(f"{here}, and for {each} connections of one terminal; more wait", fix)


def panics() -> Finding:
    """macOS alone."""
    return judge_panics(REPORTS, time.time())


def judge_panics(reports: Path, now: float) -> Finding:
    """`reports`: a folder with macOS's *.panic files; `now`: seconds since the epoch."""
    recent = [file for file in reports.glob("*.panic") if now - file.stat().st_mtime < PANIC_DAYS * 86400]
    if not recent:
        return ok(f"none in the last {PANIC_DAYS} days")
    last = max(recent, key=lambda file: file.stat().st_mtime)
    days = (now - last.stat().st_mtime) / 86400
    said = f"{len(recent)} in the last {PANIC_DAYS} days, the last one {days:.0f} days ago ({last.name})"
    if b"IOGPU" in last.read_bytes() or b"AGXG" in last.read_bytes():
        fix = "update macOS; set CLAUDE_LOCAL_MEMORY_LIMIT_GB to half of the memory until it stays away"
        return warning(f"{said}: in the GPU's driver", fix)
    return warning(f"{said}: not in the GPU's driver", f"look at {last}; claude-local has hardly caused it")
