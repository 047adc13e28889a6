"""Texts are encoded as the tokenizer does it, in pieces where they are long, and once."""

import json
import random
import threading
import time
from pathlib import Path

import pytest
from mlx_lm.utils import load_tokenizer

from sidecar.engine.tokenizing.encode_cache import SHORTEST, Encoder, Overlong, seams
from tests.conftest import DEMO, FULL
from tests.support.models import FAMILIES, write_tokenizer

LONG = "Ärger über 12 <|im_end|> und more. " * 80
LOG = "2026-11-28 12:00:00 INFO request 17 took 4 ms\n"


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


def as_llama(path: Path) -> None:
    """The same vocabulary in a tokenizer like Llama 2's and Phi-3's: a mark for blanks, also before every text, bytes
    for what is in no token, and special tokens that swallow the blanks behind them."""
    file = path / "tokenizer.json"
    table = json.loads(file.read_text())
    marks = {"Ġ": "▁", "Ċ": "<0x0A>"}
    names = {name: marks.get(name, name.replace("Ġ", "▁")) for name in table["model"]["vocab"]}
    kept = {name: new for name, new in names.items() if "Ċ" not in name or name == "Ċ"}
    vocab = {new: table["model"]["vocab"][name] for name, new in kept.items()}
    for byte in range(256):
        vocab.setdefault(f"<0x{byte:02X}>", max(vocab.values()) + 1)
    pairs = [[kept.get(one), kept.get(other)] for one, other in table["model"]["merges"]]
    merges = [pair for pair in pairs if all(pair) and "".join(pair) in vocab]
    table["model"] |= {"vocab": vocab, "merges": merges, "byte_fallback": True, "fuse_unk": True, "unk_token": "<0x00>"}
    blanks = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    table["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, blanks]}
    table["pre_tokenizer"] = None
    table["added_tokens"] = [{**token, "rstrip": True} for token in table["added_tokens"]]
    file.write_text(json.dumps(table))


@pytest.fixture(scope="module", params=["demo", "llama", *(["phi3", "qwen"] if not FULL else sorted(FAMILIES))])
def any_tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    if request.param == "demo":
        return load_tokenizer(DEMO)
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path, "phi3" if request.param == "llama" else request.param)
    if request.param == "llama":
        as_llama(path)
    (path / "config.json").write_text('{"model_type": "phi3"}')
    return load_tokenizer(path)


WORDS = [
    *("the", "a", "Read", "İ", "naïve", "日本", "🙂", "e\u0301", "  ", "\n", "\n\n", "\t", " ", " ", "\r\n", "x\n"),
    *("12", "3.5", ",", ".", ":", ";", "def f(x):", "\u00a0", "\0", "don't", "<|end|>", "<|end|>\n", "<|im_end|>"),
    *("</s>", "[INST]", "<think>", "<tool_call>\n", "a" * 70, "{", "}", '"', "\\", "//", "_", "▁", "Ġ", "\u3000"),
]


def test_a_text_in_pieces_has_the_tokens_of_the_whole(any_tokenizer: object) -> None:
    """Also where it looks least like one: blanks, marks, special tokens and half characters around every cut."""
    dice = random.Random(3)
    encoder = Encoder(any_tokenizer, piece=40)  # type: ignore[arg-type]
    whole = any_tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    pieces = 0
    for _ in range(400 if FULL else 40):
        text = "".join(dice.choice(WORDS) + dice.choice(["", "", " ", "\n"]) for _ in range(dice.randint(200, 900)))
        expected = whole.encode(text, add_special_tokens=False)
        got = encoder._in_pieces(text, None, lambda: None)
        assert got[0].tolist() == expected.ids
        assert got[1].tolist() == [start for start, _ in expected.offsets]
        assert encoder.count(text) == len(expected)
        pieces += sum(1 for _ in encoder._pieces(text))
    assert pieces > 300, "most of it can be cut"


def test_a_tokenizer_whose_tokens_go_across_lines_is_left_whole(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, "phi3")
    table = json.loads((tmp_path / "tokenizer.json").read_text())
    table["model"]["vocab"] |= {"Ċa": 9000, "bĠc": 9001}
    (tmp_path / "tokenizer.json").write_text(json.dumps(table))
    (tmp_path / "config.json").write_text('{"model_type": "phi3"}')
    tokenizer = load_tokenizer(tmp_path)
    assert seams(tokenizer.backend_tokenizer) is None
    assert len([*Encoder(tokenizer, piece=40)._pieces(LOG * 40)]) == 1


def test_a_text_that_is_too_long_is_not_encoded_to_its_end() -> None:
    encoder, looks = Encoder(load_tokenizer(DEMO)), list[int]()
    text = LOG * 40_000
    with pytest.raises(Overlong) as caught:
        encoder.encode(text, most=20_000, check=lambda: looks.append(1))
    exact = len(text) // len(LOG) * encoder.count(LOG)
    assert 0.9 * exact < caught.value.tokens < 1.1 * exact
    assert len(looks) < 4


def test_a_text_that_cannot_fit_is_refused_before_any_of_it_is_encoded() -> None:
    encoder = Encoder(load_tokenizer(DEMO))
    with pytest.raises(Overlong) as caught:
        encoder.refuse("x" * 3_000_000, most=100)
    assert caught.value.tokens > 100
    encoder.refuse("x" * 100, most=100)
    encoder.refuse("\n" * 3_000_000, most=100)  # a mark may swallow them all


def test_who_has_gone_is_not_encoded_for() -> None:
    class Gone(Exception):
        pass

    def check() -> None:
        if len(looks) == 2:
            raise Gone
        looks.append(1)

    encoder, looks = Encoder(load_tokenizer(DEMO)), list[int]()
    with pytest.raises(Gone):
        encoder.encode(LOG * 40_000, check=check)
    assert not encoder._known


def test_other_threads_run_while_a_text_is_encoded() -> None:
    """The whole text at once would hold the interpreter's lock for seconds."""
    encoder, gaps, over = Encoder(load_tokenizer(DEMO)), [0.0], threading.Event()

    def look() -> None:
        last = time.perf_counter()
        while not over.wait(0.001):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.perf_counter()
    encoder.encode(LOG * 5_000)
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    assert max(gaps) < max(0.5, seconds / 3)
