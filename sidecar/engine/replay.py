"""Replay: answers as they were sampled, so that they come back token for token as history and the cache still fits.

The same words have many spellings in tokens, and templates rewrite what a model wrote (a thought dropped, arguments
spaced anew). Whoever renders such an answer from its text reads the conversation again from there on.
"""

from array import array
from collections import OrderedDict
from collections.abc import Hashable

CAPACITY = 1 << 20
"""Tokens kept in all, at 4 bytes each."""


class Replay:
    """Token sequences by what was said in them; the least recently used go first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held = 0
        self._answers: OrderedDict[Hashable, array[int]] = OrderedDict()

    def add(self, said: Hashable, tokens: list[int]) -> None:
        self._forget(said)
        self._answers[said] = array("i", tokens)
        self._held += len(tokens)
        while self._held > self._capacity:
            self._forget(next(iter(self._answers)))

    def find(self, said: Hashable) -> list[int] | None:
        if said not in self._answers:
            return None
        self._answers.move_to_end(said)
        return self._answers[said].tolist()

    def _forget(self, said: Hashable) -> None:
        self._held -= len(self._answers.pop(said, ()))
