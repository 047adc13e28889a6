"""The wedge: a character that is encoded between two parts of a special token's words, and whose tokens are left out
then, so that a tokenizer writes such words as text."""

import logging
from typing import Any, NamedTuple

from sidecar.engine.tokenizing.special_tokens import BREAK, Special

log = logging.getLogger(__name__)


class Wedge(NamedTuple):
    """A character that keeps the two parts of a special token's words apart."""

    character: str
    tokens: int
    """How many it takes."""


_WEDGES = (0x10FFFD, 0x10F8FF, 0x10EDCB, 0x100041, 0x10A5A5, 0xF8FF, 0xE0B5)
"""Of private use, and in no vocabulary known: from the plane that hardly any text uses, and two others."""


def wedge(tokenizer: Any, special: Special) -> Wedge:
    """A character whose tokens stand apart from those beside it, tried with each special token there is: with its
    tokens left out the text is what it was. The library's own switch would encode all special tokens as text, those of
    the template too."""
    words = [special.broken(word) for word in special.words.values()]
    for character in map(chr, _WEDGES):
        texts = [word.replace(BREAK, character) for word in words]
        tried = tokenizer.encode_batch(texts, add_special_tokens=False)
        if all(_stands_apart(character, *each, special) for each in zip(texts, tried, strict=True)):
            break
    else:
        log.warning("this tokenizer does not write the words of all its special tokens as text exactly")
    [alone] = tokenizer.encode_batch([f"a{character}a"], add_special_tokens=False)
    return Wedge(character, sum(start == 1 for start, _ in alone.offsets))


def _stands_apart(character: str, text: str, encoding: Any, special: Special) -> bool:
    if character not in text:
        return True  # a word of one letter
    return not any(number in special.words for number in encoding.ids) and all(
        end - start == 1 or character not in text[start:end] for start, end in encoding.offsets
    )
