"""The one way in which the shim gives up: a sentence for the user and an exit code. It knows nothing else."""

import contextlib
import os

# sysexits.h, as far as we use it; 126 and 127 are the shell's own words for a command that cannot run or is missing.
USAGE = 64
DATA = 65
NO_INPUT = 66
UNAVAILABLE = 69
INTERNAL = 70
OS_ERROR = 71
CANNOT_CREATE = 73
IO_ERROR = 74
TEMPFAIL = 75
CONFIG = 78
CANNOT_RUN = 126
NOT_FOUND = 127


class Failure(Exception):
    """Ends the launcher: `reason` is one or two lines that say what to do, `exit_code` the process's own."""

    def __init__(self, reason: str, exit_code: int = UNAVAILABLE) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_code = exit_code


class Died(Failure):
    """A sidecar ended while it was starting, without a word: killed, or broken. Worth one more try."""


class Outdated(Failure):
    """What is installed now speaks another protocol than this process: nothing that it starts will ever serve it."""


def say(text: str) -> None:
    """One line on stderr. Straight to the descriptor: it may be closed, and then nobody wants to know."""
    with contextlib.suppress(OSError):
        os.write(2, f"claude-local: {text}\n".encode(errors="backslashreplace"))
