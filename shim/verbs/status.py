"""claude-local status: what runs, as a table for people or JSON for scripts."""

import json
from typing import Any

from shim.verbs.asking import ask
from shim.verbs.parsing import Parser
from sidecar import control

EXAMPLES = (
    ("claude-local status", "a few lines for people"),
    ("claude-local status --json", "everything, for scripts"),
)

RECENT = 3
"""Answered requests that a status lists, the newest last."""
SHOWN = 5
"""Waiting requests that a status lists."""


def parser() -> Parser:
    made = Parser("status", EXAMPLES)
    made.add_argument("--json", action="store_true", help="everything, as one JSON object")
    return made


def run(arguments: list[str]) -> int:
    """That nothing runs is an answer, not a failure."""
    options = parser().parse_args(arguments)
    table = ask("GET", control.STATUS_PATH)
    if options.json:
        print(json.dumps({"running": False} if table is None else {"running": True, **table}))
    else:
        print("nothing runs" if table is None else describe(table))
    return 0


def describe(table: dict[str, Any]) -> str:
    """The status as a few lines of text. Pure; a key that an older or newer sidecar lacks is left out."""
    model, engine = table.get("model") or {}, table.get("engine") or {}
    memory, requests = table.get("memory") or {}, table.get("requests") or {}
    leases = table.get("leases") or []
    rows = [
        ("sidecar", _sidecar(table)),
        ("model", _model(model)),
        ("engine", f"{engine.get('state', '?')}" + (f", pid {engine['pid']}" if engine.get("pid") else "")),
        ("memory", ", ".join(_memory(memory))),
        ("requests", _requests(requests)),
        ("prompts", f"\n{'':10}".join(map(_recent, (table.get("recent") or [])[-RECENT:]))),
        ("terminals", str(len(leases)) if leases else "none"),
    ]
    lines = [f"{name:<10}{text}" for name, text in rows if text]
    return "\n".join(lines + [f"  {_lease(lease)}" for lease in leases])


def _recent(request: dict[str, Any]) -> str:
    """Where the tokens of a prompt came from."""
    names = (("from_memory", "from memory"), ("from_disk", "from disk"), ("read", "read"))
    parts = [f"{request[key]:,} {text}" for key, text in names if request.get(key)]
    why = f"; what differs: {request['why']}" if request.get("why") else ""
    waited = f", first word after {request['first_token_s']:.1f} s" if "first_token_s" in request else ""
    return f"{request.get('priority', '?')}: {', '.join(parts) or 'nothing read'}{waited}{why}"


def _requests(requests: dict[str, Any]) -> str:
    counts = ", ".join(f"{requests[key]} {key}" for key in ("running", "waiting", "total") if key in requests)
    queue = requests.get("queue") or []
    lines = [
        f"{each.get('position', '?')}. {each.get('priority', '?')}, {each.get('prompt_tokens', '?')} tokens, "
        f"for {span(each.get('waited_s'))}, begins in about {span(each.get('expected_s'))}"
        for each in queue[:SHOWN]
    ]
    if len(queue) > SHOWN:
        lines.append(f"and {len(queue) - SHOWN} more")
    return "".join([counts, *(f"\n{'':10}{line}" for line in lines)])


def span(seconds: object) -> str:
    """A duration in the two units that matter."""
    if not isinstance(seconds, (int, float)):
        return "?"
    whole = int(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"


def _sidecar(table: dict[str, Any]) -> str:
    return f"version {table.get('version', '?')}, pid {table.get('pid', '?')}, up {span(table.get('uptime_s'))}"


def _model(model: dict[str, Any]) -> str:
    text = f"{model.get('name') or 'none yet'}, {model.get('state', '?')}"
    text += f", context {model['context_window']:,} tokens" if model.get("context_window") else ""
    text += f", KV caches in {model['kv_bits']} bits" if model.get("kv_bits", 16) not in (16, None) else ""
    return text + (f", one stream at a time ({model['one_by_one']})" if model.get("one_by_one") else "")


def _memory(memory: dict[str, Any]) -> list[str]:
    parts = [str(memory["status"])] if memory.get("status") else []
    names = (("available_gb", "available"), ("used_gb", "used by claude-local"), ("engine_gb", "of it by the engine"))
    parts += [f"{memory[key]} GB {text}" for key, text in names if memory.get(key) is not None]
    acts = (("shed", "times caches given back"), ("refused", "requests refused"), ("evacuated", "times model given up"))
    return parts + [f"{memory[key]} {text}" for key, text in acts if memory.get(key)]


def _lease(lease: dict[str, Any]) -> str:
    strength = "" if lease.get("strong", True) else ", command ended, its children hold on"
    return (
        f"{lease.get('command', '?')} (pid {lease.get('pid', '?')}, port {lease.get('port', '?')}, "
        f"{span(lease.get('since_s'))}) in {lease.get('folder') or '?'}{strength}"
    )
