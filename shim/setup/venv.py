"""The Python environment of a checkout: `.venv`, made by bin/* on first use and again when its inputs change.

Run by any Python >= 3.11 that is found (`python3 -I shim/setup/venv.py [test]`), so it may use nothing but the
standard library. A marker, written last, holds the inputs that the environment was made from: without it, or with
other inputs in it, nobody trusts what is there. What an interrupted run leaves behind is removed by the next.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from shim.errors import CANNOT_CREATE, IO_ERROR, UNAVAILABLE, USAGE, Failure, say  # noqa: E402

MARKERS = {"": "complete", "test": "complete-test"}
"""Written last, for each set of packages. bin/claude-local compares the first one's age with the inputs' own."""

BIG = re.compile(r"[Dd]ownloading (\S+?)(?:-py3\S*|-cp3\S*)? \(([\d.]+) ?([MG]i?B)\)")
"""What pip and uv say of a download that is worth a line."""


def main(arguments: list[str]) -> int:
    """Make sure of the environment; returns the exit code."""
    group = arguments[0] if arguments else ""
    try:
        if group not in MARKERS:
            raise Failure(f"{group}: not a group of packages", USAGE)
        make(ROOT, group)
    except Failure as failure:
        say(failure.reason)
        return failure.exit_code
    except OSError as error:
        say(f"cannot make {ROOT / '.venv'}: {error.strerror}")
        return CANNOT_CREATE
    except KeyboardInterrupt:
        say("interrupted; the next start begins again")
        return 130
    return 0


def make(root: Path, group: str) -> None:
    """Make `.venv` complete for a group of packages, by whatever is missing; raises Failure."""
    # The folder itself is the lock: a lock file would be one more thing in a user's checkout.
    lock = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another terminal is setting this up already; waiting …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        _make(root, root / ".venv", group, lock)
    finally:
        os.close(lock)


def _make(root: Path, venv: Path, group: str, lock: int) -> None:
    inputs = read_inputs(root)
    marker = venv / MARKERS[group]
    if works(venv) and marker.is_file() and marker.read_text("utf-8") == inputs:
        marker.touch()  # the files were written again, by a checkout perhaps, with the same content
        return
    say(f"setting up {venv}: " + ("packages for tests …" if group else "first use, about a minute …"))
    uv = shutil.which("uv")
    if not works(venv) or not any((venv / name).is_file() for name in MARKERS.values()):
        _create(venv, uv)
    for name in MARKERS.values():
        (venv / name).unlink(missing_ok=True)
    _install(root, venv, uv, group, lock)
    for name in {MARKERS[""], MARKERS[group]}:
        temporary = venv / f"{name}.part"
        temporary.write_text(inputs, "utf-8")
        temporary.rename(venv / name)
    say("ready")


def read_inputs(root: Path) -> str:
    """The text of everything that decides what is installed."""
    files = [root / "pyproject.toml", root / "constraints.txt"]
    return "\n".join(file.read_text("utf-8") for file in files if file.exists())


def works(venv: Path) -> bool:
    """Whether its interpreter starts: one that was updated away leaves a link to nowhere."""
    try:
        return subprocess.run([venv / "bin/python", "-IS", "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def packages(root: Path, group: str) -> list[str]:
    """What to install, as pip's arguments. Groups are read here, since pip knows them from 25.1 only."""
    wanted = ["-e", str(root)]
    if group:
        table = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        wanted += table["dependency-groups"][group]
    if (root / "constraints.txt").exists():
        wanted += ["-c", str(root / "constraints.txt")]
    return wanted


def _create(venv: Path, uv: str | None) -> None:
    shutil.rmtree(venv, ignore_errors=True)
    if uv:
        command = [uv, "venv", "--quiet", "--python", sys.executable, str(venv)]
    else:
        command = [sys.executable, "-I", "-m", "venv", str(venv)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        said = result.stdout.decode(errors="replace")
        if "ensurepip" in said:
            said = "this Python has no ensurepip. Install it (apt install python3-venv) or uv, and try again."
        raise failed("cannot make an environment", said.splitlines())


def _install(root: Path, venv: Path, uv: str | None, group: str, lock: int) -> None:
    if uv:
        command = [uv, "pip", "install", "--python", str(venv / "bin/python")]
    else:
        command = [str(venv / "bin/python"), "-I", "-m", "pip", "install"]
        command += ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    process = subprocess.Popen(
        [*command, *packages(root, group)],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=[lock],  # should we be killed and the installer not, the next try waits for its end
    )
    assert process.stdout is not None
    lines = list(show(process.stdout, os.isatty(2)))
    if process.wait():
        raise failed("cannot install the packages", lines)


def show(lines: Iterator[str], terminal: bool) -> Iterator[str]:
    """Pass an installer's lines on, and show the user how far it is: a line that changes, or one for what is big."""
    count = 0
    for line in lines:
        text = line.strip()
        count += text.startswith("Collecting ")
        if match := BIG.search(text):
            size = float(match[2]) * (1000 if match[3].startswith("G") else 1)
            if size >= 5:
                _clear(terminal)
                say(f"downloading {match[1]} ({match[2]} {match[3]})")
        elif text.startswith("Installing collected packages"):
            _clear(terminal)
            say(f"unpacking {text.count(',') + 1} packages …")
        elif terminal and text:
            os.write(2, f"\r\x1b[Kclaude-local: [{count}] {text[:60]}".encode(errors="replace"))
        yield text
    _clear(terminal)


NO_NETWORK = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "(from versions: none)", "dns error")
"""How pip and uv say that they reached nobody; the last but one is pip's, when it could not even ask for a package."""


def failed(what: str, lines: list[str]) -> Failure:
    """One or two lines: what failed, in the installer's own last words, and what to do."""
    text = "\n".join(lines)
    if "No space left" in text:
        return Failure(f"{what}: no space left on the disk.\nFree some (about 1 GB is needed) and try again.", IO_ERROR)
    if any(sign in text for sign in NO_NETWORK):
        return Failure(f"{what}: the package index cannot be reached.\nCheck the network and try again.", UNAVAILABLE)
    said = [line.strip() for line in lines if line.strip()]
    if not said:
        return Failure(f"{what}: the installer ended without a word (too little memory?).\nTry again.", UNAVAILABLE)
    errors = [line for line in said if re.match(r"(ERROR|error|OSError)", line) and "subprocess-exited" not in line]
    return Failure(f"{what}: {(errors or said)[-1][:300]}\nCorrect that and try again.", UNAVAILABLE)


def _clear(terminal: bool) -> None:
    if terminal:
        os.write(2, b"\r\x1b[K")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
