"""Small files beside the prefixes: ours alone, and replaced whole."""

import os
from contextlib import suppress
from pathlib import Path

PART = ".part"
"""What a file that is not yet whole ends in."""


def put(file: Path, data: bytes) -> None:
    """Replace a file; raises OSError, and leaves nothing half done."""
    part = file.with_name(f"{file.name}.{os.getpid()}{PART}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as written:
            written.write(data)
        part.rename(file)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise
