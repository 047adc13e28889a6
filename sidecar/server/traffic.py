"""Requests under way, as far as more than one part of the server has to know of them."""

from collections import Counter

from sidecar.requests.generation import Attempt
from sidecar.server.leases import Lease


class Traffic:
    """Kept by `app`, and shown by `report`."""

    def __init__(self) -> None:
        self.attempts: dict[Attempt, Lease] = {}
        self.running: Counter[Lease] = Counter()
        self.rates: dict[Lease, float] = {}
        """Tokens in a second of each terminal's last answer, where it is shown there."""
        self.refused = 0
        """Requests, for want of memory."""
