"""What /health and status say. Pure: from what is known to what is shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.conversation import Priority
from sidecar.frames import Heartbeat, Live, Queued, Ready
from sidecar.memory.guard import GB
from sidecar.memory.monitor import View
from sidecar.supervisor.engine import State

BROKEN: tuple[State, ...] = ("stuck", "dead", "failed")
KEPT_OUT: tuple[State, ...] = ("refused", "evacuated")


def health(state: State, view: View, leaving: bool) -> dict[str, Any]:
    """Healthy means that a token was produced lately or could be: never over a dead engine or without memory."""
    accepting = view.accepting and not leaving and state not in KEPT_OUT
    return {
        "status": "unhealthy" if state in BROKEN else "healthy" if accepting else "degraded",
        "memory": memory(view, accepting),
        "engine": {"state": state},
    }


def memory(view: View, accepting: bool) -> dict[str, Any]:
    """The level, as words and figures."""
    return {
        "status": view.level.label,
        "available_gb": f"{view.sample.available / GB:.2f}",
        "accepting_requests": accepting,
        "used_gb": f"{view.sample.footprint / GB:.2f}",
    }


def memory_in_full(view: View, beat: Heartbeat | None, refused: int) -> dict[str, Any]:
    """The same with what the engine holds, and what has been done for want of memory since the start."""
    return {
        **memory(view, view.accepting),
        "total_gb": round(view.sample.total / GB, 3),
        "engine_gb": round(beat.active_bytes / GB, 3) if beat else 0.0,
        "prefix_cache_gb": round(beat.cache_bytes / GB, 3) if beat else 0.0,
        "prefixes": {
            "memory_bytes": beat.cache_bytes if beat else 0,
            "memory_nodes": beat.cache_nodes if beat else 0,
            "disk_bytes": beat.disk_bytes if beat else 0,
            "disk_nodes": beat.disk_nodes if beat else 0,
        },
        "pool_gb": round(beat.pool_bytes / GB, 3) if beat else 0.0,
        "peak_gb": round(beat.peak_bytes / GB, 3) if beat else 0.0,
        "shed": view.sheds,
        "refused": refused,
        "evacuated": view.evacuations,
    }


def queue(waiting: Sequence[Queued], owners: Mapping[int, int]) -> list[dict[str, Any]]:
    """Requests that the engine has not begun, the next first. `owners`: each one's terminal, by its process id."""
    return [
        {
            "position": position,
            "pid": owners.get(each.id),
            "priority": each.priority.name.lower(),
            "prompt_tokens": each.prompt_tokens,
            "waited_s": round(each.waited_s, 1),
            "expected_s": round(each.expected_s, 1),
        }
        for position, each in enumerate(waiting, 1)
    ]


def streams(begun: Sequence[Live], owners: Mapping[int, int]) -> list[dict[str, Any]]:
    """Requests that the engine has begun, but for those that ended since it said so. `owners` as for `queue`."""
    return [
        {
            "pid": owners.get(each.id),
            "priority": each.priority.name.lower(),
            "doing": "reading" if each.read_tokens < each.prompt_tokens else "writing",
            "prompt_tokens": each.prompt_tokens,
            "read_tokens": each.read_tokens,
            "output_tokens": each.output_tokens,
            "tokens_per_s": each.speed,
        }
        for each in begun
        if each.id in owners or each.priority is Priority.PREWARM
    ]


def sampled(ready: Ready) -> dict[str, Any]:
    """What requests are sampled with that do not say, and who decided the temperature."""
    how = ready.sampling
    return {"temperature": how.temperature, "top_p": how.top_p, "top_k": how.top_k, "by": ready.sampling_by}
