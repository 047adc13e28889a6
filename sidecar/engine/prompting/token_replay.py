"""Replay: answers as they were sampled, so that they come back token for token as history and the cache still fits.

The same words have many spellings in tokens, and templates rewrite what a model wrote (a thought dropped, arguments
spaced anew). Whoever renders such an answer from its text reads the conversation again from there on.
"""

import hashlib
import threading
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from sidecar.conversation import Message
from sidecar.packing import packed

DIGEST = 16
"""Bytes of a digest."""
CAPACITY = 8 << 20
"""Bytes kept in all: some four thousand answers of five hundred tokens, or thirty thousand of a few."""
ENTRY = 224
"""Bytes that an answer takes beside its tokens (tracemalloc says 140 to 210): of short ones the larger part."""
PLACES = 64
"""Of one answer in different places: what is said a thousand times, such as "Done.", is mostly sampled alike."""


class Replay:
    """Token sequences by what was said in them, and where; the least recently used go first.

    By the digest of what was said, since answers are kept by the thousand and their words are longer than their tokens.
    For any thread.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held = 0
        self._lock = threading.Lock()
        self._answers: dict[bytes, tuple[bytes, ...]] = {}
        """Least recently used first; each version is where it was said, then its tokens. An OrderedDict takes 70
        bytes more for each."""

    def add(self, said: Any, asked: bytes, tokens: list[int]) -> None:
        """`said`: anything that msgpack can hold; `asked`: the digest of what came before, which tells equal answers
        apart."""
        with self._lock:
            self._put(_digest(said), asked + array("i", tokens).tobytes())

    def find(self, said: Any, asked: bytes) -> list[int]:
        """The answer given there; else the last one in these words: a client may have changed what came before. Empty
        when there is none.

        What is found stays that place's own: else an equal answer, given later, would change all the earlier ones.
        """
        key = _digest(said)
        with self._lock:
            versions = self._answers.get(key, ())
            found = next((version for version in versions if version.startswith(asked)), None)
            if found is None:
                found = asked + next((version[DIGEST:] for version in reversed(versions) if len(version) > DIGEST), b"")
                self._put(key, found)
            else:
                self._answers[key] = self._answers.pop(key)  # the most recently used
        return array("i", found[DIGEST:]).tolist()

    def _put(self, key: bytes, version: bytes) -> None:
        versions = self._answers.pop(key, ())
        self._held -= _size(versions)
        others = [other for other in versions if other[:DIGEST] != version[:DIGEST]]
        versions = (*others[1 - PLACES :], version)
        self._answers[key] = versions
        self._held += _size(versions)
        while self._held > self._capacity:
            self._held -= _size(self._answers.pop(next(iter(self._answers))))


def _digest(said: Any) -> bytes:
    return hashlib.blake2b(packed(said), digest_size=DIGEST).digest()


def _size(versions: tuple[bytes, ...]) -> int:
    return sum(ENTRY + len(version) for version in versions)


def digests(messages: Sequence[Message]) -> Iterator[bytes]:
    """For each message the digest of all before it, and at last that of all."""
    running = hashlib.blake2b(digest_size=DIGEST)
    for message in messages:
        yield running.digest()
        running.update(packed(message))
    yield running.digest()
