"""A descriptor that becomes readable when a process ends: the one thing Linux and macOS spell differently here."""

import os
import select
import sys


class Watch:
    """`fileno()` for select. To be opened while the process certainly lives, so that its number is its own."""

    def __init__(self, pid: int, platform: str = sys.platform) -> None:
        self._queue: object = None
        self._descriptor = _kqueue(self, pid) if platform == "darwin" else _pidfd(pid)

    def fileno(self) -> int:
        """-1 where the system cannot tell (an old kernel, a strict sandbox): the lifeline must then do."""
        return self._descriptor


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)  # type: ignore[attr-defined, unused-ignore]  # close-on-exec by itself
    except (AttributeError, OSError):
        return -1


def _kqueue(watch: Watch, pid: int) -> int:
    # The names exist on BSDs only; looked up by name so that the same code type-checks, and is tested, on Linux.
    names = vars(select)
    try:
        queue = names["kqueue"]()
        event = names["kevent"](
            pid,
            filter=names["KQ_FILTER_PROC"],
            flags=names["KQ_EV_ADD"] | names["KQ_EV_ONESHOT"],
            fflags=names["KQ_NOTE_EXIT"],
        )
        queue.control([event], 0)
    except OSError:
        return -1
    watch._queue = queue  # closes with the object
    return int(queue.fileno())
