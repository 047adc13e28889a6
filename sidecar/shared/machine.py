"""What this machine computes with."""

import os
import sys


def accelerated() -> bool:
    """Whether a GPU can be expected to do the work."""
    return sys.platform == "darwin" or os.path.exists("/proc/driver/nvidia/version")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
