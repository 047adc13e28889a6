"""Packed weights on a CPU, as mlx-lm leaves them and as the engine adapts them: side by side, in one run.

    .venv/bin/python -m tests.bench.packed [--out FILE] [smollm2] [half-billion]

SmolLM2-135M as its package has it (4 bits in groups of 32, scales in float16), and a shape of half a billion parameters
(4 bits in groups of 64, bfloat16, random weights). Each way is a process of its own. What nobody would wait for is not
waited for: where a token takes longer than a second, one is read and one written, and the rest is reckoned from them,
since those kernels take the same time for each.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sidecar.supervisor.environment import environment
from tests.bench.model import cache_folder
from tests.support.models import write_tokenizer
from tests.support.smollm2 import KINDS, cached

PROMPT, ANSWER = 256, 4
"""Tokens."""
FOUND_OUT = 256 + 512
"""Tokens, at least, that a load ran through a model of which nothing was known, however slow it was."""
SLOW_S = 1.0
HALF_BILLION = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "quantization": {"group_size": 64, "bits": 4},
}


def main() -> None:
    makers: dict[str, Callable[[], Path | None]] = {
        "smollm2": lambda: cached(fetch=True, kind=KINDS[1]),
        "half-billion": half_billion,
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--way", choices=("before", "after"), help=argparse.SUPPRESS)
    parser.add_argument("models", nargs="*", default=list(makers))
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measured(Path(options.models[0]), options.way)))
        return
    results = {}
    for name in options.models:
        folder = makers[name]()
        assert folder is not None, "the package with the model cannot be had"
        results[name] = {way: in_a_process(folder, way) for way in ("after", "before")}
        print(row(name, **results[name]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(results, indent=1))


def in_a_process(folder: Path, way: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.packed", "--way", way, str(folder)]
    done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, check=True)
    table: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return table


def measured(folder: Path, way: str) -> dict[str, float]:
    """Seconds of the first load, and of the first token of a prompt; tokens written in a second."""
    import mlx_lm

    from sidecar.engine import model as models

    began = time.perf_counter()
    if way == "after":
        weights, found = models.load(folder, 8 << 30).weights, 0
    else:
        weights, found = mlx_lm.load(str(folder))[0], FOUND_OUT
    loaded = time.perf_counter() - began
    passes = Passes(weights)
    written = passes.seconds(1, logits=True)  # the first one also makes what is made once
    if way == "before" and written > SLOW_S:
        first = passes.seconds(1) * PROMPT + written
    else:
        first = passes.seconds(PROMPT) + passes.seconds(1, logits=True)
        written = sum(passes.seconds(1, logits=True) for _ in range(ANSWER)) / ANSWER
    load = loaded + first / PROMPT * found
    return {"load_s": load, "first_s": first, "written_per_s": 1 / written, "read_per_s": PROMPT / first}


class Passes:
    """One row of a model that gets longer."""

    def __init__(self, weights: Any) -> None:
        from mlx_lm.models.cache import make_prompt_cache

        self._weights, self._cache = weights, make_prompt_cache(weights)

    def seconds(self, tokens: int, logits: bool = False) -> float:
        import mlx.core as mx

        began = time.perf_counter()
        made = self._weights(mx.full((1, tokens), 7, dtype=mx.int32), cache=self._cache)
        mx.eval([layer.state for layer in self._cache], *([made] if logits else []))
        return time.perf_counter() - began


def row(name: str, before: dict[str, float], after: dict[str, float]) -> str:
    """One line for each figure."""
    units = {"load_s": "s", "first_s": "s", "written_per_s": "tokens/s", "read_per_s": "tokens/s"}
    lines = [f"{name}: first load, first token of {PROMPT}, writing, reading"]
    for figure, unit in units.items():
        ratio = after[figure] / before[figure]
        ratio = ratio if unit == "tokens/s" else 1 / ratio
        lines.append(
            f"  {figure:14} {before[figure]:10.2f} -> {after[figure]:8.2f} {unit:8} {ratio:7.1f} times as fast"
        )
    return "\n".join(lines)


def half_billion() -> Path:
    """The shape of Qwen2.5-0.5B, with weights that say nothing."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.models import qwen2
    from mlx_lm.utils import save_model

    folder = cache_folder() / "half-billion-packed"
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder, "chatml")
    config = HALF_BILLION | {"eos_token_id": tokenizer.token_to_id("<|end|>")}
    mx.random.seed(7)
    made = qwen2.Model(qwen2.ModelArgs.from_dict(dict(config)))
    nn.quantize(made, group_size=64, bits=4)
    made.set_dtype(mx.bfloat16)
    save_model(folder, made)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


if __name__ == "__main__":
    main()
