"""The real sidecar and the real engine with other figures: what takes minutes, or a slow disk, in seconds.

Run as a process in two roles, as `light_sidecar` is. CLAUDE_LOCAL_TEST_CHANGES, a JSON object, says what to change:
"module.NAME" of a figure; "write_s", how long the disk takes for a piece.
"""

import json
import os
import sys
import time
from importlib import import_module
from typing import Any


def change(changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        module, _, figure = name.rpartition(".")
        if module:
            assert hasattr(import_module(module), figure), name
            setattr(import_module(module), figure, value)


def slow(seconds: float) -> None:
    """Make the disk slow."""
    from sidecar.engine.cache.disk_store import Disk

    write = Disk.write

    def slowly(disk: Disk, node: Any) -> str | None:
        time.sleep(seconds)
        return write(disk, node)

    Disk.write = slowly  # type: ignore[method-assign]


def main() -> None:
    changes = json.loads(os.environ["CLAUDE_LOCAL_TEST_CHANGES"])
    write_s = changes.pop("write_s", 0)
    if sys.argv[1].isdigit():
        from sidecar.engine import worker

        slow(write_s)
        worker.main()
        return
    from sidecar import serve
    from sidecar.supervisor import process

    change(changes)
    process.WORKER[:] = [sys.executable, "-I", __file__]
    serve.main()


if __name__ == "__main__":
    main()
