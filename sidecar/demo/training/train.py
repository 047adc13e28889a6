"""Makes the demo model: `python -m sidecar.demo.training.train` writes vocabulary, weights and configuration here.

One seed, one thread, a processor with bfloat16 helps; well over an hour. Needs torch, tokenizers, safetensors, jinja2.
`--out DIR` writes elsewhere. The score comes from score.py, which runs where mlx-lm does. The weights here are not of
one such run; the card tells their way.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from sidecar.demo.training.data import Marks, rows
from sidecar.demo.training.torch_model import Shape, Twin, export, load
from sidecar.demo.training.vocabulary import build, save
from sidecar.demo.training.words import Pool

SEED = 20
SHARPNESS = 2.5
"""Factor on the logits in the exported model: a chosen token is rarely lost to chance at temperature 1."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training at one sequence length."""

    length: int
    rows: int
    steps: int
    drills: float
    """Share of rows that are copying drills."""


@dataclass(frozen=True, slots=True)
class Round:
    """Stages with one rise and fall of the rates."""

    stages: tuple[Stage, ...]
    muon: float
    adam: float
    stop: int | None = None
    """The step after which the round is left, before its rates have fallen."""


# Copying is learnt first and on short sequences, where a step is cheap; the long ones teach what a full window is like.
# The second round mends what copying the first one left inexact, the third teaches the exact copying of long and
# repetitive texts, the others are the practice of everything. The card says which data each of them had.
ROUNDS = (
    Round((Stage(64, 64, 600, 0.5), Stage(256, 16, 1400, 0.05), Stage(448, 10, 700, 0.0)), muon=0.02, adam=3e-3),
    Round((Stage(256, 16, 800, 0.2), Stage(448, 10, 600, 0.05)), muon=0.012, adam=2e-3),
    Round((Stage(256, 16, 3000, 0.2), Stage(448, 10, 1300, 0.05)), muon=0.012, adam=2e-3, stop=2000),
    Round((Stage(320, 13, 1700, 0.06), Stage(448, 10, 450, 0.02)), muon=0.01, adam=1.7e-3, stop=500),
    Round((Stage(320, 13, 1400, 0.05), Stage(448, 10, 300, 0.0)), muon=0.01, adam=1.7e-3, stop=1000),
    Round((Stage(320, 13, 500, 0.03), Stage(448, 10, 260, 0.0)), muon=0.006, adam=1e-3),
)
WARM_UP, DECAY = 60, 0.85
"""Steps of rising rates, and the last share of the steps in which they fall. Muon is for the matrices: copying forms
several times sooner than with AdamW, which takes the rest."""
OTHER_TEXT = 0.1
"""Weight of the loss on what is not an answer: enough to shape the embeddings of all tokens."""

Batch = tuple[Tensor, Tensor]
"""Token ids and whether each has to be right, both (rows, length + 1)."""


def batches(pool: Pool, tokenizer: Tokenizer, stages: tuple[Stage, ...], seed: int) -> Iterator[Batch]:
    for index, stage in enumerate(stages):
        source = rows(pool, seed + index, tokenizer, stage.length, stage.drills)
        for _ in range(stage.steps):
            ids, wanted = zip(*(next(source) for _ in range(stage.rows)), strict=True)
            yield torch.tensor(ids), torch.tensor(wanted)


def loss_of(model: Twin, batch: Batch, pad: int) -> tuple[Tensor, float]:
    """The loss to descend, and the part of it that counts: nats per answer token."""
    ids, flags = batch
    targets, wanted = ids[:, 1:].reshape(-1), flags[:, 1:].reshape(-1)
    others = ~wanted & (targets != pad) & (torch.rand(len(targets)) < 0.08)
    hidden = model(ids[:, :-1]).reshape(-1, model.shape.hidden_size)

    def mean(chosen: Tensor) -> Tensor:
        return F.cross_entropy(model.logits(hidden[chosen]).float(), targets[chosen])

    answers = mean(wanted)
    return answers + OTHER_TEXT * mean(others), answers.item()


def pace(step: int, steps: int) -> float:
    """Factor on the rates: linear warm-up, level, then linear down to nothing."""
    return min(1.0, step / WARM_UP, (steps - step) / (DECAY * steps))


def optimizers(model: Twin, muon: float, adam: float) -> list[torch.optim.Optimizer]:
    table = model.model.embed_tokens.weight
    matrices = [weight for weight in model.parameters() if weight.dim() == 2 and weight is not table]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    return [
        torch.optim.Muon(matrices, lr=muon, weight_decay=0.05),
        torch.optim.AdamW([table, *vectors], lr=adam, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(model: Twin, pool: Pool, tokenizer: Tokenizer, out: Path, number: int) -> None:
    """Run one of the rounds."""
    plan, seed = ROUNDS[number], SEED + 10 * number
    torch.manual_seed(seed)
    marks, chosen = Marks.of(tokenizer), optimizers(model, plan.muon, plan.adam)
    steps, began, recent = sum(stage.steps for stage in plan.stages), time.monotonic(), 0.0
    for step, batch in enumerate(batches(pool, tokenizer, plan.stages, seed), 1):
        for optimizer, rate in zip(chosen, (plan.muon, plan.adam), strict=True):
            optimizer.param_groups[0]["lr"] = rate * pace(step, steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, answers = loss_of(model, batch, marks.pad)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            optimizer.step()
        recent += (answers - recent) / min(step, 50)
        if step % 50 == 0:
            print(f"{step}/{steps} {time.monotonic() - began:.0f} s, answers {recent:.4f} nats a token", flush=True)
        if step % 125 == 0:
            export(model, out, SHARPNESS, marks.end, marks.pad)
        if step == plan.stop:
            break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--start", type=Path, help="folder of a model to go on from")
    parser.add_argument("--round", type=int, default=1, help="the round to begin with, from 1; needs --start")
    options = parser.parse_args()
    out, start = options.out, options.start
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    pool = Pool("train")
    tokenizer = Tokenizer.from_file(str(start / "tokenizer.json")) if start else build(pool, SEED)
    save(tokenizer, out)
    model = Twin(Shape())
    if start:
        load(model, start, SHARPNESS)
    marks = Marks.of(tokenizer)
    for number in range(options.round - 1, len(ROUNDS)):
        train(model, pool, tokenizer, out, number)
    export(model, out, SHARPNESS, marks.end, marks.pad)
    print(sum(weight.numel() for weight in model.parameters()), "parameters")


if __name__ == "__main__":
    main()
