"""What mlx is given by its surroundings: a fast matrix product, a sparing malloc, a folder for its kernels."""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from sidecar.config import scratch

MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""glibc gives freed memory back to the machine: without these it keeps the holes between what is still used."""


def environment(platform: str = sys.platform) -> dict[str, str]:
    """The environment of a process that imports mlx."""
    inherited = dict(os.environ)
    if platform != "linux":
        return inherited
    inherited = MALLOC | inherited
    if "LD_PRELOAD" not in inherited and (library := blas()):
        inherited["LD_PRELOAD"] = str(library)
    # mlx compiles kernels into its temporary folder and loads them from there. In /tmp the first user of a machine has
    # that folder and all others are locked out; and what is loaded as code must lie where nobody else may write.
    with suppress(OSError):
        folder = scratch()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours_alone(folder):
            inherited["TMPDIR"] = str(folder)
    return inherited


def give_back(library: Any = None) -> None:
    """Have malloc give the machine what it keeps between the pieces that are used: some milliseconds.

    glibc must be asked to; where there is no such call, nothing is done. `library`: the C library, of this process.
    """
    trim = getattr(library or ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _is_ours_alone(folder: Path) -> bool:
    """Whether nobody else may write there: XDG_CACHE_HOME may be a folder in which others make theirs first."""
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def blas(libraries: Path = Path("/usr/lib")) -> Path | None:
    """The system's OpenBLAS, None where there is none: MLX's CPU build for Linux carries a reference BLAS, with which
    prompts are read 4 to 6 times slower."""
    return max(libraries.glob("*-linux-gnu/libopenblas.so.0"), default=None)
