"""Waiting for what another process does."""

import threading
import time


def wait_until(condition, seconds: float = 20.0) -> None:
    """Poll for what another process does; the interval is not what a test depends on, the limit is."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "it did not happen in time"
        threading.Event().wait(0.01)
