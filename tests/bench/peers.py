"""Ours beside mlx_lm.server, vllm-mlx (with and without --continuous-batching) and rapid-mlx: same model, same prompts.

    .venv/bin/python -m tests.bench.servers PEERS           # once: install the others
    .venv/bin/python -m tests.bench.peers --peers PEERS [--rounds 5] [--tokens 12000] [--budget 540] [--out FILE]

Every server goes through the same visits of an agent in each round, alone on the machine, in an order that rotates:

    cold         first request of a new agent: instructions, tools, environment, words
    second       its second turn
    terminal     the same agent in the same folder, other words
    folder       the same agent in another folder: another environment, other words
    retry        a new agent's request, left when 80 % of the cold time have passed, then sent again
    restart      the second turn, after the server was stopped and started (time to load is not counted)
    streams N    N short prompts at once: tokens per second of all together, from the first request to the last answer

Seconds to the first text, but for the streams. A server that fails gets "error" and what it said in the file's
`errors`. Results are written after each server and a run goes on where the last one stopped, so --budget (seconds)
can be short: a server is begun only if there is time for the slowest so far. At the end, a table of medians.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.client import Ask, Endpoint, ServerError, Stream, ask, events, pump, read
from tests.bench.model import bench_model
from tests.bench.prompt import agent
from tests.bench.results import Budget, Results, median, rotated
from tests.bench.servers import KINDS, Ours, Peer, started

STREAMS = (1, 2, 4, 8)
STREAM_TOKENS = 128
LEAVE, ATTEMPTS = 0.8, 3
ROWS = ("cold", "second", "terminal", "folder", "retry", "restart", *(f"streams {count}" for count in STREAMS))
SERVERS = ["ours", *KINDS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--tokens", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=Path("peers.json"))
    options = parser.parse_args()
    model = (options.model or bench_model()).resolve()
    results, budget = (
        Results(options.out, bench="peers", tokens=options.tokens, model=model.name),
        Budget(options.budget),
    )
    peers = options.peers.resolve() if options.peers else None
    for number in range(options.rounds):
        done = results.round(number)
        for name in rotated(options.only, number):
            if name in done:
                continue
            if not budget.allows():
                print(f"time is up in round {number}; the same command goes on")
                show(results.table["rounds"])
                return
            with started(name, model, peers) as server:
                done[name] = Visits(server, f"round {number}", options.tokens).run()
            results.save()
            print(f"round {number} {name}: {done[name]}", flush=True)
    show(results.table["rounds"])


class Visits:
    """One server's round."""

    def __init__(self, server: Ours | Peer, seed: str, tokens: int) -> None:
        self._server, self._seed, self._tokens = server, seed, tokens
        self._figures: dict[str, Any] = {}
        self._errors: dict[str, str] = {}

    def run(self) -> dict[str, Any]:
        """Each row's figure, or "error"."""
        if self._try("start", self._start):
            self._agent()
            for count in STREAMS:
                self._try(f"streams {count}", lambda count=count: self._streams(count))  # type: ignore[misc]
        self._server.stop()
        for row in ROWS:
            self._figures.setdefault(row, "error")
        return {**self._figures, "errors": self._errors}

    def _try(self, row: str, measure: Callable[[], float]) -> float | None:
        try:
            self._figures[row] = round(measure(), 4)
        except (ServerError, OSError, AssertionError) as error:
            self._figures[row], self._errors[row] = "error", f"{type(error).__name__}: {error}"[:400]
            return None
        return float(self._figures[row])

    def _start(self) -> float:
        """Seconds until it has answered once."""
        began = time.perf_counter()
        self._server.start()
        self._terminal = self._server.terminal("here")
        ask(self._terminal, Ask(({"role": "user", "content": "Warm up."},), 4))
        return time.perf_counter() - began

    def _agent(self) -> None:
        known = agent(f"{self._seed}, one", self._tokens)
        said: list[str] = []

        def first(endpoint: Endpoint, what: Ask) -> float:
            [answer] = ask(endpoint, what)
            said.append(answer.text)
            return answer.first

        def second() -> float:
            return first(self._terminal, known.turn("here", "What is this?", said[0], "And what is that?"))

        cold = self._try("cold", lambda: first(self._terminal, known.turn("here", "What is this?")))
        if cold is None:
            return
        self._try("second", second)
        self._try("terminal", lambda: first(self._server.terminal("here"), known.turn("here", "List all classes.")))
        self._try("folder", lambda: first(self._server.terminal("there"), known.turn("there", "What is this?")))
        self._try("retry", lambda: self._retry(cold))
        self._server.stop()
        if self._try("start again", self._start) is not None:
            self._try("restart", second)

    def _retry(self, expected: float) -> float:
        """A prompt that was answered before it was left says how long prompts take now, and another one is tried."""
        for attempt in range(ATTEMPTS):
            again = agent(f"{self._seed}, two {attempt}", self._tokens).turn("here", "What is this?")
            left = Stream(self._terminal, again)
            with contextlib.suppress(TimeoutError):  # which is what is wanted
                pump([left], lambda left=left: bool(left.ended), LEAVE * expected)  # type: ignore[misc]
            left.close()
            spoken = [when - left.began for when, event in events(left.chunks, ended=False) if read(event)[0]]
            if not spoken:
                [answer] = ask(self._terminal, again)
                return answer.first
            expected = spoken[0]
        raise ServerError("it was answered before it could be left")

    def _streams(self, count: int) -> float:
        words = [f"{self._seed}, stream {number} of {count}: write a long story." for number in range(count)]
        asks = [Ask(({"role": "user", "content": each},), STREAM_TOKENS, session=each) for each in words]
        answers = ask(self._terminal, *asks)
        seconds = max(each.began + each.ended for each in answers) - min(each.began for each in answers)
        return sum(each.output_tokens for each in answers) / seconds


def show(rounds: list[dict[str, Any]]) -> None:
    names = [name for name in SERVERS if any(name in each for each in rounds)]
    print(f"{'':12}" + "".join(f"{name:>12}" for name in names))
    for row in ("start", *ROWS):
        figures = [median(each[name][row] for each in rounds if name in each and row in each[name]) for name in names]
        print(f"{row:12}" + "".join(f"{'error' if each is None else f'{each:.3f}':>12}" for each in figures))
        if row in ("second", "terminal", "folder", "retry", "restart"):
            parts = [median(part(each[name], row) for each in rounds if name in each) for name in names]
            shares = "".join(f"{'' if each is None else f'{each:.1%}':>12}" for each in parts)
            print(f"{'  ÷ cold':12}" + shares)


def part(figures: dict[str, Any], row: str) -> float | None:
    """A row's time as a part of the same server's cold time in the same round."""
    time_, cold = figures.get(row), figures.get("cold")
    return time_ / cold if isinstance(time_, float) and isinstance(cold, float) else None


if __name__ == "__main__":
    main()
