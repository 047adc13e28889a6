"""What fits: the limits that a model gets on this machine. Pure arithmetic over measured or configured sizes."""

from dataclasses import dataclass

from sidecar.download import ModelFiles

CAUTION_BYTES = 2 * 10**9
"""Left free for everybody else: the line at which the memory guard begins to shed."""
SHORTEST_WINDOW = 4096
"""Below this no agent's first request fits, so a smaller window would only hide the real problem."""
LONGEST_ANSWER = 32000
"""What Claude Code asks of models that it does not know."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Told to every client at launch and enforced by the engine; fixed for the life of the sidecar."""

    context_window: int
    output_limit: int
    cache_bytes: int


def limits(files: ModelFiles, available: int, context: int = 0, cache_gb: float = 0.0) -> Limits:
    """`available`: bytes free before the model is loaded; `context`, `cache_gb`: the user's own limits, 0 = none."""
    room = max(0, available - files.weights_bytes - CAUTION_BYTES)
    # One full row twice: in the batch that decodes it, and as the cached prefix of the next turn.
    by_memory = room // (2 * files.bytes_per_token) if files.bytes_per_token else files.context_window
    window = min(files.context_window, max(by_memory, SHORTEST_WINDOW), context or files.context_window)
    cache = int(min(cache_gb * 1e9, room)) if cache_gb else room // 4
    return Limits(window, min(LONGEST_ANSWER, window // 4), max(cache, window * files.bytes_per_token))
