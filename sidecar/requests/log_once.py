"""What is worth a line in the log once, however often it happens. Bounded."""

import logging
from collections import OrderedDict

KEPT = 256
"""Remarks that are not made again; those that have not come up for longest are forgotten."""

log = logging.getLogger(__name__)


class Once:
    """What has been said already."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, None] = OrderedDict()

    def say(self, remark: str) -> None:
        """Log it, unless it has been said."""
        if remark not in self._said:
            log.info("%s", remark)
        self._said[remark] = None
        self._said.move_to_end(remark)
        while len(self._said) > KEPT:
            self._said.popitem(last=False)
