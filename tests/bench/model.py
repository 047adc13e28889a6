"""The model that the benches run on: random weights in a real shape, made by this script and kept in a cache folder.

    .venv/bin/python -m tests.bench.model [folder]

Qwen3's architecture (grouped queries, q and k norms) with 25 million fp32 parameters: fp32, since MLX on a CPU takes
half precision past the BLAS. Seeded, so that every machine measures the same text. What a random model says is noise,
and two things keep it measurable: output rows of special tokens are zero, so greedy decoding does not end before
max_tokens; so are those of tokens that are no plain visible text, so every token can be streamed the moment it is
there and no server takes one for the beginning of a tool call.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.support.models import make_tiny

SHAPE: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 512,
    "num_hidden_layers": 3,
    "intermediate_size": 1536,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1_000_000.0,
    "max_position_embeddings": 65_536,
}
VOCABULARY = 16_384
PLAIN = frozenset(map(chr, range(32, 127))) - frozenset("<>[]{}|`")
NAME = "qwen3-25m-fp32"


def cache_folder() -> Path:
    """Where models are kept; CLAUDE_LOCAL_BENCH says otherwise."""
    return Path(os.environ.get("CLAUDE_LOCAL_BENCH") or Path.home() / ".cache" / "claude-local-bench")


def bench_model(folder: Path | None = None) -> Path:
    """The model's directory; made on first use, in about 20 s."""
    path = (folder or cache_folder()).resolve() / NAME
    if not (path / "complete").exists():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        make_tiny(path, "qwen", VOCABULARY, **SHAPE)
        _silence(path)
        # Greedy for everyone who reads it; none of the servers then samples with settings of its own.
        (path / "generation_config.json").write_text(json.dumps({"do_sample": False}))
        (path / "complete").touch()
    return path


def _silence(path: Path) -> None:
    """Zero the output rows of what is not plain text. Its logit is then 0, and that of some other token is higher."""
    import mlx.core as mx
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    special = set(tokenizer.get_added_tokens_decoder())
    file = path / "model.safetensors"
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    heard = [_is_plain(tokenizer.decode([token])) and token not in special for token in range(VOCABULARY)]
    rows = weights["lm_head.weight"]
    weights["lm_head.weight"] = rows * mx.array([*heard, *[False] * (rows.shape[0] - VOCABULARY)])[:, None]
    mx.eval(weights)
    mx.save_safetensors(str(file), weights, metadata={"format": "mlx"})


def _is_plain(text: str) -> bool:
    return bool(text.strip()) and set(text) <= PLAIN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    print(bench_model(parser.parse_args().folder))


if __name__ == "__main__":
    main()
