"""Whether the sidecar goes on, and whoever has to look again when that may have changed."""

import trio

from sidecar.server.leases import Leases


class Lifecycle:
    """From the start until everything is released."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases
        self.changed = trio.Event()
        """Replaced whenever a deadline may have moved."""
        self.leaving = False
        self.now_please = False

    def leave(self, now: bool = False) -> None:
        """Let nobody in any more and end when the running answers are done, or `now`."""
        self.leaving, self.now_please = True, now
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
