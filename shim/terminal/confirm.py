"""A question to whoever sits at the terminal."""

import sys

from shim.errors import USAGE, Failure


def agrees(question: str) -> bool:
    """Whether the user says yes; raises Failure where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise Failure(f"{question} Say so with --yes", USAGE)
    sys.stderr.write(f"claude-local: {question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def asked(question: str) -> str:
    """What the user answers, in one line; empty where he says nothing."""
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip()
