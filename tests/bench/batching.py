"""What sharing a pass is worth: streams of several lengths in one batch, by groups, and in turns; and what guesses are
worth, right and wrong. The decoder alone, in this process.

    .venv/bin/python -m tests.bench.batching [rounds [bits]]

Medians of the rounds, interleaved, in tokens per second of all streams together. `bits`: of the KV caches. mlx-lm's
BatchGenerator beside it where they have 16, since it knows no others.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from sidecar.supervisor.environment import environment
from tests.bench.model import bench_model

TOKENS = 48
MIXES = {
    "1 x 500": [500],
    "2 x 500": [500] * 2,
    "4 x 500": [500] * 4,
    "8 x 500": [500] * 8,
    "3 x 3000": [3000] * 3,
    "6000+300+300": [6000, 300, 300],
}


def main() -> None:
    if "LD_PRELOAD" not in os.environ and "LD_PRELOAD" in environment():
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.batching", *sys.argv[1:]], environment())
    import mlx.core as mx
    from mlx_lm.generate import BatchGenerator

    from sidecar.conversation import Conversation, Message, Sampling, Text
    from sidecar.engine.batching.prompt_lookup import Speculation
    from sidecar.engine.cache.kv_layout import Cache
    from sidecar.engine.model import load
    from sidecar.engine.scheduling import decoder as decoders
    from sidecar.engine.scheduling.decoder import Decoder
    from sidecar.engine.scheduling.stream import Stream, prepare
    from sidecar.frames import Generate

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    bits = sys.argv[2] if len(sys.argv) > 2 else "16"
    model = load(bench_model(), 1 << 34, bits)
    print(f"a pass costs as much as attending to {model.pass_tokens:.0f} tokens")
    mx.random.seed(3)

    def stream(length: int) -> Stream:
        asked = Generate(1, Conversation("", (Message("user", (Text("x"),)),)), Sampling(0.0), TOKENS)
        made = prepare(model, asked, 1 << 16)
        made.prompt.tokens[:] = made.tokens[:] = mx.random.randint(300, 9000, (length,)).tolist()
        return made

    def read(tokens: list[int]) -> Cache:
        cache = model.new_cache()
        model.weights(mx.array([tokens]), cache=cache)
        mx.eval([layer.state for layer in cache])
        return cache

    def ours(lengths: list[int], pass_tokens: float) -> float:
        streams = [stream(length) for length in lengths]
        decoder = Decoder(replace(model, pass_tokens=pass_tokens))
        for each in streams:
            decoder.insert(each, read(each.tokens[:-1]))
        return rate(lambda: sum(len(each.tokens) for each in decoder.step()), TOKENS * len(lengths))

    def theirs(lengths: list[int]) -> float:
        streams = [stream(length) for length in lengths]
        batch = BatchGenerator(model.weights)
        batch.insert(
            [each.tokens[-1:] for each in streams],
            max_tokens=[TOKENS] * len(streams),
            caches=[read(each.tokens[:-1]) for each in streams],
        )
        batch.next()
        return rate(lambda: len(batch.next_generated()), TOKENS * len(lengths))

    ways: dict[str, Callable[[list[int]], float]] = {
        **({"mlx-lm": theirs} if bits == "16" else {}),
        "one batch": lambda lengths: ours(lengths, 1e9),
        "groups": lambda lengths: ours(lengths, model.pass_tokens),
        "in turns": lambda lengths: ours(lengths, 0.001),
    }
    print(f"{'':14}" + "".join(f"{way:>11}" for way in ways))
    for mix, lengths in MIXES.items():
        results: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, measure in ways.items():
                results[way].append(measure(lengths))
        print(f"{mix:14}" + "".join(f"{statistics.median(results[way]):11.1f}" for way in ways))

    class Oracle:
        """Guesses with so many right tokens before the first wrong one."""

        answer: list[int]
        right: int

        def __init__(self, tokens: list[int]) -> None:
            self._tokens, self._prompt = tokens, len(tokens)

        def guess(self, most: int) -> list[int]:
            done = len(self._tokens) - self._prompt
            coming = Oracle.answer[done : done + most]
            return [token + (index >= Oracle.right) for index, token in enumerate(coming)]

    def guessing(right: int | None) -> float:
        one, got = stream(500), list[int]()
        one.tokens[:] = one.prompt.tokens[:] = prompt
        one.max_tokens = 4 * TOKENS
        lookup = decoders.Lookup
        if right is not None:
            Oracle.right = right
            decoders.Lookup = Oracle  # type: ignore[misc,assignment]
        decoder = Decoder(model)
        if right is None:
            decoder._speculation = Speculation()
            decoder._speculation.length = lambda: 0  # type: ignore[method-assign]
        decoder.insert(one, read(one.tokens[:-1]))

        def step() -> int:
            [sampled] = decoder.step()
            got.extend(sampled.tokens)
            return len(sampled.tokens)

        speed = rate(step, one.max_tokens)
        decoders.Lookup = lookup  # type: ignore[misc]
        Oracle.answer = got
        return speed

    prompt = stream(500).tokens
    guessing(None)
    cases = {"no guesses": None, "never right": 1, "first wrong": 0, "2 right": 2, "4 right": 4, "all right": 99}
    speeds: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case, right in cases.items():
            speeds[case].append(guessing(right))
    for case in cases:
        ratio = statistics.median(a / b for a, b in zip(speeds[case], speeds["no guesses"], strict=True))
        print(f"{case:14}{statistics.median(speeds[case]):11.1f}{ratio:8.2f}")


def rate(step: Callable[[], int], tokens: int) -> float:
    """Tokens per second over all but the first step, which may find its work done already."""
    tokens -= step()
    began, left = time.perf_counter(), tokens
    while left > 0:
        left -= step()
    return tokens / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
