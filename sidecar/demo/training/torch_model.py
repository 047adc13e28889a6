"""A PyTorch twin of mlx-lm's `recurrent_gemma` with attention blocks only.

Used for training alone: mlx on a Linux CPU is too slow for that. Parameter names equal those of mlx-lm, so the
state dict is the checkpoint; `score.py --twin` compares the logits of the two. Knows nothing of text.
"""

# mypy: disable-error-code=misc

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the model, in the words of its config.json."""

    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 448  # halved by the architecture: 224 up, 224 gate
    num_hidden_layers: int = 6
    # Two wide heads, since all share one key: 64 dimensions tell 2048 tokens apart, 32 hardly do, and copying needs it.
    num_attention_heads: int = 2
    num_key_value_heads: int = 1
    attention_window_size: int = 256
    rms_norm_eps: float = 1e-5


class Norm(nn.Module):
    """RMS norm whose weight is stored as its distance from one."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), 1.0 + self.weight, self.eps)


def rotations(length: int, dims: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines (length, dims/2) of the rotary embedding."""
    speeds = base ** (-torch.arange(0, dims, 2, dtype=torch.float32) / dims)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * speeds
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first half of each head's dimensions; the rest carries no position."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], -1)


class Attention(nn.Module):
    """Multi-query attention in a sliding window."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, self.heads = shape.hidden_size, shape.num_attention_heads
        self.head_dim = width // self.heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, self.head_dim, bias=False)
        self.o_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(self.k_proj(x), cos, sin)
        # One key head for all: the heads join the rows, and one matrix product serves them.
        scores = q.reshape(batch, self.heads * length, self.head_dim) @ k.transpose(1, 2)
        scores = scores.view(batch, self.heads, length, length) * self.head_dim**-0.5 + mask
        mixed = scores.softmax(-1).view(batch, self.heads * length, length) @ self.v_proj(x)
        mixed = mixed.view(batch, self.heads, length, self.head_dim).transpose(1, 2)
        return self.o_proj(mixed.reshape(batch, length, width))


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner = shape.hidden_size, shape.intermediate_size // 2
        self.up_proj = nn.Linear(width, inner)
        self.gate_proj = nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        # The blocks' norms keep mlx-lm's own default epsilon; only the last one reads the config.
        self.temporal_pre_norm = Norm(shape.hidden_size, 1e-5)
        self.temporal_block = Attention(shape)
        self.channel_pre_norm = Norm(shape.hidden_size, 1e-5)
        self.mlp_block = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        x = x + self.temporal_block(self.temporal_pre_norm(x), cos, sin, mask)
        return x + self.mlp_block(self.channel_pre_norm(x))


class Griffin(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Block(shape) for _ in range(shape.num_hidden_layers))
        self.final_norm = Norm(shape.hidden_size, shape.rms_norm_eps)


class Twin(nn.Module):
    """Tokens (batch, length) to hidden states; `logits` to scores over the vocabulary."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Griffin(shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                deep = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = (2 * shape.num_hidden_layers) ** -0.5 if deep else 1.0
                nn.init.normal_(weight, std=scale * shape.hidden_size**-0.5)
        # Tied to the output: rows of length one give first logits of about one.
        nn.init.normal_(self.model.embed_tokens.weight, std=shape.hidden_size**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        place = torch.arange(length)
        behind = place[:, None] - place[None]
        seen = (behind >= 0) & (behind < self.shape.attention_window_size)
        mask = torch.zeros(length, length).masked_fill(~seen, -1e9)
        cos, sin = rotations(length, self.shape.hidden_size // self.shape.num_attention_heads // 2)
        x = self.model.embed_tokens(tokens) * math.sqrt(self.shape.hidden_size)
        for layer in self.model.layers:
            x = layer(x, cos, sin, mask)
        return self.model.final_norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden @ self.model.embed_tokens.weight.T


def load(model: Twin, folder: Path, sharpness: float) -> None:
    """Take over the weights of an exported model; the inverse of `export`.

    Where that one has a layer less, the middle one of ours begins as one that changes nothing.
    """
    weights = load_file(str(folder / "model.safetensors"))
    norm = weights["model.final_norm.weight"]
    weights["model.final_norm.weight"] = (1.0 + norm) / sharpness - 1.0
    layers = model.shape.num_hidden_layers
    if f"model.layers.{layers - 1}.temporal_pre_norm.weight" not in weights:
        new = layers // 2
        weights = {_moved(name, new): weight for name, weight in weights.items()}
        own = model.state_dict()
        for name in own.keys() - weights.keys():
            silent = ".o_proj." in name or ".down_proj." in name
            weights[name] = torch.zeros_like(own[name]) if silent else own[name]
    model.load_state_dict(weights)


def _moved(name: str, new: int) -> str:
    """A parameter's name once a layer stands at place `new`."""
    head, found, rest = name.partition("model.layers.")
    number, _, tail = rest.partition(".")
    return f"{found}{int(number) + (int(number) >= new)}.{tail}" if found else head


def export(model: Twin, folder: Path, sharpness: float, eos: int, pad: int) -> None:
    """Write config.json and model.safetensors; the logits are `sharpness` times those trained.

    Sampling at temperature 1 then behaves as at 1/sharpness, and greedy answers stay the same.
    """
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}
    norm = weights["model.final_norm.weight"]
    weights["model.final_norm.weight"] = (1.0 + norm) * sharpness - 1.0
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    config = asdict(model.shape) | {
        "architectures": ["RecurrentGemmaForCausalLM"],
        "model_type": "recurrent_gemma",
        "block_types": ["attention"],
        "attention_bias": False,
        "conv1d_width": 4,
        "logits_soft_cap": 0.0,
        "rope_theta": 10000.0,
        "embeddings_scale_by_sqrt_dim": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "max_position_embeddings": 131072,
        "eos_token_id": eos,
        "pad_token_id": pad,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
