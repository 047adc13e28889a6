"""The environment of a process that imports mlx: a fast matrix product, a sparing malloc, a folder for its kernels."""

import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sidecar.memory.malloc import MALLOC
from sidecar.shared import config, run_directory
from sidecar.shared.config import KERNELS

ROOM = 4 << 20
"""Bytes that must be free there: the compiler's own files for one kernel take less than one million."""

SHELL = '"$`\\'
"""What means something within double quotes: mlx has a shell call the compiler, with the folder's name between two."""

NOWHERE = {"MLX_DISABLE_COMPILE": "1", "MLX_PTX_CACHE_DIR": f"{os.devnull}/none"}
"""No kernels from a folder: on a CPU none are compiled, and those for CUDA are compiled anew by each process."""

log = logging.getLogger(__name__)


class Kernels(NamedTuple):
    """Where mlx may keep what it compiles, and loads as code; None = nowhere."""

    folder: Path | None
    why: str = ""
    """What is wrong with a better place."""


def environment(platform: str = sys.platform, kernels: Kernels | None = None) -> dict[str, str]:
    """The environment of a process that imports mlx. `kernels`: where its kernels go, for who has looked already."""
    inherited = dict(os.environ)
    if platform == "linux":
        inherited = MALLOC | inherited
        if "LD_PRELOAD" not in inherited and (library := blas()):
            inherited["LD_PRELOAD"] = str(library)
    if kernels is None:
        kernels = find_kernels()
        _say(kernels)
    if kernels.folder is None:
        return inherited | NOWHERE
    own = Path(inherited.get("MLX_PTX_CACHE_DIR") or kernels.folder)
    if own != kernels.folder and _trouble(lambda: own):
        del inherited["MLX_PTX_CACHE_DIR"]
    return inherited | {"TMPDIR": str(kernels.folder)}


def find_kernels() -> Kernels:
    """The user's cache, else the run directory; neither is repaired when somebody else could have put something in.

    mlx takes the folder for temporary files, unless it is told another. That is /tmp mostly, where whoever comes first
    has the folder of that name, and their code would be run.
    """
    why: list[str] = []
    for place in (config.scratch, _in_run_directory):
        if not (trouble := _trouble(place, make=True)):
            return Kernels(place(), "; ".join(why))
        why.append(trouble)
    return Kernels(None, "; ".join(why))


def _in_run_directory() -> Path:
    return run_directory.run_directory(config.load().run_dir).path / KERNELS


def _trouble(place: Callable[[], Path], make: bool = False) -> str:
    """Why mlx cannot have this folder, "" when it can."""
    folder = None
    try:
        folder = place()
        if any(mark in SHELL or ord(mark) < 32 for mark in str(folder)):
            return f"{folder}: mlx cannot call its compiler with such a name"
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if flaw := _flaw(folder):
            return f"{folder} {flaw}"
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(ROOM))
    except OSError as error:
        return f"{folder or error.filename}: {error.strerror}"
    except (config.ConfigError, run_directory.RunDirectoryError) as error:
        return str(error)
    return ""


def _flaw(folder: Path) -> str:
    """What would let others put something in, "" when nothing does: neither there nor by giving its name to another."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "is no folder, or a symbolic link"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}"
    if status.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(status.st_mode):o})"
    trusted = {0, os.geteuid(), os.lstat("/").st_uid}
    for parent in Path(os.path.realpath(folder)).parents:
        status = parent.lstat()
        # Many systems give each user a group of the same number, in which nobody else is.
        others = stat.S_IWOTH if status.st_gid == status.st_uid else stat.S_IWOTH | stat.S_IWGRP
        if status.st_uid not in trusted or (status.st_mode & others and not status.st_mode & stat.S_ISVTX):
            return f"lies in {parent}, which others can change"
    return ""


@lru_cache
def _say(kernels: Kernels) -> None:
    """Once for each state of affairs."""
    if not kernels.why:
        return
    instead = f"are kept in {kernels.folder}" if kernels.folder else "are done without, which is somewhat slower"
    log.warning("compiled kernels %s: %s", instead, kernels.why)


def blas(libraries: Path = Path("/usr/lib")) -> Path | None:
    """The system's OpenBLAS, None where there is none: MLX's CPU build for Linux carries a reference BLAS, with which
    prompts are read 4 to 6 times slower."""
    return max(libraries.glob("*-linux-gnu/libopenblas.so.0"), default=None)
