"""A question before something that cannot be undone."""

import sys

from shim.failure import USAGE, Failure


def agrees(question: str) -> bool:
    """Whether the user says yes; raises Failure where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise Failure(f"{question} Say so with --yes", USAGE)
    sys.stderr.write(f"claude-local: {question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
