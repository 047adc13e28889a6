"""How well the memory of a request is predicted: requests of 100 to 12,000 tokens on tiny models of three kinds.

    .venv/bin/python -m tests.bench.prediction dense|grouped|sliding [requests] [longest]

Uses the engine's scheduler itself, one request at a time. Predicted: what the engine is expected to hold at most, when
the request is let in. Measured: MLX's own peak until the request has ended. Lengths are spread evenly over the orders
of magnitude. The pace of reading is held still: on a machine that others use as well it sinks, and passes are then
shorter and take less than was predicted. Prints each pair as JSON, then a summary.
"""

import json
import math
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sidecar.engine.scheduling.step_plan import Pace
from sidecar.supervisor.environment import environment
from tests.support.models import ARCHITECTURES, make_tiny

WINDOW = 16_384
GIB = 1 << 30


def main() -> None:
    if os.environ != (real := environment()):  # the engine's own: with a real BLAS where there is one
        os.execve(sys.executable, [sys.executable, "-m", "tests.bench.prediction", *sys.argv[1:]], real)
    kind, count, longest = sys.argv[1], int((sys.argv[2:] or ["100"])[0]), int((sys.argv[3:] or ["12000"])[0])
    with tempfile.TemporaryDirectory() as folder:
        pairs = measure(make_tiny(Path(folder), **ARCHITECTURES[kind]), count, longest)
    errors = sorted(abs(each["predicted"] / each["measured"] - 1) for each in pairs)
    own = sorted(abs((each["predicted"] - each["held"]) / (each["measured"] - each["held"]) - 1) for each in pairs)
    for name, values in (("engine's peak", errors), ("the request's own part", own)):
        p50, p95 = (values[min(len(values) - 1, int(part * len(values)))] for part in (0.5, 0.95))
        print(f"{kind}: error of {name}: p50 {p50:.1%}, p95 {p95:.1%}, max {values[-1]:.1%}")


class Steady(Pace):
    """A machine that nobody else uses."""

    def read(self, tokens: int, seconds: float) -> None:
        pass


def measure(model: Path, count: int, longest: int) -> list[dict[str, Any]]:
    """One request after another; each prompt is new."""
    import mlx.core as mx

    from sidecar import conversation as neutral
    from sidecar import frames
    from sidecar.engine import model as models
    from sidecar.engine.cache.prefix_cache import PrefixCache
    from sidecar.engine.scheduling.scheduler import Room, Scheduler
    from sidecar.engine.scheduling.stream import prepare

    loaded = models.load(model, 16 * GIB)
    scheduler = Scheduler(
        loaded, WINDOW, PrefixCache(GIB, loaded.new_cache), lambda *frames: None, lambda: Room(16 * GIB, 16 * GIB)
    )
    scheduler._pace = scheduler.line._pace = Steady(2048.0)
    chance, pairs = random.Random(7), []
    for number in range(count):
        length = math.exp(chance.uniform(math.log(100), math.log(longest)))
        words = " ".join(f"w{chance.randrange(997)}" for _ in range(int(length) // 4))
        conversation = neutral.Conversation("", (neutral.Message("user", (neutral.Text(words),)),))
        answer = chance.choice([1, 16, 64, 300])
        request = frames.Generate(number, conversation, neutral.Sampling(0.0), answer)
        scheduler.submit(prepare(loaded, request, WINDOW))
        [stream] = scheduler.line.waiting
        scheduler.prefixes.shed(0)  # what is known already must not make the rest look better
        held, began = mx.get_active_memory(), time.perf_counter()
        mx.reset_peak_memory()
        scheduler.memory.peak = 0
        while not scheduler.idle:
            scheduler.step()
        pairs.append(
            {
                "prompt": stream.prompt_length,
                "answer": answer,
                "held": held,
                "predicted": scheduler.memory.predicted,
                "measured": max(scheduler.memory.peak, mx.get_peak_memory()),
                "seconds": round(time.perf_counter() - began, 2),
            }
        )
        print(json.dumps(pairs[-1]), flush=True)
    return pairs


if __name__ == "__main__":
    main()
