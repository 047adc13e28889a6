"""What a client has said and nobody has answered: kept, so that it can be said again when the sidecar dies over it.

Pure. It holds bytes and counts them; whether they are a request, and to whom they are said, others decide.
"""

import _thread

SHELF = 8 * 1024 * 1024
"""Bytes for all memos of a relay together. Claude Code asks with 50 KB at first, with half a megabyte late in a long
session."""


class Shelf:
    """The place that all memos of a relay share."""

    def __init__(self, size: int = SHELF) -> None:
        self.left = size
        self.lock = _thread.allocate_lock()


class Memo:
    """One connection's unanswered words. What would not fit is not kept, and neither is what follows it. Its methods
    may be called from any thread."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._words = bytearray()
        self._is_whole = True

    def add(self, words: bytes | memoryview) -> None:
        """The client has said more."""
        with self._shelf.lock:
            if self._is_whole and len(words) <= self._shelf.left:
                self._shelf.left -= len(words)
                self._words += words
            else:
                self._drop()
                self._is_whole = False

    def clear(self) -> None:
        """An answer to all of it has begun."""
        with self._shelf.lock:
            self._drop()
            self._is_whole = True

    def words(self) -> bytes:
        """All of it since the last answer; nothing when it was too much."""
        with self._shelf.lock:
            return bytes(self._words)

    def _drop(self) -> None:
        if self._words:
            self._shelf.left += len(self._words)
            self._words = bytearray()
