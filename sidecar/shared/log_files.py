"""Log files that stay small: `sidecar.log` (also the engine's) and `relay.log`, five older ones of each.

What others have written (names of folders and tools, patterns of schemas) stands in them without what a terminal obeys,
and a message is one line: who reads a log takes nothing for an entry that is none.
"""

import logging
import os
import shutil
from pathlib import Path

LIMIT = 2_000_000
"""Bytes from which a log is put aside."""
KEPT = 5
NAMES = ("sidecar.log", "relay.log")


class Formatter(logging.Formatter):
    """Messages in one line each; a traceback in its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _escaped(super().formatMessage(record))

    def formatException(self, ei: object) -> str:
        text = super().formatException(ei)  # type: ignore[arg-type]  # passed on
        return "\n".join(_escaped(line) for line in text.split("\n"))


def begin(level: str, form: str) -> None:
    """Log to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(form))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def rotate(directory: Path, limit: int = LIMIT) -> list[str]:
    """Put logs of more than `limit` bytes aside as NAME.1 (the newest) to NAME.5; the names of those that were.

    Copied, then emptied: the engine and others that have the file open, all of them at its end, go on in it.
    """
    rotated = []
    for name in NAMES:
        log, copy = directory / name, directory / f"{name}.part"
        try:
            if log.stat().st_size <= limit:
                continue
            shutil.copyfile(log, copy)
            copy.chmod(0o600)
            for number in range(KEPT - 1, 0, -1):
                if (old := Path(f"{log}.{number}")).exists():
                    old.rename(f"{log}.{number + 1}")
            copy.rename(f"{log}.1")
            os.truncate(log, 0)
        except OSError:
            continue  # gone, or a disk that takes nothing: no reason not to serve
        rotated.append(name)
    return rotated
