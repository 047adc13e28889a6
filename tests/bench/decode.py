"""Decode speed through the whole stack beside bare mlx-lm on the same model, for 1, 2, 4 and 8 streams, interleaved.

    .venv/bin/python -m tests.bench.decode [--model DIR] [--tokens 192] [--rounds 7] [--budget 540] [--out FILE]

Ours: client → relay → sidecar → engine and back, as a command under claude-local has it. Theirs, in a process of its
own with the same BLAS: `stream_generate` for one stream, `batch_generate` for more. Both count tokens per second while
all streams speak: ours by the client's clock, theirs by `batch_generate`'s own figures (for one stream: from the first
token to the last). In each round both go once for each number of streams, the order changes. Prints medians, and the
median of the rounds' ratios.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from sidecar.supervisor.environment import environment
from tests.bench.client import Ask, Endpoint, ask, window
from tests.bench.model import bench_model
from tests.bench.results import Budget, Results, median, rotated
from tests.bench.servers import started

STREAMS = (1, 2, 4, 8)

BARE = """
import json, sys, time, mlx_lm
model, tokenizer = mlx_lm.load(sys.argv[1])
for line in sys.stdin:
    words, tokens = json.loads(line)
    prompts = [
        tokenizer.apply_chat_template([{"role": "user", "content": each}], add_generation_prompt=True)
        for each in words
    ]
    if len(prompts) == 1:
        first = 0.0
        for answer in mlx_lm.stream_generate(model, tokenizer, prompts[0], max_tokens=tokens):
            first = first or time.perf_counter()
        rate = (answer.generation_tokens - 1) / (time.perf_counter() - first)
    else:
        rate = mlx_lm.batch_generate(model, tokenizer, prompts, max_tokens=tokens).stats.generation_tps
    print(json.dumps(rate), flush=True)
"""


class Bare:
    """mlx-lm in a process of its own."""

    def __init__(self, model: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", BARE, str(model)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def rate(self, words: list[str], tokens: int) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, tokens]) + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=Path("decode.json"))
    options = parser.parse_args()
    model = (options.model or bench_model()).resolve()
    results, budget = (
        Results(options.out, bench="decode", tokens=options.tokens, model=model.name),
        Budget(options.budget),
    )
    bare = Bare(model)
    with started("ours", model, None) as server:
        server.start()
        terminal = server.terminal("here")
        for count in STREAMS:  # compile and warm
            measure(terminal, bare, -1, count, options.tokens)
        for number in range(options.rounds):
            done = results.round(number)
            if done:
                continue
            if not budget.allows():
                print(f"time is up in round {number}; the same command goes on")
                break
            done |= {str(count): measure(terminal, bare, number, count, options.tokens) for count in STREAMS}
            results.save()
            print(f"round {number}: {done}", flush=True)
    bare.close()
    show(results.table["rounds"])


def measure(terminal: Endpoint, bare: Bare, number: int, count: int, tokens: int) -> dict[str, float]:
    """Tokens per second of each, in an order that changes with the round."""
    words = [f"Round {number}, stream {stream} of {count}. {'Write a long story. ' * 8}" for stream in range(count)]
    rates = {}
    for name in rotated(["ours", "bare"], number):
        rates[name] = ours(terminal, words, tokens) if name == "ours" else bare.rate(words, tokens)
    return rates


def ours(terminal: Endpoint, words: list[str], tokens: int) -> float:
    asks = [Ask(({"role": "user", "content": each},), tokens, session=each) for each in words]
    answers = ask(terminal, *asks)
    assert all(answer.output_tokens == tokens for answer in answers), "an answer ended early"
    return window(answers)


def show(rounds: list[dict[str, Any]]) -> None:
    rounds = [each for each in rounds if each]
    for count in map(str, STREAMS):
        here, there = (median(each[count][name] for each in rounds) or 0.0 for name in ("ours", "bare"))
        ratios = [each[count]["ours"] / each[count]["bare"] for each in rounds]
        listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{count} streams: ours {here:7.1f}, mlx-lm {there:7.1f} tokens/s,"
            f" ratio {median(ratios) or 0:.3f} ({listed})"
        )


if __name__ == "__main__":
    main()
