"""Tiny random-weight models, made in seconds: real architectures, real tokenizers, noise for text."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TURN = "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
_OPEN = "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"


@dataclass(frozen=True)
class Family:
    """A way of writing conversations. The templates are ours; their rules and traps are those of the models named."""

    template: str
    special: tuple[str, ...] = ()
    """Tokens of its own beside those that all families share."""
    added: tuple[str, ...] = ()
    """The same, for tokens that a tokenizer does not call special although they are one token each."""
    end: str = "<|end|>"


FAMILIES = {
    # Knows a system turn and nothing of tools, like Phi-3.
    "phi3": Family("{% for message in messages %}" + _TURN + "{% endfor %}" + _OPEN),
    # Renders tools, calls and results itself, in the JSON format, like Hermes.
    "chatml": Family(
        "{% if tools %}<|system|>\n{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% endif %}"
        "{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|end|>\n{% endif %}"
        "{% for message in messages %}{% if message['role'] == 'system' and tools %}{% else %}"
        "<|{{ message['role'] if message['role'] != 'tool' else 'user' }}|>\n{{ message['content'] }}"
        "{% for tool_call in message.tool_calls or [] %}{% set tool_call = tool_call.function %}"
        '\n<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": {{ tool_call.arguments | tojson }}}\n</tool_call>'
        "{% endfor %}<|end|>\n{% endif %}{% endfor %}" + _OPEN
    ),
    # Knows no system turn and insists on user and assistant taking turns, like Gemma.
    "strict": Family(
        "{% for message in messages %}{% if message['role'] not in ('user', 'assistant') or "
        "(message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
        "{% endif %}" + _TURN + "{% endfor %}" + _OPEN
    ),
    # Like Qwen3: a system turn only at the beginning, thinking that can be switched off and that is dropped from
    # earlier turns, results inside user turns.
    "qwen": Family(
        "{% set ns = namespace(last=0) %}{% for message in messages %}{% if message.role == 'user' %}"
        "{% set ns.last = loop.index0 %}{% endif %}{% if message.role == 'system' and not loop.first %}"
        "{{ raise_exception('System message must be at the beginning.') }}{% endif %}{% endfor %}"
        "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n"
        "{% endif %}"
        "<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n</tools><|im_end|>\n"
        "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
        "{% for message in messages %}{% if message.role == 'user' %}"
        "<|im_start|>user\n{{ message.content }}<|im_end|>\n{% elif message.role == 'assistant' %}"
        "<|im_start|>assistant\n{% if message.reasoning_content and loop.index0 > ns.last %}"
        "<think>\n{{ message.reasoning_content.strip() }}\n</think>\n\n{% endif %}{{ message.content }}"
        "{% for call in message.tool_calls or [] %}{% set tool_call = call.function %}{{ '\n' if not loop.first or "
        'message.content else \'\' }}<tool_call>\n{"name": "{{ tool_call.name }}", "arguments": '
        "{{ tool_call.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% elif message.role == 'tool' %}"
        "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}"
        "\n<tool_response>\n{{ message.content }}\n</tool_response>"
        "{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>\n{% endif %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
        special=("<|im_start|>", "<|im_end|>"),
        added=("<think>", "</think>", "<tool_call>", "</tool_call>"),
        end="<|im_end|>",
    ),
    # Like DeepSeek-R1 and QwQ: every prompt ends inside a thought that the template has begun.
    "thinker": Family(
        "{% for message in messages %}" + _TURN + "{% endfor %}" + _OPEN.replace("\n", "\n<think>\n"),
        added=("<think>", "</think>"),
    ),
    # Like Llama 3: headers of three tokens, trimmed contents, one call at most in its own way, which nobody parses.
    "llama": Family(
        "{{ '<|begin_of_text|>' }}{% for message in messages %}"
        "{% if (message.tool_calls or []) | length > 1 %}{{ raise_exception('only single tool-calls') }}{% endif %}"
        "<|start_header_id|>{{ message.role }}<|end_header_id|>\n\n{{ message.content | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        special=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        end="<|eot_id|>",
    ),
    # Like Mistral: calls with a bare name and no end, ids of nine letters and digits, strictly alternating turns.
    "mistral": Family(
        "{% set ns = namespace(index=0) %}{% for message in messages %}{% if message.role == 'user' or "
        "(message.role == 'assistant' and not message.tool_calls) %}{% if (message.role == 'user') != "
        "(ns.index % 2 == 0) %}{{ raise_exception('conversation roles must alternate') }}{% endif %}"
        "{% set ns.index = ns.index + 1 %}{% endif %}{% endfor %}"
        "{% for message in messages %}{% if message.role == 'system' %}[SYSTEM]{{ message.content }}[/SYSTEM]"
        "{% elif message.role == 'user' %}"
        "{% if tools and loop.index0 < 2 %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}"
        "[INST]{{ message.content }}[/INST]{% elif message.role == 'tool' %}"
        "{% if message.tool_call_id | length != 9 %}{{ raise_exception('ids must have length 9') }}{% endif %}"
        "[TOOL_RESULTS]{{ message.content }}[/TOOL_RESULTS]{% else %}{{ message.content }}"
        "{% for call in message.tool_calls or [] %}{% if call.id | length != 9 %}"
        "{{ raise_exception('ids') }}{% endif %}"
        "[TOOL_CALLS]{{ call.function.name }}[ARGS]{{ call.function.arguments | tojson }}{% endfor %}</s>"
        "{% endif %}{% endfor %}",
        special=(
            "</s>",
            *(f"[{slash}{name}]" for name in ("SYSTEM", "TOOLS", "INST", "TOOL_RESULTS") for slash in ("", "/")),
            "[TOOL_CALLS]",
            "[ARGS]",
        ),
        end="</s>",
    ),
}
_SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
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


NOISE = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""What their authors recommend: all that they can say, since they have learnt nothing."""


def make_tiny(path: Path, family: str = "phi3", vocabulary: int = 512, **changes: Any) -> Path:
    """Write a phi3-shaped model directory; `changes` go into config.json. Seeded: the same weights every time."""
    from importlib import import_module

    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import save_model

    tokenizer = write_tokenizer(path, family, vocabulary)
    config = {
        "model_type": "phi3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "vocab_size": tokenizer.get_vocab_size(),
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "original_max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "eos_token_id": tokenizer.token_to_id(FAMILIES[family].end),
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
    (path / "generation_config.json").write_text(json.dumps(NOISE))
    return path


def make_packed(path: Path, **changes: Any) -> Path:
    """The same, packed in four bits, with scales in bfloat16; beside it, in `path`/dense, what a CPU makes of that
    number by number: unpacked, in float32."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm import load
    from mlx_lm.utils import save_model

    config = json.loads((make_tiny(path, **changes) / "config.json").read_text())
    model = load(str(path))[0]
    nn.quantize(model, group_size=32, bits=4)
    model.set_dtype(mx.bfloat16)
    save_model(path, model)
    packing = {"quantization": {"group_size": 32, "bits": 4}, "torch_dtype": "bfloat16"}
    (path / "config.json").write_text(json.dumps(config | packing))
    _unpack(path, path / "dense", config)
    return path


def _unpack(path: Path, dense: Path, config: dict[str, Any]) -> None:
    import shutil

    import mlx.core as mx

    packed = mx.load(str(path / "model.safetensors"))
    whole = {name: each.astype(mx.float32) if each.dtype == mx.bfloat16 else each for name, each in packed.items()}
    for layer in [name.removesuffix(".scales") for name in packed if name.endswith(".scales")]:
        scales, offsets = whole.pop(f"{layer}.scales"), whole.pop(f"{layer}.biases")
        whole[f"{layer}.weight"] = mx.dequantize(whole[f"{layer}.weight"], scales, offsets, 32, 4)
    dense.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(path / name, dense)
    mx.save_safetensors(str(dense / "model.safetensors"), whole, {"format": "mlx"})
    (dense / "config.json").write_text(json.dumps(config))


def _spread(name: str, value: Any) -> Any:
    import mlx.core as mx

    if value.ndim == 1:
        return value
    noise = mx.random.normal(value.shape) * (1.0 if "embed" in name else value.shape[-1] ** -0.5)
    if name == "lm_head.weight":
        noise[: len(_SPECIAL)] = 0
    return noise


def write_tokenizer(path: Path, family: str, vocabulary: int = 512) -> Any:
    """A byte-level BPE, trained on the standard library: a small one on its JSON code, larger ones on all of it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*_SPECIAL, *FAMILIES[family].special],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    library = Path(json.__file__).parents[1]
    sources = sorted(library.glob("json/*.py" if vocabulary <= 512 else "*/*.py"))
    tokenizer.train_from_iterator([_WORDS, *(file.read_text("utf-8", "replace") for file in sources)], trainer)
    tokenizer.add_tokens([AddedToken(content, normalized=False) for content in FAMILIES[family].added])
    tokenizer.save(str(path / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": FAMILIES[family].end,
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1 << 20,
        "chat_template": FAMILIES[family].template,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer
