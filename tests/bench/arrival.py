"""A long prompt arrives while a stream is being written: what the stream feels, and what the prompt pays.

    .venv/bin/python -m tests.bench.arrival [--tokens 12000] [--rounds 3] [--curve] [--budget 540] [--out FILE]

Through the whole stack. Undisturbed first: the stream alone, and a new agent's prompt alone. Then together. Reported:
the stream's longest gap from the prompt's arrival to its first text, its speed meanwhile as a part of its own speed
alone, and the prompt's time to first text in units of its time alone. Beside it bare mlx-lm, whose BatchGenerator gets
the same two. --curve: the same for other lengths of slice and shares of the time for the streams, which says what the
defaults buy: the engine then runs with two constants of `sidecar.engine.scheduling.step_plan` changed
(tests/bench/tuned.py).
"""

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from sidecar.supervisor.environment import environment
from tests.bench import tuned
from tests.bench.client import Ask, Endpoint, Stream, ask, events, plain, pump, read
from tests.bench.model import bench_model
from tests.bench.prompt import agent
from tests.bench.results import Budget, Results, median
from tests.bench.servers import Ours, started

CURVE = ((0.15, 0.1), (0.15, 0.2), (0.15, 0.25), (0.15, 0.33), (0.15, 0.5), (0.05, 0.25), (0.3, 0.25))
"""Slice length in seconds, share of the time for the streams."""
LONG = 4000
"""Tokens of the stream: more than are written while any prompt is read."""
STORY = "Write a long story. " * 8
SETTLE = 48
"""Pieces of the stream before the prompt arrives."""

BARE = """
import json, sys, time, mlx.core as mx, mlx_lm
from mlx_lm.generate import BatchGenerator
model, tokenizer = mlx_lm.load(sys.argv[1])
short, long = json.loads(sys.stdin.readline())
def batch():
    return BatchGenerator(model, max_tokens=4000)
def first(batch, prompt):
    [row], began, times = batch.insert([prompt]), time.perf_counter(), []
    while True:
        for answer in batch.next_generated():
            now = time.perf_counter()
            if answer.uid == row:
                return now - began, began, times
            times.append(now)
def steps(batch, count):
    times = []
    while len(times) < count:
        times += [time.perf_counter() for answer in batch.next_generated()]
    return times
alone, _, _ = first(batch(), long)
both = batch()
both.insert([short])
quiet = steps(both, 48)
taken, began, times = first(both, long)
times = [began, *times, began + taken]
print(json.dumps({
    "gap": max(b - a for a, b in zip(times, times[1:])),
    "kept": (len(times) - 2) / taken / (47 / (quiet[-1] - quiet[0])),
    "prefill": taken / alone, "alone": alone,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=Path("arrival.json"))
    options = parser.parse_args()
    model = (options.model or bench_model()).resolve()
    results = Results(options.out, bench="arrival", tokens=options.tokens, model=model.name)
    budget = Budget(options.budget)
    ways = ["ours", "bare", *(f"{slice_} s, {share}" for slice_, share in CURVE if options.curve)]
    for number in range(options.rounds):
        done = results.round(number)
        for way in ways:
            if way in done:
                continue
            if not budget.allows():
                print(f"time is up in round {number}; the same command goes on")
                show(results.table["rounds"])
                return
            done[way] = measure(model, options.tokens, way, f"round {number}")
            results.save()
            print(f"round {number} {way}: {done[way]}", flush=True)
    show(results.table["rounds"])


def measure(model: Path, tokens: int, way: str, seed: str) -> dict[str, float]:
    if way == "bare":
        return bare(model, tokens, seed)
    variables = {}
    if way != "ours":
        variables["CLAUDE_LOCAL_TEST_SIDECAR"] = f"{sys.executable} -I {tuned.__file__}"
        variables[tuned.VARIABLE] = way.replace(" s,", "")
    with started("ours", model, None) as server:
        assert isinstance(server, Ours)
        server.place.environment |= variables
        server.start()
        return through(server.terminal("here"), tokens, seed)


def through(terminal: Endpoint, tokens: int, seed: str) -> dict[str, float]:
    """By the client's clock."""
    [warm] = ask(terminal, Ask(({"role": "user", "content": STORY},), 2 * SETTLE, session="warm"))
    assert warm.text
    [alone] = ask(terminal, agent(f"{seed}, alone", tokens).turn("here", "What is this?"))
    stream = Stream(terminal, Ask(({"role": "user", "content": STORY},), LONG, session="story"))
    pump([stream], lambda: len(stream.chunks) > SETTLE, 120)
    quiet = texts(stream)
    prompt = Stream(terminal, agent(f"{seed}, beside", tokens).turn("there", "What is this?"))
    pump([stream, prompt], lambda: bool(stream.ended or prompt.ended), 600)
    assert not stream.ended, "the stream ended before the prompt was read: a longer one is needed"
    stream.close()
    answer = prompt.answer()
    start, end = answer.began, answer.began + answer.first
    meanwhile = [(when, length) for when, length in texts(stream) if start < when < end]
    times = [start, *(when for when, _ in meanwhile), end]
    alone_speed = sum(length for _, length in quiet[1:]) / (quiet[-1][0] - quiet[0][0])
    return {
        "gap": max(after - before for before, after in pairwise(times)),
        "kept": sum(length for _, length in meanwhile) / (end - start) / alone_speed,
        "prefill": answer.first / alone.first,
        "alone": alone.first,
    }


def texts(stream: Stream) -> list[tuple[float, int]]:
    """When each piece of text came so far, and how many characters it has: several tokens may come as one."""
    return [(when, len(words)) for when, event in events(stream.chunks, ended=False) if (words := read(event)[0])]


def bare(model: Path, tokens: int, seed: str) -> dict[str, float]:
    import mlx_lm

    tokenizer = mlx_lm.utils.load_tokenizer(model)
    what = agent(f"{seed}, beside", tokens).turn("there", "What is this?")
    messages = [{"role": "system", "content": what.system}]
    messages += [{"role": each["role"], "content": plain(each["content"])} for each in what.messages]
    long = tokenizer.apply_chat_template(messages, tools=list(what.tools), add_generation_prompt=True)
    short = tokenizer.apply_chat_template([{"role": "user", "content": STORY}], add_generation_prompt=True)
    command = [sys.executable, "-I", "-c", BARE, str(model)]
    done = subprocess.run(
        command,
        env=environment(),
        input=json.dumps([short, long]) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(rounds: list[dict[str, Any]]) -> None:
    for way in dict.fromkeys(way for each in rounds for way in each):
        gap, kept, prefill = (
            median(each[way][name] for each in rounds if way in each) or 0.0 for name in ("gap", "kept", "prefill")
        )
        print(f"{way:10} longest gap {gap * 1000:7.0f} ms   speed kept {kept:6.1%}   prompt's time {prefill:5.2f} x")


if __name__ == "__main__":
    main()
