"""The name of an installed claude-local, the only one that it takes among all that is installed beside it.

`shim` and `sidecar`, which others may have packages of as well, lie in this folder then; in a checkout, beside bin/.
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = HERE if os.path.isdir(os.path.join(HERE, "shim")) else os.path.dirname(os.path.dirname(HERE))
"""The folder of our packages."""


def main() -> int:
    """The console script: our own packages first, whatever the user's folder or PYTHONPATH hold."""
    sys.path[:] = search_path(ROOT, sys.path, sys.argv[0], os.environ.get("PYTHONPATH", ""))
    from shim.main import main

    return main()


def search_path(root: str, path: list[str], script: str, given: str) -> list[str]:
    """Where to look for modules: here, in the library, among what is installed, and only then where the user says.

    bin/claude-local does without the last by starting Python isolated. Here it is too late for that, and a second start
    would cost every command its time. What is started from here on is isolated.
    """
    late = {os.path.realpath(entry) for entry in given.split(os.pathsep)} if given else set()
    late.add(os.path.dirname(os.path.realpath(script)))
    last = [entry for entry in path if os.path.realpath(entry) in late]
    return [root, *(entry for entry in path if entry not in last and entry != root), *last]
