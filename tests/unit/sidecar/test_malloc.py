"""What surrounds mlx."""

import platform

import psutil
import pytest

from sidecar.memory import malloc


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others give it back unasked")
def test_freed_memory_between_what_is_used_is_given_back() -> None:
    blocks = [bytes(100_000) for _ in range(500)]
    del blocks[:-1]  # the last one keeps the heap from shrinking by itself
    held = psutil.Process().memory_full_info().uss
    malloc.give_back()
    assert held - psutil.Process().memory_full_info().uss > 25_000_000


def test_a_library_that_cannot_is_not_asked() -> None:
    malloc.give_back(object())
