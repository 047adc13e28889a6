"""How a process of this very installation is started."""

import sys
from pathlib import Path


def program(module: str, *arguments: str) -> list[str]:
    """The command line of a module of this very installation.

    Not `-m`: it would look among all that is installed, where an installation has its modules under another name, and
    others may have packages of theirs under these.
    """
    return [sys.executable, "-I", str(Path(__file__).parents[1] / "__main__.py"), module, *arguments]
