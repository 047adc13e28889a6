"""A malloc that gives freed memory back to the machine."""

import ctypes
from typing import Any

MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
"""glibc gives freed memory back to the machine: without these it keeps the holes between what is still used."""


def give_back(library: Any = None) -> None:
    """Have malloc give the machine what it keeps between the pieces that are used: some milliseconds.

    glibc must be asked to; where there is no such call, nothing is done. `library`: the C library, of this process.
    """
    trim = getattr(library or ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
