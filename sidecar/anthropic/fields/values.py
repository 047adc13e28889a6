"""How many values a body may hold. Pure.

Each becomes an object of Python's, of sixty bytes and more: thirty megabytes of `[],[],[],` would take two gigabytes in
the sidecar, two in the engine, and keep everybody waiting while they are made.
"""

import re

from sidecar.errors import TooLarge

MOST = 500_000
"""Ten times what the longest conversations have; two tenths of a second to read."""

_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{,]', re.DOTALL)


def check(body: bytes) -> None:
    """Raise TooLarge for a body with too many values. Commas and brackets in strings are no values."""
    if sum(map(body.count, (b",", b"[", b"{"))) <= MOST:
        return
    found = 0
    for mark in _MARKS.finditer(body):
        found += body[mark.start()] != ord('"')
        if found > MOST:
            raise TooLarge(f"the request holds more than {MOST:,} values (elements of lists, members of objects)")
