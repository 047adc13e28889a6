"""claude-local models: which there are and which fit; one is fetched, removed, or made the default."""

import json
import os
from typing import Any

from rich.table import Table

from shim.failure import UNAVAILABLE, USAGE, Failure, say
from shim.launch import model_name
from shim.progress import Progress, size
from shim.verbs import configfile, shelf
from shim.verbs.asking import ask
from shim.verbs.consent import agrees
from shim.verbs.parsing import Parser
from shim.verbs.screen import console
from shim.verbs.shelf import Item
from sidecar import config, control, download, hub
from sidecar.download import ModelUnavailable
from sidecar.models import ALIASES, MODELS

EXAMPLES = (
    ("claude-local models", "all, and our choice for this machine"),
    ("claude-local models pull qwen3-4b", "fetch it, or go on; check what is there"),
    ("claude-local models use qwen3-4b", "make it the default"),
    ("claude-local models use ./my-model", "a folder of yours"),
    ("claude-local models rm owner/name", "delete it from this disk"),
)

WIDE = 130
"""Columns from which the table says everything."""


def parser() -> Parser:
    made = Parser("models", EXAMPLES)
    made.add_argument("action", nargs="?", choices=("pull", "rm", "use"), help="fetch, delete, or make the default")
    made.add_argument("name", nargs="?", metavar="NAME", help="an alias, a hub id (owner/name), or a folder")
    made.add_argument("--yes", action="store_true", help="rm: do not ask")
    made.add_argument("--json", action="store_true", help="the list as one JSON object")
    made.offered["name"] = ("demo", *ALIASES)
    return made


def run(arguments: list[str]) -> int:
    made = parser()
    options = made.parse_intermixed_args(arguments)
    if options.action and not options.name:
        made.error(f"{options.action} needs the name of a model: an alias, a hub id (owner/name), or a folder")
    try:
        if options.action == "pull":
            pull(model_name(options.name))
        elif options.action == "rm":
            remove(model_name(options.name), options.yes)
        elif options.action == "use":
            use(model_name(options.name))
        else:
            show(options.json)
    except ModelUnavailable as error:
        raise Failure(str(error), error.exit_code) from None
    except hub.HubError as error:
        raise Failure(str(error), USAGE) from None  # the name is none
    return 0


def pull(name: str) -> None:
    """Make sure that a model is on disk, whole and as the hub has it."""
    if path := download.local_path(name):
        print(f"{name} is on this disk, whole: {size(download.inspect(path).weights_bytes)}")
        return
    repository = download.repository(name)
    if path := hub.cached(repository):
        say(f"checking what is here of {name} …")
        for file in hub.damaged(path):
            say(f"{file.name} is damaged, and fetched again")
            file.resolve().unlink(missing_ok=True)
            file.unlink()
    progress = Progress(f"downloading {name}", os.isatty(2))
    try:
        files = download.resolve(name, progress.show)
    finally:
        progress.finish()
    print(f"{name} is whole: {files.path}")


def remove(name: str, sure: bool) -> None:
    """Delete a model of the hub from this disk."""
    if download.local_path(name):
        raise Failure(f"{name}: not from the hub, so it is not ours to remove", USAGE)
    repository = download.repository(name)
    stored = next((each for each in hub.stored() if each.repository == repository), None)
    if stored is None:
        raise Failure(f"{name} is not on this disk. See: claude-local models", UNAVAILABLE)
    model = (ask("GET", control.STATUS_PATH) or {}).get("model") or {}
    if model.get("name") and ALIASES.get(model["name"], model["name"]) == repository:
        raise Failure(f"{name} is in memory. First: claude-local stop", UNAVAILABLE)
    if not (sure or agrees(f"remove {repository} ({size(stored.bytes)}), for all programs that use the hub's cache?")):
        raise Failure("nothing was removed", USAGE)
    print(f"removed {repository}: {size(hub.remove(repository))}")


def use(name: str) -> None:
    """Make a model the default of all terminals that name none."""
    path = download.local_path(name)
    if path:
        download.inspect(path)
    here = path or shelf.snapshot(download.repository(name))
    file = configfile.change("model", name)
    print(f"the default is {name} now ({file})")
    if not here:
        print(f"it is fetched when it is first used, or now: claude-local models pull {name}")
    if os.environ.get("CLAUDE_LOCAL_MODEL", name) != name:
        say(f"CLAUDE_LOCAL_MODEL={os.environ['CLAUDE_LOCAL_MODEL']} is set in this shell, and wins")


def show(as_json: bool) -> None:
    settings = config.load()
    free = shelf.free_memory(settings)
    found = shelf.items(free, settings)
    chosen = shelf.choice(found, shelf.accelerated())
    if as_json:
        table = [described(item, settings.model, chosen) for item in found]
        print(json.dumps({"free_bytes": free, "default": settings.model, "recommended": chosen, "models": table}))
        return
    screen = console()
    screen.print(drawn(found, settings.model, chosen, screen.width >= WIDE))
    marks = [f"* the default   > our choice for this machine ({size(free)} of memory free)"]
    if about := MODELS.get(chosen):
        marks.append(f"  {chosen}: {about.good_for}; licence: {about.licence}")
    if chosen != settings.model:
        marks.append(f"  to use it: claude-local models use {chosen}")
    marks.append("16k: memory with 16,384 tokens in use   here: the window that it would have")
    screen.print("", *marks, sep="\n", soft_wrap=True)


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
        "path": item.files.path if item.state == "whole" else None,
        "fits": limits is not None,
        "lacking_bytes": item.lacking,
        "window_here": limits.context_window if limits else None,
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
        files, about = item.files, item.about
        cells = [mark, item.name, size(files.weights_bytes), size(item.long), tokens(files.context_window)]
        cells += [here(item), disk(item)]
        if wide:
            cells += [about.tools, about.licence, about.good_for] if about else ["", "", ""]
        table.add_row(*cells, style="green" if item.name == chosen else "" if item.limits else "dim")
    return table


def here(item: Item) -> str:
    """What becomes of it in this machine's memory."""
    if item.limits is None:
        return f"{size(item.lacking)} short"
    bits = "" if item.limits.kv_bits == 16 else f", {item.limits.kv_bits}-bit"
    return f"{tokens(item.limits.context_window)}{bits}"


def disk(item: Item) -> str:
    return {"absent": "", "partial": f"part: {size(item.stored)}", "whole": size(item.stored)}[item.state]


def tokens(count: int) -> str:
    return f"{count // 1000}k" if count >= 1000 else str(count)
