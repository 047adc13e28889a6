"""claude-local cache: what lies on disk of what has been read; a folder for each model, in it a file for each piece.

Knows of the files only their names and about.json, which says whose folder it is.
The engine bears that they vanish.
"""

import json
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from shim.commands.parsing import Parser
from shim.lease.control_client import ask
from shim.terminal.console import tell
from shim.terminal.format import size
from sidecar.shared import config, prefix_files, protocol

EXAMPLES = (
    ("claude-local cache", "each model's prefixes, their size and age"),
    ("claude-local cache clear", "erase all of it, in memory as well"),
)


def parser() -> Parser:
    made = Parser("cache", EXAMPLES)
    made.add_argument("action", nargs="?", choices=("clear",), help="erase all of it, in memory as well")
    return made


def run(arguments: list[str]) -> int:
    """List the prefixes on disk, or erase them: the ones that a sidecar has in memory as well."""
    action = parser().parse_args(arguments).action
    place = config.load().prefixes
    if not action:
        print(describe(found(place), time.time()) if place else "nothing is kept on disk: disk_cache is off")
        return 0
    try:
        ask("POST", protocol.FORGET_PATH)
    finally:
        erased = erase(place) if place else 0
    tell(f"erased {size(erased)}")
    return 0


class Kept(NamedTuple):
    """What one model has read."""

    model: str
    prefixes: int
    """Beginnings of conversations: pieces on which no other goes on."""
    bytes: int
    used: float
    """When last, in seconds since the epoch; 0 = never."""


def found(place: Path) -> list[Kept]:
    """By last use, the latest first."""
    return sorted(map(_look, _folders(place)), key=lambda kept: -kept.used)


def erase(place: Path) -> int:
    """Delete all of it and nothing else that may be there; returns the bytes."""
    erased = 0
    for folder in _folders(place):
        erased += _look(folder).bytes
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(folder)  # the engine was writing; if it is still there now, the user hears why
    return erased


def describe(kept: list[Kept], now: float) -> str:
    """A table for people. Pure."""
    if not kept:
        return "nothing is kept on disk"
    rows = [("model", "prefixes", "size", "last used")]
    rows += [(each.model, str(each.prefixes), size(each.bytes), _ago(each.used, now)) for each in kept]
    if len(kept) > 1:
        rows.append(("in all", str(sum(each.prefixes for each in kept)), size(sum(each.bytes for each in kept)), ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return [
        each
        for each in place.iterdir()
        if prefix_files.FOLDER.fullmatch(each.name) and each.is_dir() and not each.is_symlink()
    ]


def _look(folder: Path) -> Kept:
    nodes, parents, total, used = set(), set(), 0, 0.0
    for file in folder.iterdir():
        try:
            status = file.stat(follow_symlinks=False)
        except OSError:
            continue  # the engine has just replaced it
        total += status.st_size
        if (match := prefix_files.NAME.fullmatch(file.name)) and match[4] == "block":
            nodes.add(match[1])
            parents.add(match[2])
            used = max(used, status.st_mtime)
    return Kept(_model(folder), len(nodes - parents), total, used)


def _model(folder: Path) -> str:
    try:
        return str(json.loads((folder / prefix_files.ABOUT).read_text("utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return folder.name


def _ago(used: float, now: float) -> str:
    if not used:
        return "never"
    seconds = now - used
    if seconds < 120:
        return "just now"
    for length, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"
