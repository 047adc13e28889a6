"""Held-out evaluation through mlx-lm: `python -m sidecar.demo.training.score` prints exact replies per behaviour.

The words, names, files and foreign text are the half that training never saw. `--twin` compares the logits with the
PyTorch twin instead (needs torch as well). Runs from this folder's environment plus mlx-lm; nothing is downloaded.
"""

import argparse
import random
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.demo.training.data import TASKS, Conversation, answer, conversation
from sidecar.demo.training.words import Pool, instructions

SEED = 777
ENDLESS = "<|pad|>"
"""Ends the wanted text of an answer that has no end."""


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation up to an answer, the answer wanted, and its kind."""

    talk: Conversation
    wanted: str
    kind: str


def cases(pool: Pool, count: int) -> list[Case]:
    """Every answer of the last exchange in conversations of one to three exchanges without long noise.

    The tasks come equally often, however often they were practised.
    """
    rng = random.Random(SEED)
    found: list[Case] = []
    while len(found) < count:
        talk = conversation(pool, rng, 0, rng.choice((1, 1, 1, 2, 3)), rng.choice(list(TASKS)))
        for end in range(talk.last, len(talk.messages)):
            message = talk.messages[end]
            if message["role"] == "assistant":
                found.append(Case(Conversation(talk.messages[:end], talk.tools), answer(message), message["kind"]))
    return found[:count]


def prefixed(case: Case, pool: Pool, rng: random.Random, tokenizer: TokenizerWrapper, tokens: int) -> Conversation:
    """The same behind a system prompt of unseen text."""
    if not tokens:
        return case.talk
    text = instructions(pool, rng, tokens * 4)
    text = str(tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)[:tokens]))
    rest = [message for message in case.talk.messages if message["role"] != "system"]
    return Conversation([{"role": "system", "content": text}, *rest], case.talk.tools)


def reply(model: Any, prompt: list[int], wanted: list[int]) -> list[int]:
    """What greedy decoding gives up to its first mistake, and that: each token is the likeliest after those wanted."""
    cache = make_prompt_cache(model)
    for start in range(0, len(prompt) - 1, 1024):
        mx.eval(model(mx.array([prompt[start : min(start + 1024, len(prompt) - 1)]]), cache=cache))
    best: Any = mx.argmax(model(mx.array([prompt[-1:] + wanted[:-1]]), cache=cache)[0], axis=-1).tolist()
    pairs = zip(best, wanted, strict=True)
    wrong = next((index for index, (got, token) in enumerate(pairs) if got != token), len(wanted))
    return list(best[: wrong + 1])


def column(
    model: Any, tokenizer: TokenizerWrapper, chosen: list[Case], prefix: int, show: int
) -> dict[str, list[bool]]:
    """Hits per kind; the first `show` misses are printed."""
    pool, rng, hits = Pool("held_out"), random.Random(SEED + prefix), defaultdict(list)
    for case in chosen:
        talk = prefixed(case, pool, rng, tokenizer, prefix)
        tools = list(talk.tools) or None
        text = tokenizer.apply_chat_template(talk.messages, tools=tools, add_generation_prompt=True, tokenize=False)
        wanted = tokenizer.encode(case.wanted.removesuffix(ENDLESS), add_special_tokens=False)
        if not case.wanted.endswith(ENDLESS):
            wanted.append(tokenizer.eos_token_id)
        got = reply(model, tokenizer.encode(text, add_special_tokens=False), wanted)
        hits[case.kind].append(got == wanted)
        if got != wanted and show > 0:
            show -= 1
            print(
                f"-- {case.kind}: {text[-220:]!r}\n   wanted {case.wanted!r}\n   got    {tokenizer.decode(got)!r}",
                flush=True,
            )
    return hits


def compare(model: Any, folder: Path, ids: list[int]) -> float:
    """The greatest difference between the logits of mlx-lm and of the twin."""
    import json

    import numpy
    import torch
    from safetensors.torch import load_file

    from sidecar.demo.training.torch_model import Shape, Twin

    config = json.loads((folder / "config.json").read_text())
    twin = Twin(Shape(**{name: config[name] for name in Shape.__dataclass_fields__}))
    twin.load_state_dict(load_file(str(folder / "model.safetensors")))
    with torch.no_grad():
        expected = twin.logits(twin(torch.tensor([ids])))[0].numpy()
    return float(numpy.abs(numpy.array(model(mx.array([ids]))[0]) - expected).max())


def table(columns: dict[str, dict[str, list[bool]]]) -> str:
    kinds = sorted({kind for hits in columns.values() for kind in hits})
    lines = ["| behaviour | cases | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for kind in [*kinds, "all"]:
        rows = [
            [hit for name, hits in found.items() if kind in (name, "all") for hit in hits] for found in columns.values()
        ]
        shares = [f"{100 * sum(row) / len(row):.1f} %" if row else "" for row in rows]
        lines.append(f"| {kind} | {len(rows[0])} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--far", type=int, default=400, help="cases with the longest prefix")
    parser.add_argument("--prefixes", type=int, nargs="*", default=[0, 200, 3000, 15000])
    parser.add_argument("--show", type=int, default=0, help="misses to print per column")
    parser.add_argument("--twin", action="store_true", help="compare the logits with those of the PyTorch twin")
    options = parser.parse_args()
    model, tokenizer = load(str(options.model))[:2]
    pool = Pool("held_out")
    if options.twin:
        ids = tokenizer.encode(instructions(pool, random.Random(1), 4000), add_special_tokens=False)[:900]
        print("greatest difference of logits:", compare(model, options.model, ids))
        return
    chosen, began, columns = cases(pool, options.cases), time.monotonic(), {}
    for prefix in options.prefixes:
        part = chosen[: options.far] if prefix >= 10_000 else chosen
        columns[f"{prefix} tokens before"] = column(model, tokenizer, part, prefix, options.show)
        print(f"{time.monotonic() - began:.0f} s\n{table(columns)}", flush=True)


if __name__ == "__main__":
    main()
