"""Texts are encoded as the tokenizer does it, and once."""

import pytest
from mlx_lm.utils import load_tokenizer

from sidecar.engine.encoder import SHORTEST, Encoder
from tests.conftest import DEMO

LONG = "Ärger über 12 <|im_end|> und more. " * 80


@pytest.mark.parametrize("text", ["", "a", LONG])
def test_tokens_and_their_places_are_the_tokenizers(text: str) -> None:
    tokenizer = load_tokenizer(DEMO)
    tokens, starts = Encoder(tokenizer).encode(text)
    assert tokens.tolist() == tokenizer.encode(text, add_special_tokens=False)
    assert [*starts] == sorted(starts) and all(0 <= start < len(text) for start in starts)


def test_what_was_encoded_is_kept_until_there_is_too_much() -> None:
    encoder = Encoder(load_tokenizer(DEMO), capacity=40_000)
    texts = [f"{number} {LONG}" for number in range(40)]
    first = encoder.encode(texts[0])
    for text in texts[1:]:
        encoder.encode(text)
        assert encoder.encode(texts[0]) is first, "it was used just now"
    assert sum(encoded.nbytes for encoded in encoder._known.values()) == encoder._held <= 40_000
    assert 2 <= len(encoder._known) < 40
    assert encoder.encode("x" * (SHORTEST - 1)) is not encoder.encode("x" * (SHORTEST - 1)), "not worth it"
