"""The kernels that mlx compiles: whether they can be had here, and what becomes of them when one fails.

On a CPU mlx has g++ make a library of what `mx.compile` has fused, in the folder that `supervisor.environment` has
found, and loads it from there. Without, each operation runs by itself: the same numbers, somewhat slower.
"""

import logging
import os
import shutil
from pathlib import Path

import mlx.core as mx

from sidecar.shared.config import KERNELS

SIGNS = ("Failed to compile", "Failed to load compiled", "Could not load C++ shared library", "filesystem error")
"""How mlx says that a kernel is not to be had."""

log = logging.getLogger(__name__)


def try_out() -> str:
    """Have one compiled, once in a folder's life; where that fails do without them from now on. Returns why."""
    if mx.default_device() != mx.cpu:
        return ""
    try:
        _compile()
        return ""
    except Exception as error:
        forget(error)
    try:
        _compile()
        return ""
    except Exception as error:
        mx.disable_compile()
        why = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        log.warning("compiled kernels are done without, which is somewhat slower: %s", why)
        return why


def forget(error: BaseException) -> None:
    """After an error about a kernel, throw all away: what a full disk has left of one would be loaded for ever. The
    next engine has them compiled again, or finds that it cannot."""
    folder = Path(os.environ.get("TMPDIR", ""))
    if folder.name == KERNELS and any(sign in str(error) for sign in SIGNS):
        shutil.rmtree(folder / "mlx", ignore_errors=True)


def fused(x: mx.array) -> mx.array:
    """What mlx makes one kernel of."""
    return x * 2.0 + 1.0


def _compile() -> None:
    mx.eval(mx.compile(fused)(mx.zeros(8)))
