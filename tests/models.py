"""Tiny random-weight models, made in seconds: real architectures, real tokenizers, noise for text."""

import json
from pathlib import Path
from typing import Any

_TURN = "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
_OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
TEMPLATES = {
    # Knows a system turn and nothing of tools, like Phi-3.
    "phi3": "{% for message in messages %}" + _TURN + "{% endfor %}" + _OPEN,
    # Renders tools, calls and results itself, in the JSON format, like Qwen.
    "chatml": (
        "{% if tools %}<|system|>\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}"
        "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|end|>\n{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'system' and tools %}{% else %}"
        "<|{{ message['role'] if message['role'] != 'tool' else 'user' }}|>\n{{ message['content'] }}"
        "{% for tool_call in message.tool_calls or [] %}{% set tool_call = tool_call.function %}"
        '\n<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}\n</tool_call>'
        "{% endfor %}<|end|>\n{% endif %}{% endfor %}" + _OPEN
    ),
    # Knows no system turn and insists on user and assistant taking turns, like Gemma.
    "strict": (
        "{% for message in messages %}{% if message['role'] not in ('user', 'assistant') or "
        "(message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
        "{% endif %}" + _TURN + "{% endfor %}" + _OPEN
    ),
}
_SPECIAL = ["<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
_WORDS = "the quick brown fox reads a file and runs one command while {'json': [1, 2], 'text': true} waits in line"


_LONG = {"max_position_embeddings": 32768, "original_max_position_embeddings": 32768}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    # Every head with keys and values of its own, like Phi-3.
    "dense": {**_LONG, "hidden_size": 512, "num_attention_heads": 2, "num_key_value_heads": 2},
    # Two heads share one, like Llama 3 and Qwen.
    "grouped": {**_LONG, "model_type": "llama", "num_key_value_heads": 2, "head_dim": 256},
    # Every other layer sees only the last 512 tokens, like Gemma and gpt-oss.
    "sliding": {
        **_LONG,
        "model_type": "llama",
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 512,
    },
    # 32 kB for each token and next to no weights: a few conversations fill a small machine.
    "heavy": {
        **_LONG,
        "model_type": "llama",
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}
"""How models spend memory on what they have read: changes to make_tiny's configuration. As in real models the rows
matter more than the passes."""


def make_tiny(path: Path, template: str = TEMPLATES["phi3"], **changes: Any) -> Path:
    """Write a phi3-shaped model directory; `changes` go into config.json. Seeded: the same weights every time."""
    from importlib import import_module

    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import save_model

    write_tokenizer(path, template)
    config = {
        "model_type": "phi3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": 512,
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "original_max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "eos_token_id": _SPECIAL.index("<|end|>"),
        **changes,
    }
    mx.random.seed(7)
    architecture = import_module(f"mlx_lm.models.{config['model_type']}")
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    # Wider than initialised, so that the next token depends on the whole prompt; special tokens never win.
    weights = [(name, _spread(name, value)) for name, value in tree_flatten(model.parameters())]
    model.load_weights(weights)
    save_model(path, model)
    (path / "config.json").write_text(json.dumps(config))
    return path


def _spread(name: str, value: Any) -> Any:
    import mlx.core as mx

    if value.ndim == 1:
        return value
    noise = mx.random.normal(value.shape) * (1.0 if "embed" in name else value.shape[-1] ** -0.5)
    if name == "lm_head.weight":
        noise[: len(_SPECIAL)] = 0
    return noise


def write_tokenizer(path: Path, template: str) -> None:
    """A byte-level BPE of 512 entries, trained on the standard library's own JSON code."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    source = Path(json.__file__).parent
    tokenizer.train_from_iterator([_WORDS, *(file.read_text("utf-8") for file in sorted(source.glob("*.py")))], trainer)
    tokenizer.save(str(path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 20,
        "chat_template": template,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
