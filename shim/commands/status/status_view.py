"""What a status looks like: the sidecar's table as things that rich draws. Pure; a key that an older or newer sidecar
lacks is left out. Colour repeats what the words say."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from shim.terminal.console import plain
from shim.terminal.format import columns, size
from sidecar.shared.config import kv_format_name
from sidecar.shared.protocol import GLOBAL

RECENT = 3
"""Answered requests that are listed, the newest last."""
SHOWN = 5
"""Waiting requests that are listed."""
ALL = 1000
"""Rows of a list: more than there ever are."""
BAR = 20
"""Columns of a bar."""

LEVELS = {"Safe": "green", "Caution": "yellow", "Critical": "red", "Emergency": "bold red"}
STATES = {
    "absent": ("not in memory: the next request loads it", "dim"),
    "loading": ("loading", "yellow"),
    "ready": ("ready", "green"),
    "stuck": ("does not answer: it is about to be replaced", "red"),
    "dead": ("ended: the next request starts it again", "red"),
    "failed": ("could not be loaded, the log says why", "red"),
    "refused": ("kept out: too little memory is free", "yellow"),
    "evacuated": ("given up for want of memory, it comes back by itself", "yellow"),
}
"""What the engine's states mean."""
DECIDED = {
    "user": "as you have set it",
    "model": "of the model's generation_config",
    "ours": "of ours, since the model's author names none",
}
"""Who decides the temperature."""


class Room(NamedTuple):
    """How many rows of each list are shown; what is left out is counted."""

    terminals: int = ALL
    requests: int = ALL
    recent: int = RECENT


SCARCE = tuple(Room(*counts) for counts in ((12,), (6,), (3,), (3, ALL, 1), (3, 8, 0), (2, 4, 0), (1, 2, 0)))
"""What is left out first where there is not room for all: who has a terminal open, then what is past, then the requests
themselves."""


def fitting(table: dict[str, Any], home: str, console: Console, lines: int) -> Group:
    """As much of it as `lines` have room for."""
    shown = overview(table, home)
    for room in SCARCE:
        if len(console.render_lines(shown, pad=False)) <= lines:
            break
        shown = overview(table, home, room)
    return shown


def overview(table: dict[str, Any], home: str = "", room: Room = Room()) -> Group:  # noqa: B008  # immutable
    """All of it. `home`: the user's folder, which is shown as ~."""
    table = readable(table)
    facts = Table.grid(padding=(0, 2), pad_edge=False)
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column()
    for name, fact in (
        ("model", model(table)),
        ("memory", memory(table)),
        ("cache", cache(table)),
        ("requests", requests(table)),
        ("speed", speed(table)),
        ("remarks", remarks(table)),
    ):
        if fact:
            facts.add_row(name, fact)
    parts: list[RenderableType] = [title(table), "", facts]
    for listed in (terminals(table, home, room.terminals), under_way(table, room.requests), recent(table, room.recent)):
        if listed.row_count:
            parts += ["", listed]
    return Group(*parts)


def readable(value: Any) -> Any:
    """The table without what others have written to move the cursor: names of folders, commands and models."""
    if isinstance(value, dict):
        return {key: readable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [readable(each) for each in value]
    return plain(value) if isinstance(value, str) else value


def title(table: dict[str, Any]) -> Text:
    text = Text(f"claude-local {table.get('version', '?')}", style="bold")
    return text.append(f"  pid {table.get('pid', '?')}, up {span(table.get('uptime_s'))}", style="not bold dim")


def model(table: dict[str, Any]) -> Text:
    shown = table.get("model") or {}
    state, style = STATES.get(str(shown.get("state")), (str(shown.get("state", "?")), ""))
    text = Text.assemble((str(shown.get("name") or "none yet"), "bold"), " ", (state, style))
    if shown.get("weights_bytes"):
        text.append(f", {size(shown['weights_bytes'])}")
    if shown.get("context_window"):
        text.append(f", context {shown['context_window']:,} tokens")
    if shown.get("kv_bits"):
        text.append(f", {kv_format_name(str(shown['kv_bits']))}")
    if shown.get("one_by_one"):
        text.append(f", one stream at a time ({shown['one_by_one']})")
    return text.append(f", {sampling(shown['sampling'])}") if shown.get("sampling") else text


def sampling(shown: dict[str, Any]) -> str:
    """What requests are sampled with that do not say."""
    parts = [f"temperature {_number(shown.get('temperature')):g}"]
    if _number(shown.get("temperature")):
        parts += [f"top_p {shown['top_p']:g}"] if 0 < _number(shown.get("top_p")) < 1 else []
        parts += [f"top_k {shown['top_k']}"] if shown.get("top_k") else []
    return f"{', '.join(parts)} {DECIDED.get(str(shown.get('by')), '')}".rstrip()


def memory(table: dict[str, Any]) -> Text:
    """The level, what is free, and what has been done for want of memory."""
    shown = table.get("memory") or {}
    if not shown.get("status"):
        return Text()
    free, total, style = _number(shown.get("available_gb")), _number(shown.get("total_gb")), LEVELS[shown["status"]]
    text = Text.assemble(bar(total - free, total, style) if total else "", (str(shown["status"]).lower(), style))
    text.append(f", {free:.1f} of {total:.1f} GB free" if total else f", {free:.1f} GB free")
    if "used_gb" in shown:
        text.append(f", {shown['used_gb']} GB ours")
    acts = (("shed", "caches given back"), ("refused", "requests refused"), ("evacuated", "model given up"))
    done = [f"{what}: {shown[key]}" for key, what in acts if shown.get(key)]
    return text.append("\n" + ", ".join(done), style="yellow") if done else text


def cache(table: dict[str, Any]) -> Text:
    """How much is kept of what was read, and how much of what was asked it has answered."""
    kept = (table.get("memory") or {}).get("prefixes")
    if not kept:
        return Text()
    limit = (table.get("model") or {}).get("cache_bytes") or 0
    text = Text.assemble(bar(kept["memory_bytes"], limit, "cyan") if limit else "", size(kept["memory_bytes"]))
    text.append(f" of {size(limit)}" if limit else " in memory")
    if kept.get("disk_bytes"):
        text.append(f", {size(kept['disk_bytes'])} on disk")
    tokens = table.get("tokens") or {}
    known = tokens.get("from_memory", 0) + tokens.get("from_disk", 0)
    if asked := known + tokens.get("read", 0):
        text.append(f", {100 * known / asked:.0f} % hits")
    return text


def requests(table: dict[str, Any]) -> Text:
    shown = table.get("requests") or {}
    names = (("running", "running"), ("waiting", "waiting"), ("total", "in all"))
    return Text(", ".join(f"{shown[key]} {name}" for key, name in names if key in shown))


def speed(table: dict[str, Any]) -> Text:
    """Tokens a second: of what runs, else of the last answer."""
    streams = (table.get("requests") or {}).get("streams") or []
    doing = {
        what: sum(each["tokens_per_s"] for each in streams if each["doing"] == what) for what in ("reading", "writing")
    }
    if now := [f"{what} {rate:,.0f} tokens/s" for what, rate in doing.items() if rate]:
        return Text(", ".join(now))
    last = (table.get("recent") or [{}])[-1]
    if not last.get("wrote_s"):
        return Text()
    rate = last["output_tokens"] / last["wrote_s"]
    return Text(f"the last answer began after {last['first_token_s']:.2f} s and was written at {rate:,.0f} tokens/s")


def remarks(table: dict[str, Any]) -> Text:
    """What clients have sent and the model could not read."""
    shown = table.get("remarks") or {}
    counts = [(shown.get(f"{what}s", 0), what) for what in ("picture", "document")]
    found = [f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts if count]
    if not found:
        return Text()
    return Text(f"{' and '.join(found)} became remarks: this model reads text only", style="yellow")


def terminals(table: dict[str, Any], home: str, most: int = ALL) -> Table:
    """Where there are more than `most`, those that have asked something come first."""
    shown = columns("terminal", "folder", "port", "pid", "since")
    shown.columns[1].overflow = "fold"
    leases = list(table.get("leases") or [])
    if len(leases) > most:
        found = table.get("requests") or {}
        asking = {each.get("pid") for each in [*(found.get("streams") or []), *(found.get("queue") or [])]}
        leases.sort(key=lambda lease: lease.get("pid") not in asking)
    for lease in leases[:most]:
        command = Text(str(lease.get("command", "?")))
        if str(command) == GLOBAL:
            command.append(" (all terminals)", style="dim")
        elif not lease.get("strong", True):
            command.append(" (in background)", style="dim")  # it has ended, what it started has not
        place = Text(shortened(str(lease.get("folder") or "?"), home))
        numbers = (str(lease.get("port") or "-"), str(lease.get("pid", "?")))
        shown.add_row(command, place, *numbers, span(lease.get("since_s")))
    return _counted(shown, len(leases) - most)


def _counted(shown: Table, more: int) -> Table:
    """With how many rows were left out."""
    if more > 0:
        shown.add_row(Text(f"and {more} more", style="dim"))
    return shown


def under_way(table: dict[str, Any], most: int = ALL) -> Table:
    """What the model does, and who waits for it."""
    shown, names = columns("request", "kind", "doing", "tokens", "speed"), _commands(table)
    found = table.get("requests") or {}
    streams, queue = found.get("streams") or [], found.get("queue") or []
    for each in streams[:most]:
        if each["doing"] == "reading":
            done, count = _reading(each), f"{each['read_tokens']:,} of {each['prompt_tokens']:,}"
        else:
            done, count = Text("writing", style="green"), f"{each['output_tokens']:,}"
        rate = f"{each['tokens_per_s']:,.0f}/s" if each["tokens_per_s"] else ""
        shown.add_row(names.get(each.get("pid"), "-"), each["priority"], done, count, rate)
    waiting = max(0, min(SHOWN, most - len(streams)))
    for each in queue[:waiting]:
        waits = f"waits {span(each.get('waited_s'))}, begins in about {span(each.get('expected_s'))}"
        count = f"{each.get('prompt_tokens', 0):,} to read"
        shown.add_row(names.get(each.get("pid"), "-"), str(each.get("priority")), Text(waits, style="dim"), count, "")
    return _counted(shown, max(0, len(streams) - most) + len(queue[waiting:]))


def recent(table: dict[str, Any], most: int = RECENT) -> Table:
    """Where the tokens of the last prompts came from, and why some were read."""
    shown = columns("last prompt", "memory", "disk", "read", "first word", "what differs")
    for column in shown.columns[1:5]:
        column.justify = "right"
    for each in (table.get("recent") or [])[-most:] if most else []:
        counts = [f"{each.get(key, 0):,}" for key in ("from_memory", "from_disk", "read")]
        why = Text(str(each.get("why") or ""))
        shown.add_row(str(each.get("priority", "?")), *counts, f"{_number(each.get('first_token_s')):.2f} s", why)
    return shown


def bar(part: float, whole: float, style: str, width: int = BAR) -> Text:
    """Filled as far as `part` of `whole`, whatever the colours."""
    full = max(0, min(width, round(width * part / whole))) if whole else 0
    return Text.assemble(("━" * full, style), ("─" * (width - full), "dim"), "  ")


def span(seconds: object) -> str:
    """A duration in the two units that matter."""
    if not isinstance(seconds, (int, float)):
        return "?"
    whole = int(seconds)
    for unit, name, smaller, lesser in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // smaller} {lesser}"
    return f"{whole} s"


def shortened(folder: str, home: str) -> str:
    """With ~ for the user's own folder."""
    inside = home and (folder == home or folder.startswith(f"{home}/"))
    return f"~{folder[len(home) :]}" if inside else folder


def _reading(stream: dict[str, Any]) -> Text:
    read, whole = stream["read_tokens"], stream["prompt_tokens"]
    return Text.assemble("reading  ", bar(read, whole, "cyan", BAR // 2), f"{100 * read / max(1, whole):.0f} %")


def _commands(table: dict[str, Any]) -> dict[object, str]:
    leases: Iterable[dict[str, Any]] = table.get("leases") or []
    return {lease.get("pid"): str(lease.get("command", "?")) for lease in leases}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float, str)) else 0.0
