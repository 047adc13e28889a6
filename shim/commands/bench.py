"""claude-local bench: how fast this machine reads and writes with a model, through everything that a client meets."""

import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shim.commands.parsing import Parser
from shim.errors import say
from shim.lease.control_client import ask
from shim.lease.session import Session
from shim.terminal import console
from shim.terminal.format import columns
from sidecar.models.catalog import ALIASES
from sidecar.shared import protocol

EXAMPLES = (
    ("claude-local bench", "the configured model"),
    ("claude-local bench --model qwen3-4b --json", "another model, for scripts"),
)

SIZES = (512, 2048, 8192)
"""Tokens of a prompt: a question, a file, half of an agent's first request."""
LONGEST_S = 60.0
"""A prompt that would take longer is left out: what it takes follows from the others."""
ANSWER = 128
"""Tokens to be written by each stream, in as many answers as that takes."""
ANSWERS = 8
"""The most answers for that: some models say little."""
STREAMS = (1, 4)


class Timed(NamedTuple):
    """One answer. Seconds on one clock."""

    asked: float
    first: float
    last: float
    prompt_tokens: int
    output_tokens: int


class Reading(NamedTuple):
    """A prompt that nobody has read before, and the same again."""

    prompt_tokens: int
    cold_s: float
    """To the first word."""
    warm_s: float

    @property
    def tokens_per_s(self) -> float:
        return self.prompt_tokens / self.cold_s


class Writing(NamedTuple):
    """Answers to so many streams at once. Tokens a second."""

    streams: int
    each: float
    together: float


def parser() -> Parser:
    made = Parser("bench", EXAMPLES)
    made.add_argument("--model", default="", help="alias, hub id or folder, instead of the configured one")
    made.add_argument("--json", action="store_true", help="the figures as one JSON object")
    made.offered["model"] = ("demo", *ALIASES)
    return made


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    others = ((ask("GET", protocol.STATUS_PATH) or {}).get("requests") or {}).get("running", 0)
    if others:
        say(f"{others} requests of others are under way: alone this machine is faster")
    with (
        Session("bench", options.model, gives_way=True) as session,
        console.console(stderr=True).status("loading the model") as shown,
    ):
        timed(session, "Hello", 1)
        reading = read(session, lambda size: shown.update(f"reading {size:,} tokens"))
        shown.update("writing")
        writing = [write(session, streams) for streams in STREAMS]
        model = session.model
    if options.json:
        print(json.dumps(figures(model, reading, writing)))
    else:
        console.console().print(drawn(model, reading, writing))
    return 0


def read(session: Session, tell: Callable[[int], None]) -> list[Reading]:
    """Prompts of growing size, each unlike all that were ever read from its first word on."""
    sample = filler(1000)
    per_word = session.count({"messages": [{"role": "user", "content": sample}]}) / 1000
    found = list[Reading]()
    for size in SIZES:
        too_long = size + ANSWER > session.context_window
        if found and (too_long or size / found[-1].tokens_per_s > LONGEST_S):
            break
        tell(size)
        prompt = f"{os.urandom(8).hex()} {filler(int(min(size, session.context_window // 2) / per_word))}"
        cold, warm = timed(session, prompt, 1), timed(session, prompt, 1)
        found.append(Reading(cold.prompt_tokens, cold.first - cold.asked, warm.first - warm.asked))
    return found


def write(session: Session, streams: int) -> Writing:
    """Answers to all at once, until each has written enough."""
    rounds = list[list[Timed]]()
    asks = [f"Write a long story about lighthouse number {number} and its keeper." for number in range(streams)]
    with ThreadPoolExecutor(streams) as threads:
        while len(rounds) < ANSWERS and sum(answers[0].output_tokens for answers in rounds) < ANSWER:
            left = ANSWER - sum(answers[0].output_tokens for answers in rounds)
            rounds.append([*threads.map(lambda words: timed(session, words, left), asks)])  # noqa: B023  # done here
    return rate(rounds)


def rate(rounds: Iterable[list[Timed]]) -> Writing:
    """From the first word to the last: what comes before is reading. Pure."""
    tokens = alone = together = 0.0
    streams = 0
    for answers in rounds:
        streams = len(answers)
        tokens += sum(each.output_tokens - 1 for each in answers)
        alone += sum(each.last - each.first for each in answers)
        together += max(each.last for each in answers) - min(each.first for each in answers)
    return Writing(streams, tokens / max(alone, 1e-9), tokens / max(together, 1e-9))


def timed(session: Session, prompt: str, most: int) -> Timed:
    """One answer of at most so many tokens."""
    asked, first, usage = time.perf_counter(), 0.0, dict[str, int]()
    for event in session.stream({"max_tokens": most, "messages": [{"role": "user", "content": prompt}]}):
        if event["type"] == "content_block_delta":
            first = first or time.perf_counter()
        usage = event.get("usage") or usage
    last = time.perf_counter()
    tokens = usage["input_tokens"] + usage["cache_read_input_tokens"]
    return Timed(asked, first or last, last, tokens, usage["output_tokens"])


def filler(words: int) -> str:
    """Text without repetitions, so that nothing of it can be guessed. Pure."""
    names = ("harbour", "copper", "window", "seven", "river", "letter", "quiet", "garden", "engine", "morning", "stone")
    return " ".join(f"{names[index * 7919 % 11]}{index * 104729 % 9973}" for index in range(words))


def figures(model: str, reading: Iterable[Reading], writing: Iterable[Writing]) -> dict[str, Any]:
    """For scripts. Seconds, and tokens a second."""
    return {
        "model": model,
        "reading": [{**each._asdict(), "tokens_per_s": each.tokens_per_s} for each in reading],
        "writing": [
            {"streams": each.streams, "tokens_per_s_each": each.each, "tokens_per_s": each.together} for each in writing
        ],
    }


def drawn(model: str, reading: Iterable[Reading], writing: Iterable[Writing]) -> Group:
    """For people."""
    reads = _right(columns("prompt", "read", "first word, cold", "first word, warm"))
    for each in reading:
        speed = f"{each.tokens_per_s:,.0f} tokens/s"
        reads.add_row(f"{each.prompt_tokens:,} tokens", speed, f"{each.cold_s:.2f} s", f"{each.warm_s:.2f} s")
    writes = _right(columns("streams", "each writes", "together"))
    for one in writing:
        writes.add_row(str(one.streams), f"{one.each:,.1f} tokens/s", f"{one.together:,.1f} tokens/s")
    return Group(Text(model, style="bold"), "", reads, "", writes)


def _right(table: Table) -> Table:
    for column in table.columns:
        column.justify = "right"
    return table
