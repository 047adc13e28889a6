"""What of ours lies on this machine, and its removal. Everything is known by name; a folder goes when it is empty.

Folders can be configured to be anywhere, somebody's home even: so nothing is ours only because of where it lies, nor
because it has a name as common as "global" or "poetry.lock". A symbolic link is removed, and never followed.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from shim.claude_code.install import occupied
from shim.commands.logs.log_reader import FILES
from sidecar.shared import config, prefix_files
from sidecar.shared.config import Config

INSIDE = {
    "claude-code": ("[0-9]*.[0-9]*.[0-9]*", "install.lock"),
    "global": ("token", "state.json", "journal.json", "lock", "life.lock", "*.part"),
    prefix_files.FOLDERS: (f"{prefix_files.ABOUT}*", "findings.json*", "*.place*", "*.safetensors*", "*.part"),
}
"""What is in a folder of ours that may be where others have one of that name."""


class Place(NamedTuple):
    """A folder, and what in it is ours."""

    what: str
    folder: Path
    names: tuple[str, ...]
    """Patterns of names."""


class Belonging(NamedTuple):
    """A file, a folder or a link that is ours."""

    what: str
    path: Path
    bytes: int

    @property
    def is_link(self) -> bool:
        return self.path.is_symlink()


def places(settings: Config, run: Path) -> list[Place]:
    """Where to look; `run` is the run directory."""
    cache = config.scratch().parent
    prefixes = dict.fromkeys([cache / "prefixes", *([settings.prefixes] if settings.prefixes else [])])
    data, logs = settings.data.absolute(), settings.logs.absolute()
    return [
        Place("Claude Code", data, ("claude-code",)),
        Place("global mode", data, ("global",)),
        Place("measured speeds", data, ("speeds.json", "speeds.[0-9]*")),
        *(Place("what has been read", folder, (prefix_files.FOLDERS,)) for folder in prefixes),
        Place("compiled kernels", cache, ("kernels",)),
        Place("compiled kernels", run, ("kernels",)),
        Place("logs", logs, tuple(f"{log}{end}" for log in FILES for end in ("", ".[0-9]", ".part"))),
        Place(
            "sockets and locks", run, ("socket", "socket.[0-9]*", "life.lock", "spawn.lock", "claude-settings-*.json")
        ),
    ]


def configuration() -> Place:
    """What the user has written, or had us write."""
    file = config.config_file()
    return Place("configuration", file.parent, (file.name, f".{file.name}.[0-9]*"))


def found(looked: Iterable[Place]) -> list[Belonging]:
    """What there is, with its size on disk."""
    return [
        Belonging(place.what, path, size(path))
        for place in looked
        for path in ([place.folder] if place.folder.is_symlink() else _matching(place))
    ]


def size(path: Path) -> int:
    """Bytes, links not followed and hard links counted once; what cannot be read counts nothing."""
    if path.is_dir() and not path.is_symlink():
        return occupied(path)
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def remove(belongings: Iterable[Belonging]) -> None:
    """Remove them; raises OSError."""
    for each in belongings:
        if each.is_link or not each.path.is_dir():
            each.path.unlink(missing_ok=True)
        else:
            shutil.rmtree(each.path)


def tidy(looked: Iterable[Place]) -> list[Path]:
    """Remove the folders that are empty now, and the ones called claude-local that held them; returns those that hold
    something that is not ours."""
    kept = []
    for folder in dict.fromkeys(place.folder for place in looked):
        for each in _upwards(folder):
            try:
                os.rmdir(each)
            except FileNotFoundError:
                continue
            except OSError:
                if each.is_dir() and not each.is_symlink() and any(each.iterdir()):
                    kept.append(each)
                break
    return [folder for folder in dict.fromkeys(kept) if folder.is_dir()]


def _matching(place: Place) -> Iterator[Path]:
    # A link to a folder is found by its own name, and what lies behind it is not looked at.
    for name in place.names:
        for path in sorted(place.folder.glob(name)):
            inside = INSIDE.get(name)
            yield from _ours_of(path, inside) if inside and path.is_dir() and not path.is_symlink() else [path]


def _ours_of(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The folder itself if all in it is ours, else what of it is."""
    every = sorted(folder.iterdir())
    ours = [each for each in every if any(fnmatchcase(each.name, name) for name in names)]
    return [folder] if ours == every else ours


def _upwards(folder: Path) -> list[Path]:
    """The folder, then its parent if that is named after us."""
    return [folder, *([folder.parent] if folder.parent.name == "claude-local" else [])]
