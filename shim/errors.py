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


NARROWEST = 20
"""Columns from which lines are folded."""


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
        os.write(2, f"{folded(f'claude-local: {harmless(text)}', 2)}\n".encode(errors="backslashreplace"))


def folded(text: str, descriptor: int) -> str:
    """As wide as the terminal there, which would break words; as it is, where there is none."""
    try:
        columns = os.get_terminal_size(descriptor).columns
    except OSError:
        return text
    if columns < NARROWEST or all(len(line) <= columns for line in text.split("\n")):
        return text
    import textwrap

    lines = (textwrap.wrap(line, columns, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(part for line in lines for part in line or [""])


def harmless(text: str) -> str:
    """The text without anything that a terminal obeys, lines' ends and tabs aside: names of files may hold it."""
    if text.isprintable():
        return text
    controls = {*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {9, 10}
    return text.translate(dict.fromkeys(controls, "?"))
