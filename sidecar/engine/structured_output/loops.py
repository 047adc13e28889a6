"""Loops: a model that writes the same piece again and again inside JSON gets out as soon as the grammar has a way out.

In free text it may go on: there it is nobody's broken answer. Knows tokens and their text, and nothing of grammars but
what they allow next.
"""

from functools import cached_property

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

PIECE = 96
"""The longest piece, in tokens, of which repetitions are seen."""
TIMES = 4
"""How often it must have come, one after the other."""
LEAST, LEAST_DIGITS = 96, 32
"""Tokens that the repetitions must take together: rows of a table or a ruler of signs are repeated honestly. No number
has so many digits of worth."""
_NUMBER = frozenset(b"0123456789.+-eE")


class Vocabulary:
    """What the tokens of one tokenizer spell."""

    def __init__(self, tokenizer: LLTokenizer, size: int) -> None:
        self._tokenizer = tokenizer
        self._size = size
        spelled = tokenizer.tokenize_str("\n")
        self.newline = spelled[-1] if spelled and self.text(spelled[-1]) == b"\n" else None
        """A token that JSON never has between its first brace and its last; None where there is none."""

    def text(self, token: int) -> bytes:
        """The token's own bytes."""
        return bytes(self._tokenizer.decode_bytes([token]))

    @cached_property
    def quotes(self) -> Mask:
        """Tokens that end a string, whatever follows."""
        return self._spelling(r'"(.|\n)*')

    @cached_property
    def closing_quotes(self) -> Mask:
        """Tokens that end a string, and perhaps what it stands in."""
        return self._spelling(r'"[\]}]*')

    @cached_property
    def closers(self) -> Mask:
        """Tokens that end a list or an object."""
        return self._spelling(r"[\]}]+")

    @cached_property
    def after_numbers(self) -> Mask:
        """Tokens that end a number."""
        return self._spelling(r"[,\]}](.|\n)*")

    def _spelling(self, regex: str) -> Mask:
        """The tokens that a text of this kind may begin with."""
        mask = allocate_token_bitmask(1, self._size)
        fill_next_token_bitmask(LLMatcher(self._tokenizer, LLMatcher.grammar_from_regex(regex)), mask)
        return np.unpackbits(mask.view(np.uint8)[0], bitorder="little")[: self._size].astype(bool)


class Loops:
    """One row's last tokens, as far as they are JSON."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._recent = np.full(PIECE, -1)
        """The last one first."""
        self._runs = np.zeros(PIECE, dtype=int)
        """How many of the last tokens were the same as those one, two, three … before."""
        self._count = self._opened = 0
        """Tokens, and at which of them the present string began."""
        self._string = self._escaped = False

    def text(self, token: int) -> bytes:
        """The token's own bytes."""
        return self._vocabulary.text(token)

    def add(self, token: int) -> None:
        """Take the token that was sampled."""
        same = self._recent == token
        self._runs = np.where(same, self._runs + 1, 0)
        self._recent[1:] = self._recent[:-1]
        self._recent[0] = token
        self._count += 1
        for byte in self.text(token):
            self._scan(byte)

    def without(self, allowed: Mask) -> Mask:
        """What is allowed next, only the ways out when these tokens go round in a circle."""
        newline = self._vocabulary.newline
        if newline is None or allowed[newline]:
            self._forget()  # free text
            return allowed
        if not self._runs.any() or (piece := self._piece()) == 0:
            return allowed
        exits = allowed & self._exits(piece)
        return exits if exits.any() else allowed

    def _forget(self) -> None:
        self._recent.fill(-1)
        self._runs.fill(0)
        self._count = self._opened = 0
        self._string = self._escaped = False

    def _scan(self, byte: int) -> None:
        if self._escaped:
            self._escaped = False
        elif self._string and byte == ord("\\"):
            self._escaped = True
        elif byte == ord('"'):
            self._string = not self._string
            self._opened = self._count

    def _piece(self) -> int:
        """The length of what is repeated; 0 when nothing is."""
        lengths = np.arange(1, PIECE + 1)
        repeated = self._runs + lengths
        found = np.flatnonzero(repeated >= np.maximum(TIMES * lengths, LEAST_DIGITS))
        if not len(found):
            return 0
        piece = int(lengths[found[0]])
        return piece if repeated[piece - 1] >= (LEAST_DIGITS if self._is_number(piece) else LEAST) else 0

    def _is_number(self, piece: int) -> bool:
        return not self._string and all(_NUMBER.issuperset(self.text(int(token))) for token in self._recent[:piece])

    def _exits(self, piece: int) -> Mask:
        vocabulary, coming = self._vocabulary, self.text(int(self._recent[piece - 1]))
        if self._string and self._count - self._opened >= TIMES * piece:
            return vocabulary.quotes
        if self._is_number(piece):
            return vocabulary.after_numbers
        # The piece is made of values: between them there is a way out, and only there nothing is cut off.
        if self._string:
            return vocabulary.closing_quotes if coming.startswith(b'"') else np.zeros_like(vocabulary.quotes)
        return vocabulary.closers if coming[:1] in b",]}" else np.zeros_like(vocabulary.closers)
