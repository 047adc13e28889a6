"""A private folder of one invocation in the run directory: made before the relay is forked, removed when that ends."""

import fcntl
import os
import time
from pathlib import Path

PREFIX = "agent-"

FRESH = 60.0
"""Seconds in which a folder may be without its lock."""


class Folder:
    """Readable by the user alone. Its lock, shared with the relay by the fork, says that it is in use."""

    def __init__(self, directory: Path) -> None:
        sweep(directory)
        self.path = directory / f"{PREFIX}{os.getpid()}-{os.urandom(6).hex()}"
        os.mkdir(self.path, 0o700)
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    @property
    def held(self) -> tuple[str, int]:
        """The path, which the relay removes, and the descriptor, which it keeps."""
        return str(self.path), self._descriptor

    def write(self, name: str, text: str) -> None:
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)


def sweep(directory: Path) -> None:
    """Remove the folders of relays that were killed: those on which nobody holds the lock any more."""
    for path in directory.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A fresh one may be between its creation and its lock.
            if time.time() - os.fstat(descriptor).st_mtime > FRESH:
                import shutil

                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(descriptor)
