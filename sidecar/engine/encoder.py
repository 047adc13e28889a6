"""Text as tokens. What was encoded is kept: all but the end of a turn's text is the last turn's, letter by letter."""

import hashlib

import numpy as np
from mlx_lm.tokenizer_utils import TokenizerWrapper
from numpy.typing import NDArray

CAPACITY = 2 << 20
"""Bytes kept: the texts of some 250,000 tokens."""
SHORTEST = 2048
"""Characters from which on a text is kept; shorter ones are encoded within two milliseconds."""

Encoded = NDArray[np.int32]
"""Of shape (2, tokens): the tokens, and where in the text each begins."""


class Encoder:
    """One tokenizer, and what it was asked lately; the least recently used is forgotten first."""

    def __init__(self, tokenizer: TokenizerWrapper, capacity: int = CAPACITY) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._capacity = capacity
        self._known: dict[bytes, Encoded] = {}
        self._held = 0

    def encode(self, text: str) -> Encoded:
        """Without special tokens of the tokenizer's own."""
        if len(text) < SHORTEST:
            return self._encode(text)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._known.pop(key, None)
        if known is None:
            known = self._encode(text)
            self._held += known.nbytes
        self._known[key] = known
        while self._held > self._capacity:
            self._held -= self._known.pop(next(iter(self._known))).nbytes
        return known

    def _encode(self, text: str) -> Encoded:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return np.array([encoding.ids, [start for start, _ in encoding.offsets]], np.int32).reshape(2, -1)
