"""Every byte comes back as it is."""

from pathlib import Path

import pytest
from mlx_lm.utils import load_tokenizer

from sidecar.engine.tokenizing.detokenizer import Exact, detokenizer
from tests.conftest import DEMO
from tests.support.models import make_tiny


@pytest.fixture(scope="module", params=["demo", "tiny"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    path: Path = DEMO if request.param == "demo" else make_tiny(tmp_path_factory.mktemp("tiny"))
    return load_tokenizer(path)


@pytest.mark.parametrize(
    "text", ["Say \0 hello", "".join(map(chr, range(300))), "\0\0", "é🙂\u2028\ufffd end", "a\ufffd"]
)
def test_a_text_comes_back_as_it_is(tokenizer: object, text: str) -> None:
    made = detokenizer(tokenizer)  # type: ignore[arg-type]
    said = ""
    for token in tokenizer.encode(text, add_special_tokens=False):  # type: ignore[attr-defined]
        made.add_token(token)
        said += made.last_segment
    made.finalize()
    assert said + made.last_segment == text


def test_numbers_that_no_token_has_end_nothing(tokenizer: object) -> None:
    made = detokenizer(tokenizer)  # type: ignore[arg-type]
    assert isinstance(made, Exact)
    made.tokenmap = [*made.tokenmap[:-1], None]
    for token in (len(made.tokenmap) - 1, len(made.tokenmap) + 7):
        made.add_token(token)
    made.finalize()
    assert made.text == "!!"
