"""What looking for a prefix takes with a full cache, and whether memory comes back.

    .venv/bin/python -m tests.bench.lookup [--requests 200] [--longest 6000] [--budget 540] [--out FILE]

Lookup: 50 conversations of 12,000 tokens in the engine's prefix cache, which share the first 9,000 and part one after
the other, and questions of three kinds: one that goes on, one that parts in the middle, one that nobody knows. The
caches' contents are small, since only the looking is measured. Memory: so many requests through the whole stack, with
prompts of 100 tokens to --longest, up to four at once; when all are done, what the engine holds is compared with
what it held when it had just been loaded plus what it says the prefix cache takes. Uses a tiny model for that.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from sidecar.engine.cache.prefix_cache import PrefixCache
from tests.bench.client import Ask, ask
from tests.bench.prompt import passage
from tests.bench.results import Budget, Results
from tests.bench.servers import Ours, started
from tests.support.models import make_tiny
from tests.support.waiting import wait_until

CONVERSATIONS, LENGTH, SHARED = 50, 12_000, 9_000
AT_ONCE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--longest", type=int, default=6_000)
    parser.add_argument("--budget", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=Path("lookup.json"))
    options = parser.parse_args()
    results = Results(options.out, bench="lookup", requests=options.requests, longest=options.longest)
    done = results.round(0)
    done["lookup"] = lookup()
    results.save()
    for kind, milliseconds in done["lookup"].items():
        print(f"lookup, {kind}: {milliseconds:.3f} ms", flush=True)
    with tempfile.TemporaryDirectory(prefix="cl-bench-", dir="/tmp") as folder:
        model = make_tiny(Path(folder), "qwen", 4096, max_position_embeddings=32_768)
        with started("ours", model, None) as server:
            assert isinstance(server, Ours)
            done["memory"] = memory(server, options.requests, options.longest, Budget(options.budget))
    results.save()
    print(f"memory: {done['memory']}")


def lookup() -> dict[str, float]:
    """Median milliseconds of one lookup of each kind, the worst of all, and of looking and copying together."""
    chance = random.Random(7)
    common = [chance.randrange(1 << 15) for _ in range(SHARED)]
    known: list[list[int]] = []
    for number in range(CONVERSATIONS):
        rest = [chance.randrange(1 << 15) for _ in range(LENGTH - SHARED)]
        parts = number * (LENGTH - SHARED) // CONVERSATIONS  # the later, the more it has in common with the one before
        known.append(common + (known[-1][SHARED:][:parts] if known else []) + rest[parts if known else 0 :])
    cache = PrefixCache(1 << 34, lambda: [KVCache()])
    for tokens in known:
        cache.add(tokens, row(len(tokens)))
    news = [chance.randrange(1 << 15) for _ in range(400)]
    questions = {
        "goes on": [tokens + news for tokens in known],
        "parts in the middle": [tokens[: LENGTH - 1500] + news for tokens in known],
        "is new": [[chance.randrange(1 << 15) for _ in range(LENGTH)] for _ in known],
    }
    times = {kind: [timed(cache.match, tokens) for tokens in asked] for kind, asked in questions.items()}
    worst = max(max(each) for each in times.values())
    medians = {kind: statistics.median(each) for kind, each in times.items()}
    copied = statistics.median(timed(cache.find, tokens) for tokens in questions["goes on"])
    return {**medians, "worst": worst, "goes on, row and all": copied}


def timed(look: Callable[[list[int]], object], tokens: list[int]) -> float:
    began = time.perf_counter()
    look(tokens)
    return (time.perf_counter() - began) * 1000


def row(tokens: int) -> list[Any]:
    """A cache of one layer with one head of 8."""
    layer = KVCache()
    layer.update_and_fetch(mx.zeros((1, 1, tokens, 8)), mx.zeros((1, 1, tokens, 8)))
    return [layer]


def memory(server: Ours, requests: int, longest: int, budget: Budget) -> dict[str, float]:
    """Megabytes when loaded, at the end, and accounted for as prefixes; the excess as a part of what is expected."""
    server.start()
    terminal, chance = server.terminal("here"), random.Random(7)
    loaded = settled(server)
    sent = 0
    while sent < requests and budget.allows():
        lengths = [chance.randint(100, longest) for _ in range(min(AT_ONCE, requests - sent))]
        words = [passage(f"{sent}.{place}", length) for place, length in enumerate(lengths)]
        ask(
            terminal,
            *(
                Ask(({"role": "user", "content": each},), chance.choice([1, 16, 64]), session=each.partition("\n")[0])
                for each in words
            ),
        )
        sent += len(words)
        print(f"\r{sent} of {requests} requests", end="", file=sys.stderr)
    after = settled(server)
    weights = loaded["engine_gb"] - loaded["prefix_cache_gb"]
    expected = weights + after["prefix_cache_gb"]
    return {
        "requests": sent,
        "loaded_mb": loaded["engine_gb"] * 1024,
        "held_mb": after["engine_gb"] * 1024,
        "prefixes_mb": after["prefix_cache_gb"] * 1024,
        "pool_mb": after["pool_gb"] * 1024,
        "excess": after["engine_gb"] / expected - 1,
    }


def settled(server: Ours) -> dict[str, float]:
    """The engine's figures once it has nothing to do and has said so twice."""
    seen: list[dict[str, Any]] = []

    def same() -> bool:
        status = server.status()
        seen.append({**status["memory"], "running": status["requests"]["running"]})
        time.sleep(1.5)  # more than a heartbeat
        return len(seen) > 2 and not seen[-1]["running"] and seen[-1]["engine_gb"] == seen[-2]["engine_gb"]

    wait_until(same, 60)
    return seen[-1]


if __name__ == "__main__":
    main()
