"""Log files that stay small: `sidecar.log` (also the engine's) and `relay.log`, five older ones of each."""

import os
from pathlib import Path

LIMIT = 2_000_000
"""Bytes from which a log is put aside."""
KEPT = 5
NAMES = ("sidecar.log", "relay.log")


def rotate(directory: Path, limit: int = LIMIT) -> list[str]:
    """Put logs of more than `limit` bytes aside as NAME.1 (the newest) to NAME.5; the names of those that were."""
    rotated = []
    for name in NAMES:
        log = directory / name
        try:
            if log.stat().st_size <= limit:
                continue
            for number in range(KEPT - 1, 0, -1):
                if (old := Path(f"{log}.{number}")).exists():
                    old.rename(f"{log}.{number + 1}")
            log.rename(f"{log}.1")
        except OSError:
            continue  # gone, or a disk that takes nothing: no reason not to serve
        rotated.append(name)
    return rotated


def reopen(directory: Path) -> None:
    """Have this process's stdout and stderr, and its children's, go to the new sidecar.log."""
    try:
        log = os.open(directory / "sidecar.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
