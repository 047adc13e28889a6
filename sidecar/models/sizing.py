"""Which model may be loaded, and how long its context is. Pure arithmetic over configured and published sizes.

Which request may begin is decided in the engine: `sidecar.engine.memory_costs`.
"""

from dataclasses import dataclass

from sidecar.memory.guard import GB
from sidecar.memory.overhead import ENGINE_BYTES, UNPACKED_BYTES, transient_limit
from sidecar.models.catalog import WEIGHTS
from sidecar.models.resolve import ModelFiles
from sidecar.shared.config import KV_BITS

SHORTEST_WINDOW = 4096
"""Below this no agent's first request fits, so a smaller window would only hide the real problem."""
AMPLE_WINDOW = 24_576
"""An agent's first request twice. A longer window is not worth what quantised caches cost of the model's
precision."""
LONGEST_ANSWER = 32000
"""What Claude Code asks of models that it does not know."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Told to every client at launch and enforced by the engine; fixed for the life of the sidecar."""

    context_window: int
    output_limit: int
    cache_bytes: int
    kv_bits: str = "16"
    """Bits for each number of a KV cache, a name of KV_BITS; 16 = as the model computes them."""


def limits(
    files: ModelFiles,
    available: int,
    caution: float,
    context: int = 0,
    cache_gb: float = 0.0,
    kv_bits: str = "auto",
) -> Limits:
    """`available`: bytes free before the model is loaded, `caution`: what stays free of them; `context`, `cache_gb`,
    `kv_bits`: the user's own limits, 0 or auto = none. The window and the caches' format are chosen together."""
    room = max(0, available - taken(files, 0, "16") - int(caution))
    longest = min(files.context_window, context or files.context_window)
    bits = kv_bits if kv_bits != "auto" else _kv_bits(files, room, min(longest, AMPLE_WINDOW))
    bits = bits if files.kv_group else "16"
    window = min(longest, max(_by_memory(files, room, bits), SHORTEST_WINDOW))
    cache = int(min(cache_gb * 1e9, room)) if cache_gb else room // 4
    return Limits(window, min(LONGEST_ANSWER, window // 4), max(cache, window * kv_bytes(files, bits)), bits)


def kv_bytes(files: ModelFiles, bits: str) -> int:
    """Bytes of one token in caches of so many bits: each group of numbers has a scale and an offset beside them."""
    if bits == "16" or not files.kv_group:
        return files.bytes_per_token
    numbers = files.bytes_per_token // files.kv_width  # half of them keys
    return numbers * sum(KV_BITS[bits]) // 16 + 2 * files.kv_width * numbers // files.kv_group


def taken(files: ModelFiles, tokens: int, bits: str) -> int:
    """Bytes that one conversation of so many tokens takes, the model included."""
    fixed = files.memory_bytes + ENGINE_BYTES + transient_limit(files.memory_bytes)
    fixed += UNPACKED_BYTES if files.widened_bytes else 0
    return fixed + tokens * kv_bytes(files, bits)


def _by_memory(files: ModelFiles, room: int, bits: str) -> int:
    # One full row twice: as it is decoded, and as the cached prefix of the next turn.
    return room // (2 * kv_bytes(files, bits)) if files.bytes_per_token else files.context_window


def _kv_bits(files: ModelFiles, room: int, wanted: int) -> str:
    """As many bits as leave the wanted window; where none do, as few as there are."""
    return next((bits for bits in KV_BITS if _by_memory(files, room, bits) >= wanted), list(KV_BITS)[-1])


def load_refusal(name: str, weights: int, available: int, caution: float, advice: str) -> str | None:
    """Why a model of so many bytes must not be loaded into so much available memory; None when it may."""
    needed, room = weights + ENGINE_BYTES, available - caution
    if needed <= room:
        return None
    fitting = [alias for alias, size in WEIGHTS.items() if size + ENGINE_BYTES <= room and size < weights]
    smaller = fitting[0] if fitting else "demo" if weights > 0.1 * GB else ""
    use = f", or use a smaller model: CLAUDE_LOCAL_MODEL={smaller} fits" if smaller else ""
    return (
        f"{name} takes {needed / GB:.1f} GB, but only {available / GB:.1f} GB of memory are free, of which "
        f"{caution / GB:.1f} GB stay free for everything else: {advice}{use}"
    )
