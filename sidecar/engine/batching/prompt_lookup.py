"""Prompt lookup: agents repeat what they have read, so what followed the last few tokens before may follow again. Pure.

A guess costs a place in a pass that is made anyway, and whether that pays depends on the machine and on the text. So
guesses are first only compared with what comes, which costs nothing; and once they are used, their gain is measured.
"""

from collections.abc import Callable

NGRAMS = (3, 2)
"""Tokens that must have occurred before, the longer first: it is right more often."""
SHORTEST, FIRST, LONGEST = 2, 4, 16
"""Tokens guessed at once: the first is only compared with the one that is being computed already."""
FADE = 0.2
"""Weight of each new try in the average gain."""
PROMISING = 1.5
"""Tokens of a guess that must have been right on average, of late, before guesses are used: one alone gains nothing."""
TRIES = 4
"""Tries before a verdict."""
PAUSE, LONGEST_PAUSE = 64, 4096
"""Tokens for which guessing is off when it did not pay, at first, and when it never does."""
DRIFT = 1.02
"""How fast the fastest plain step is forgotten: they get slower as the context grows. What comes between two of them,
like a slice of a prompt, makes some look slow, but none fast."""


class Lookup:
    """Finds where the last tokens of a list that grows have occurred before."""

    def __init__(self, tokens: list[int]) -> None:
        """`tokens`: the list itself, which whoever owns it appends to."""
        self._tokens = tokens
        self._follows: dict[int, dict[tuple[int, ...], int]] = {size: {} for size in NGRAMS}
        self._known = 0

    def guess(self, most: int) -> list[int]:
        """At most `most` tokens that followed the latest such occurrence; repeated where it reaches to the end."""
        tokens, length = self._tokens, len(self._tokens)
        for size in NGRAMS:
            begin = max(0, self._known - size)
            grams = zip(*(tokens[begin + offset : length - 1] for offset in range(size)), strict=False)
            self._follows[size].update(zip(grams, range(begin + size, length), strict=False))
        self._known = length
        for size in NGRAMS:
            if length > size and (start := self._follows[size].get(tuple(tokens[-size:]))):
                return [tokens[start + index % (length - start)] for index in range(most)]
        return []


class Speculation:
    """Whether to guess, and how much: the time that tries have saved on average, against plain steps."""

    def __init__(self) -> None:
        self._length = FIRST
        self._plain = float("inf")
        self._gain, self._tries = 0.0, 0
        self._off, self._pause = 0, PAUSE
        self._promise = 0.0
        """Tokens that were right, on average."""
        self._coming: list[int] = []
        self._right = 0

    def came(self, token: int, guess: Callable[[int], list[int]]) -> None:
        """A plain step gave this token: was it guessed? `guess` says what may follow it."""
        if self._coming:
            if token == self._coming.pop(0):
                self._right += 1
                if self._coming:
                    return
            self._promise = (1 - FADE) * self._promise + FADE * self._right
        self._coming, self._right = guess(FIRST), 0

    def length(self) -> int:
        """Tokens to guess now, 0 while it does not pay."""
        if self._promise < PROMISING:
            return 0
        if self._off:
            self._off -= 1
            return 0
        return self._length if self._plain < float("inf") else 0

    def stepped(self, seconds: float) -> None:
        """A plain step gave the next token so long after the last one did."""
        self._plain = min(seconds, self._plain * DRIFT)

    def tried(self, guessed: int, gained: int, seconds: float) -> None:
        """So many of the guessed tokens were right, and trying took the place of `gained` plain steps."""
        saved = gained * self._plain - seconds
        self._gain = saved if not self._tries else (1 - FADE) * self._gain + FADE * saved
        self._promise = (1 - FADE) * self._promise + FADE * gained
        self._coming = []
        self._tries += 1
        self._length = min(LONGEST, 2 * guessed) if gained == guessed else max(SHORTEST, gained + 1)
        if self._tries < TRIES:
            return
        if self._gain > 0:
            self._pause = PAUSE
        else:
            self._off, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
            self._tries, self._length = 0, FIRST
