"""What an engine takes beside the weights of its model. Pure."""

UNPACKED_BYTES = 16 << 20
"""What a CPU unpacks at once of a layer whose weights are packed: a part of what a pass takes for itself."""
ENGINE_BYTES = 200_000_000
"""The engine without a model: Python, mlx, the tokenizer and its grammar tables (0.12 GB were measured on Linux with a
small vocabulary, and large ones take some 50 MB more)."""


def transient_limit(weights: int) -> int:
    """Bytes that a forward pass may take for itself, which must matter little beside the model.

    Where attention is not fused, chunks therefore get shorter as the context gets longer. On the CPU chunks of 128 are
    read within 5 % of the speed of 2048.
    """
    return max(64 << 20, weights // 16)
