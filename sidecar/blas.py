"""Where a fast matrix product lies on Linux: MLX's CPU build carries a reference BLAS, OpenBLAS reads prompts 4 to 6
times faster. Put before it with LD_PRELOAD."""

from pathlib import Path


def fast(libraries: Path = Path("/usr/lib")) -> Path | None:
    """The system's OpenBLAS; None where none is installed."""
    return max(libraries.glob("*-linux-gnu/libopenblas.so.0"), default=None)
