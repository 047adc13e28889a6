"""Requests over whose preparation an engine has died, so that the same one does not end another. Pure.

What no guard catches, such as a crash in native code, an endless loop, or memory that runs out, is known by what it
leaves: an engine that is gone, and the requests that it had begun to prepare. Bounded; holds digests, no words.
"""

import hashlib
from collections import OrderedDict

from sidecar.errors import InvalidRequest
from sidecar.frames import Count, Generate
from sidecar.packing import packed

REMEMBERED = 64
SURE = 1.0
"""From here on a request is refused. A death that may have another cause counts for a part of it."""


class Suspects:
    """By the digest of what is prepared. The oldest are forgotten first."""

    def __init__(self) -> None:
        self._guilt: OrderedDict[bytes, float] = OrderedDict()

    def check(self, request: Generate | Count) -> None:
        """Raise InvalidRequest for one that must not be asked again."""
        if self._guilt and self._guilt.get(_digest(request), 0.0) >= SURE:
            raise InvalidRequest(
                "the engine has died while it prepared this very request (prompt, tools and schemas), so it is not "
                "asked again: send less, or simpler schemas. `claude-local logs` shows how it died"
            )

    def blame(self, request: Generate | Count, guilt: float) -> None:
        """An engine has died over it, or over one of a few."""
        if guilt > 0:
            digest = _digest(request)
            self._guilt[digest] = self._guilt.pop(digest, 0.0) + guilt
            while len(self._guilt) > REMEMBERED:
                self._guilt.popitem(last=False)

    def clear(self, request: Generate | Count) -> None:
        """It has been prepared without harm."""
        if self._guilt:
            self._guilt.pop(_digest(request), None)


def _digest(request: Generate | Count) -> bytes:
    """Of what both kinds hold: whoever counts a prompt encodes it, too."""
    return hashlib.blake2b(packed(request.conversation), digest_size=16).digest()
