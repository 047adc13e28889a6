"""Text as tokens. What was encoded is kept: all but the end of a turn's text is the last turn's, letter by letter.

Long texts are encoded in pieces, each of them as a batch of one: only then does the tokenizer let go of the
interpreter's lock, and with it of every other thread of the engine, while it works. Between two pieces there is time to
see that nobody waits any more, or that the text is too long whatever follows.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
from mlx_lm.tokenizer_utils import TokenizerWrapper
from numpy.typing import NDArray

from sidecar.engine.tokenizing.special_tokens import BREAK, special_of
from sidecar.engine.tokenizing.wedge import Wedge, wedge

CAPACITY = 2 << 20
"""Bytes kept: the texts of some 250,000 tokens."""
SHORTEST = 2048
"""Characters from which on a text is kept; shorter ones are encoded within two milliseconds."""
PIECE = 1 << 15
"""Characters of a piece, at least: some ten to a hundred milliseconds."""
AHEAD = 1 << 17
"""Characters in which the end of a piece is looked for at once."""
UNCUT = 1 << 19
"""Characters that are encoded at once at most where tokens are only counted: a tokenizer takes 150 bytes for each."""

Encoded = NDArray[np.int32]
"""Of shape (2, tokens): the tokens, and where in the text each begins."""


class Overlong(Exception):
    """The text has more tokens than are of any use: `tokens`, as far as can be told from the part that was encoded."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


def forever() -> None:
    """Whoever asked waits until the end."""


class Encoder:
    """One tokenizer, and what it was asked lately; the least recently used is forgotten first. For any thread."""

    def __init__(self, tokenizer: TokenizerWrapper, capacity: int = CAPACITY, piece: int = PIECE) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._special = special_of(tokenizer)
        self._capacity = capacity
        self._piece = piece
        self._seams = seams(self._tokenizer)
        self._longest = max(map(len, self._tokenizer.get_vocab()), default=1)
        self._known: dict[bytes, Encoded] = {}
        self._held = 0
        self._lock = threading.Lock()

    def encode(self, text: str, most: int | None = None, check: Callable[[], None] = forever) -> Encoded:
        """Without special tokens of the tokenizer's own; what is broken up (`special.BREAK`) is whole again, and none
        of them. Raises Overlong where there are more than `most` tokens, and what `check`, which is called between two
        pieces, raises."""
        if len(text) < SHORTEST:
            return self._encode(text, most, check)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            known = self._known.pop(key, None)
            if known is not None:
                self._known[key] = known
        if known is None:
            known = self._encode(text, most, check)
            self._keep(key, known)
        if most is not None and known.shape[1] > most:
            raise Overlong(known.shape[1])
        return known

    def count(self, text: str, check: Callable[[], None] = forever) -> int:
        """How many tokens that is. Holds no more of them than a piece's: where a text of UNCUT characters has no place
        to be cut, it is cut anywhere, and the count may be off by one."""
        breaks = text.count(BREAK)
        if breaks:
            text = text.replace(BREAK, self._wedge.character)
        total = -breaks * self._wedge.tokens if breaks else 0
        for _, piece, anchor in self._pieces(text, UNCUT):
            check()
            total += len(self._batch(piece, fast=True)) - (len(self._batch(anchor, fast=True)) if anchor else 0)
        return total

    def refuse(self, text: str, most: int) -> None:
        """Raise Overlong for a text that has more than `most` tokens whatever is in it: none is longer than the
        vocabulary's longest. Only what the tokenizer does not drop is counted, such as blanks beside its own marks."""
        if len(text) <= most * self._longest:
            return
        text = text.replace(BREAK, "")
        parts = (text[at : at + (1 << 20)] for at in range(0, len(text), 1 << 20))
        if sum(len("".join(self._normal(part).split())) for part in parts) > most * self._longest:
            head = text[: self._piece]
            raise Overlong(max(most + 1, len(text) * len(self._batch(head, fast=True)) // len(head)))

    def _normal(self, text: str) -> str:
        return str(self._tokenizer.normalizer.normalize_str(text)) if self._tokenizer.normalizer else text

    def _keep(self, key: bytes, encoded: Encoded) -> None:
        with self._lock:
            if (before := self._known.pop(key, None)) is not None:  # another thread was asked the same
                self._held -= before.nbytes
            self._known[key] = encoded
            self._held += encoded.nbytes
            while self._held > self._capacity:
                self._held -= self._known.pop(next(iter(self._known))).nbytes

    def _encode(self, text: str, most: int | None, check: Callable[[], None]) -> Encoded:
        if BREAK in text:
            return self._joined(text, most, check)
        if len(text) >= SHORTEST:
            return self._in_pieces(text, most, check)
        return _array(self._tokenizer.encode(text, add_special_tokens=False))

    def _joined(self, text: str, most: int | None, check: Callable[[], None]) -> Encoded:
        """A wedge is encoded in the place of each break, and its tokens are left out."""
        parts = text.split(BREAK)
        wedges = np.cumsum([len(part) + 1 for part in parts[:-1]]) - 1
        more = len(wedges) * self._wedge.tokens
        encoded = self._encode(self._wedge.character.join(parts), None if most is None else most + more, check)
        kept = encoded[:, ~np.isin(encoded[1], wedges)]
        kept[1] += (len(BREAK) - 1) * np.searchsorted(wedges, kept[1]).astype(np.int32)
        return kept

    @cached_property
    def _wedge(self) -> Wedge:
        return wedge(self._tokenizer, self._special)

    def _in_pieces(self, text: str, most: int | None, check: Callable[[], None]) -> Encoded:
        parts, total = list[Encoded](), 0
        for start, piece, anchor in self._pieces(text):
            check()
            encoding = self._batch(piece)
            if most is not None and total + len(encoding) > most + len(anchor):
                done = start + len(piece)
                raise Overlong((total + len(encoding)) * len(text) // done)
            part = _array(encoding)
            part = part[:, np.searchsorted(part[1], len(anchor)) :]
            part[1] += start
            parts.append(part)
            total += part.shape[1]
        return np.concatenate(parts, axis=1)

    def _pieces(self, text: str, longest: int | None = None) -> Iterator[tuple[int, str, str]]:
        """Where each begins, its text, and what of it is the last one's end: a tokenizer that puts something before
        every text puts it there."""
        start, anchor = 0, 0
        while start < len(text) or not start:
            end = self._seam(text, start + anchor + self._piece, longest)
            yield start, text[start:end], text[start : start + anchor]
            if end == len(text):
                return
            start, anchor = end - 1, 1

    def _seam(self, text: str, at: int, longest: int | None) -> int:
        """The next place where the text can be cut; its end where there is none, or so many characters later."""
        end = len(text) if longest is None else min(len(text), at + longest)
        while self._seams is not None and at < end:
            if found := self._seams.search(text, at, min(end, at + AHEAD)):
                return found.start()
            at += AHEAD
        return end

    def _batch(self, text: str, fast: bool = False) -> Any:
        """One text's encoding, for which other threads are let run. `fast`: without the tokens' places."""
        encode = self._tokenizer.encode_batch_fast if fast else self._tokenizer.encode_batch
        [encoding] = encode([text], add_special_tokens=False)
        return encoding


def _array(encoding: Any) -> Encoded:
    return np.array([encoding.ids, [start for start, _ in encoding.offsets]], np.int32).reshape(2, -1)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_SAMPLE = (
    "2026-11-28 12:00:00 INFO request 17 took 4 ms\nDer Ärger über 12 Äpfel, naïve café.\nthen\ndef f(x: int) -> str:\n"
    "    return x ** 2  # it's\n\n\nif True:\n\tpass\nand so on it goes:  two blanks, 3,141.59\r\nnext line\n"
    "日本語の文章 and words\nemoji 🙂🙂 here\nLast Line of it"
)


def seams(tokenizer: Any, sample: str = _SAMPLE) -> re.Pattern[str] | None:
    """Where any text may be cut: what stands before has the same tokens without what follows, and what follows with
    only one character before it. None where no such place is known.

    A BPE tokenizer's tokens all stand in its vocabulary. If none of them has a line's end in its middle, followed by a
    letter, no merge ever goes across such a place, and neither side matters to the other. Rows of blanks, which some
    tokenizers look to the end of, and what stands beside a special token, which may swallow blanks, are kept away from.
    """
    model = tokenizer.model
    if type(model).__name__ != "BPE" or model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix:
        return None
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.content]
    firsts, lasts = ({content[at] for content in added} for at in (0, -1))
    vocabulary = "\0".join(tokenizer.get_vocab())
    places = []
    if not re.search("(?:\n|\u010a|<0x0A>)[A-Za-z0-9]", vocabulary):
        places.append(f"(?<={_but(lasts, _LETTERS + _DIGITS + ',.;:')}\n)(?={_but(firsts, _LETTERS + _DIGITS)})")
    if not re.search("[A-Za-z][ \u0120\u2581]", vocabulary):
        places.append(f"(?<={_but(lasts, _LETTERS)})(?= {_but(firsts, _LETTERS)})")
    pattern = re.compile("|".join(places) or r"(?!)")
    return pattern if places and _cuts_alike(tokenizer, pattern, sample) else None


def _but(others: set[str], characters: str) -> str:
    """A class of characters, for a regular expression: these without the others."""
    left = "".join(each for each in characters if each not in others)
    return f"[{re.escape(left)}]" if left else "(?!)"


def _cuts_alike(tokenizer: Any, pattern: re.Pattern[str], sample: str) -> bool:
    """Whether the proof holds for a sample: a tokenizer may do things of which it knows nothing."""
    whole = _array(tokenizer.encode(sample, add_special_tokens=False))
    for found in pattern.finditer(sample):
        at = found.start()
        left = _array(tokenizer.encode(sample[:at], add_special_tokens=False))
        right = _array(tokenizer.encode(sample[at - 1 :], add_special_tokens=False))
        right[1] += at - 1
        joined = np.concatenate([left, right[:, np.searchsorted(right[1], at) :]], axis=1)
        if not np.array_equal(joined[0], whole[0]):
            return False
    return True
