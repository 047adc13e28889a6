"""Other users of this machine, whom only root can become: two numbers that nobody has."""

import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

FIRST, SECOND = 64_101, 64_102

READ_ALL = "-all,+dac_read_search"
"""The one right that these users are given: root's checkout and interpreter may lie where others cannot look."""

needed = pytest.mark.skipif(os.geteuid() != 0, reason="takes other users, whom only root can become")


def become(uid: int) -> None:
    """For a child of root's: from now on it is that user and no other."""
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def run_as(uid: int, act: Callable[[], Any]) -> str:
    """What `act` returned in a process of that user's, or raised there, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            become(uid)
            os.write(writer, str(act()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def command(uid: int, *words: str) -> list[str]:
    """A command line for root, that becomes `words` as that user."""
    rights = [f"--inh-caps={READ_ALL}", f"--ambient-caps={READ_ALL}"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *rights, *words]
