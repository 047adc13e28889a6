"""Learns the byte-level BPE vocabulary and writes the tokenizer files.

Words never carry a space in front and every punctuation mark stands alone, so that a path is cut into the same tokens
in `Read a.txt`, in a JSON string and in a sentence: copying is then copying of tokens, which a tiny model learns well.
Frequent tokens have a twin with a space behind, so that most words are one token and spaces are few.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sidecar.demo.training.data import TEMPLATE, conversation, render
from sidecar.demo.training.words import Pool

SIZE = 2048
SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|tools|>", "<|words|>")
SPACE = "Ġ"
"""How byte-level BPE writes a space."""
PLAIN = ("<tool_call>", "</tool_call>")
SPACED = 620
"""How many tokens also exist with a space behind them."""
_PIECES = r"\p{L}+|\p{N}+| +|\n|\s|[^\s\p{L}\p{N}]"
_SPACED_PIECES = r"\p{L}+ ?|\p{N}+ ?| +|\n|\s|[^\s\p{L}\p{N}] ?"


def build(pool: Pool, seed: int) -> Tokenizer:
    """The same vocabulary for the same seed and Python release."""
    corpus = list(_corpus(pool, seed))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _cutter(_PIECES)
    tokenizer.decoder = decoders.ByteLevel()
    markers = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(PLAIN) - SPACED,
        special_tokens=markers,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer = _spaced(tokenizer, corpus)
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in PLAIN])
    assert tokenizer.get_vocab_size() == SIZE
    return tokenizer


def _cutter(pieces: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pieces), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _spaced(tokenizer: Tokenizer, corpus: list[str]) -> Tokenizer:
    """The same tokens, and the most frequent ones again with a space behind.

    Their merges come last: a word is first cut as if it stood alone, and only then its last piece takes the space.
    """
    followed: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(corpus, add_special_tokens=False):
        followed.update(piece for piece, after in pairwise(encoding.tokens) if after == SPACE)
    ends = [
        piece for piece, _ in followed.most_common() if SPACE not in piece and piece not in SPECIAL and piece != "Ċ"
    ]
    model = json.loads(tokenizer.to_str())
    for piece in ends[:SPACED]:
        model["model"]["vocab"][piece + SPACE] = len(model["model"]["vocab"])
        model["model"]["merges"].append([piece, SPACE])
    spaced = Tokenizer.from_str(json.dumps(model))
    spaced.pre_tokenizer = _cutter(_SPACED_PIECES)
    return spaced


def _corpus(pool: Pool, seed: int) -> Iterator[str]:
    """Mostly the text of prompts; also English and code."""
    rng = random.Random(seed)
    yield from pool.prose
    for _ in range(6000):
        sample = conversation(pool, rng, rng.choice((0, 0, 300)), 1)
        yield render(sample.messages, sample.tools)
    for text in rng.sample(pool.texts, 40):
        yield text[:5000]


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, with the chat template inside."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": list(SPECIAL[2:]),
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "model_max_length": 131072,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
