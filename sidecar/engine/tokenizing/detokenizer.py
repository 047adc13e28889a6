"""Tokens as text: mlx-lm's detokenizers, without what ends an answer or the engine in odd cases."""

from typing import Any

from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, TokenizerWrapper, _byte_decoder

from sidecar.engine.tokenizing.special_tokens import MARK, Special


class Exact(BPEStreamingDetokenizer):  # type: ignore[misc]  # mlx-lm has no types
    """The one for byte-level vocabularies. mlx-lm's takes the byte 0 for none at all, fails at an answer's end on
    characters that stand for no byte, and on numbers that the vocabulary leaves out."""

    _unflushed: str

    def add_token(self, token: int) -> None:
        known = token < len(self.tokenmap) and self.tokenmap[token] is not None
        super().add_token(token if known else len(self.tokenmap))

    def finalize(self) -> None:
        self.text += self._maybe_trim_space(self._decode_bytes(self._unflushed))
        self._unflushed = ""

    def _decode_bytes(self, characters: str) -> str:
        known = _byte_decoder()
        data = b"".join(bytes([known[each]]) if each in known else each.encode() for each in characters)
        return data.decode("utf-8", "replace")


def detokenizer(tokenizer: TokenizerWrapper) -> Any:
    """A new one."""
    made = tokenizer.detokenizer
    if type(made) is BPEStreamingDetokenizer:
        made.__class__ = Exact  # it is a copy of the tokenizer's own, whose map of a whole vocabulary it shares
    return made


class Marking:
    """The text of an answer in which each special token has its mark."""

    def __init__(self, tokenizer: TokenizerWrapper, special: Special) -> None:
        self._plain = detokenizer(tokenizer)
        self._words = special.words
        self._ready = ""

    @property
    def last_segment(self) -> str:
        """What has come since this was asked last; a special token always as a whole."""
        ready, self._ready = self._ready, ""
        return ready

    def add_token(self, token: int) -> None:
        word = self._words.get(token)
        if word is not None:
            self._plain.finalize()  # nothing that is held back can go on behind it
        else:
            self._plain.add_token(token)
        self._ready += self._plain.last_segment
        if word is not None:
            self._ready += MARK + word

    def finalize(self) -> None:
        self._plain.finalize()
        self._ready += self._plain.last_segment
