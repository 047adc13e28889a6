"""How models are shown: the table of `claude-local models`, one of them in full, and both as JSON. Draws; looks at
nothing."""

from typing import Any

from rich.table import Table

from shim.commands.model_inventory import Item
from shim.terminal.console import plain
from shim.terminal.progress import size
from sidecar.models.catalog import MODELS

WIDE = 130
"""Columns from which the table says everything."""


def described(item: Item, default: str, chosen: str) -> dict[str, Any]:
    """One model for scripts: bytes, tokens, billions of parameters; null = not known."""
    about, limits = item.about, item.limits
    return {
        "name": item.name,
        "hub": item.hub or None,
        "default": item.name == default,
        "recommended": item.name == chosen,
        "parameters": about.parameters if about else None,
        "active_parameters": (about.active or about.parameters) if about else None,
        "bits": about.bits if about else None,
        "weights_bytes": item.files.weights_bytes,
        "bytes_at_16k": item.long,
        "context_window": item.files.context_window,
        "tools": about.tools if about else None,
        "licence": about.licence if about else None,
        "good_for": about.good_for if about else None,
        "disk": item.state,
        "disk_bytes": item.stored,
        "complaint": item.complaint or None,
        "path": item.files.path if item.state == "whole" else None,
        "fits": limits is not None,
        "lacking_bytes": item.lacking,
        "window_here": limits.context_window if limits else None,
        "read_per_s_here": round(item.speed.read, 1) if item.speed else None,
        "written_per_s_here": round(item.speed.written, 1) if item.speed else None,
        "kv_bits_here": limits.kv_bits if limits else None,
    }


def drawn(found: list[Item], default: str, chosen: str, wide: bool) -> Table:
    """The list; what a narrow terminal has no room for is in `--json` as well."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("model", overflow="fold")
    for heading in ("weights", "16k", "context"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("on disk", no_wrap=True)
    if wide:
        for heading in ("tools", "licence", "good for"):
            table.add_column(heading, no_wrap=heading == "tools")
    for item in found:
        mark = ("*" if item.name == default else "") + (">" if item.name == chosen else "")
        cells = [mark, plain(item.name), *_sizes(item), here(item), disk(item)]
        if wide:
            about = item.about
            cells += [about.tools, about.licence, about.good_for] if about else ["", "", ""]
        table.add_row(*cells, style="green" if item.name == chosen else "" if item.limits else "dim")
    return table


def _sizes(item: Item) -> list[str]:
    files = item.files
    if not files.context_window:
        return ["", "", ""]  # it cannot be read
    return [size(files.weights_bytes), size(item.long), tokens(files.context_window)]


def marks(found: list[Item], default: str, chosen: str, free: int) -> list[str]:
    """What stands below the list: what its signs mean, and what to do."""
    here = f"({size(free)} of memory free)"
    if not chosen:
        lines = ["* the default", f"No model fits into this machine's memory now {here}: close something."]
    else:
        lines = [f"* the default   > our choice for this machine {here}"]
    if about := MODELS.get(chosen):
        lines.append(f"  {chosen}: {about.good_for}; licence: {about.licence}")
        lines += [
            f"  on this CPU, without a GPU, it {pace(item)}" for item in found if item.name == chosen and item.speed
        ]
    if chosen and chosen != default:
        lines.append(f"  to use it: claude-local models use {chosen}")
    lines.append("16k: memory with 16,384 tokens in use   here: the window that it would have")
    return lines + [f"unreadable: {plain(item.complaint)}" for item in found if item.complaint]


def in_full(item: Item, default: str, chosen: str) -> Table:
    """One model."""
    files, about = item.files, item.about
    facts = {
        "model": plain(item.name) + " (the default)" * (item.name == default) + " (our choice)" * (item.name == chosen),
        "hub": plain(item.hub),
        "good for": about.good_for if about else "",
        "licence": about.licence if about else "",
        "tools": {"native": "in a format of its own", "ours": "in ours"}.get(about.tools, about.tools) if about else "",
        "parameters": _parameters(item),
        "weights": size(files.weights_bytes) if files.weights_bytes else "",
        "memory": f"{size(item.long)} with 16,384 tokens in use" if files.context_window else "",
        "context": f"{files.context_window:,} tokens" if files.context_window else "",
        "here": here(item),
        "pace": pace(item),
        "on disk": plain(item.complaint) if item.complaint else disk(item) or "no: claude-local models pull fetches it",
        "folder": plain(files.path) if item.state == "whole" else "",
    }
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        if fact:
            table.add_row(name, fact)
    return table


def _parameters(item: Item) -> str:
    about = item.about
    if about is None:
        return ""
    active = f", {about.active:g} billion of them for each token" if about.active else ""
    return f"{about.parameters:g} billion, in {about.bits} bits{active}"


def here(item: Item) -> str:
    """What becomes of it in this machine's memory."""
    if item.limits is None:
        return f"{size(item.lacking)} short" if item.lacking else ""
    bits = "" if item.limits.kv_bits == "16" else f", {item.limits.kv_bits}-bit"
    return f"{tokens(item.limits.context_window)}{bits}"


def pace(item: Item) -> str:
    """How fast it is on this CPU; empty where there is a GPU, or nobody knows."""
    return f"reads about {item.speed.read:.0f} tokens/s, writes {item.speed.written:.1f}" if item.speed else ""


def disk(item: Item) -> str:
    said = {"absent": "", "partial": f"part: {size(item.stored)}", "whole": size(item.stored)}
    return said.get(item.state, item.state)


def tokens(count: int) -> str:
    return f"{count // 1000}k" if count >= 1000 else str(count)
