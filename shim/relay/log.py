"""relay.log: a line for what a relay has to say, and older files beside it."""

import os
import time
from collections.abc import Callable

from shim.errors import harmless

LOG_LIMIT = 2 * 1024 * 1024
LOGS_KEPT = 5


def logger(folder: str) -> Callable[[str], None]:
    """What appends a line to relay.log. There is nobody to tell when that fails."""
    path = os.path.join(folder, "relay.log")

    def log(text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            if os.fstat(descriptor).st_size > LOG_LIMIT:
                _rotate(path)
            os.write(descriptor, f"{stamp} {os.getpid()} {harmless(text)}\n".encode(errors="backslashreplace"))
            os.close(descriptor)
        except OSError:
            pass

    return log


def _rotate(path: str) -> None:
    for number in range(LOGS_KEPT - 1, 0, -1):
        older, newer = f"{path}.{number}", path if number == 1 else f"{path}.{number - 1}"
        if os.path.exists(newer):
            os.replace(newer, older)
