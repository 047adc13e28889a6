"""Replay: answers as they were sampled, so that they come back token for token as history and the cache still fits.

The same words have many spellings in tokens, and templates rewrite what a model wrote (a thought dropped, arguments
spaced anew). Whoever renders such an answer from its text reads the conversation again from there on.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence

import msgspec

from sidecar.frames import Message

CAPACITY = 1 << 20
"""Tokens kept in all, at 4 bytes each."""


class Replay:
    """Token sequences by what was said in them, and where; the least recently used go first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held = 0
        self._answers: OrderedDict[Hashable, dict[bytes, array[int]]] = OrderedDict()

    def add(self, said: Hashable, asked: bytes, tokens: list[int]) -> None:
        """`asked`: the digest of what came before, which tells equal answers apart."""
        versions = self._answers.setdefault(said, {})
        self._answers.move_to_end(said)
        self._held += len(tokens) - len(versions.pop(asked, ()))
        versions[asked] = array("i", tokens)
        while self._held > self._capacity:
            _, forgotten = self._answers.popitem(last=False)
            self._held -= sum(map(len, forgotten.values()))

    def find(self, said: Hashable, asked: bytes) -> list[int] | None:
        """The answer given there; else the last one in these words: a client may have changed what came before."""
        versions = self._answers.get(said)
        if not versions:
            return None
        self._answers.move_to_end(said)
        return versions.get(asked, next(reversed(versions.values()))).tolist()


def digests(messages: Sequence[Message]) -> Iterator[bytes]:
    """For each message the digest of all before it, and at last that of all."""
    running = hashlib.blake2b(digest_size=16)
    for message in messages:
        yield running.digest()
        running.update(msgspec.msgpack.encode(message))
    yield running.digest()
