"""Claude Code as the command: the settings file that makes it come to us, whatever else it has been told.

Its own settings beat the shell's environment, and a file given with --settings beats both. So a
private file repeats our variables; what the user gave with --settings is merged into it, and nothing of the user's is
ever written.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim import command_line
from shim.claude_code import status_line
from shim.claude_code.environment import ELSEWHERE
from shim.errors import NO_INPUT, USAGE, Failure
from sidecar.shared.run_directory import RunDirectory

PREFIX = "claude-settings-"

RESUME = "CLAUDE_CODE_RESUME_HINT_COMMAND"
"""Names the program in the line that Claude Code prints at its end for going on with a conversation. Read from its
environment, not from settings; without it, the line names our settings file, which is gone by then."""

FRESH = 60.0
"""Seconds in which a file may be without its lock."""


class Settings:
    """The settings file of one invocation: reserved before the relay is forked, written when the limits are known."""

    def __init__(self, arguments: list[str], directory: RunDirectory, folder: str = "") -> None:
        """Raises Failure when the user's own --settings cannot be read: before anything is started. `folder`: where
        the user is."""
        self._arguments, given = command_line.take_option("--settings", arguments)
        self._table = {} if given is None or is_past(given, directory.path) else read_settings(given)
        self._line = directory.line(os.getpid())
        self.has_line = status_line.is_wanted(self._table, self._arguments, folder, os.environ)
        """Whether the status line is ours to write."""
        sweep(directory.path)
        self._path = directory.path / f"{PREFIX}{os.getpid()}-{os.urandom(6).hex()}.json"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        # Shared with the relay by the fork: as long as either lives, no sweep may have it.
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    @property
    def held(self) -> tuple[str, int]:
        """The path, which the relay removes, and the descriptor, which it keeps."""
        return str(self._path), self._descriptor

    def arguments(self, added: dict[str, str], more: list[str]) -> list[str]:
        """Write the file; returns the command's arguments with it, and `more`, in front."""
        table = merge(self._table, added, wants_auto_mode(self._arguments))
        if self.has_line:
            table[status_line.KEY] = status_line.setting(self._line)
        with os.fdopen(os.dup(self._descriptor), "w", encoding="utf-8") as file:
            json.dump(table, file)
        return ["--settings", str(self._path), *more, *self._arguments]


def read_settings(given: str) -> dict[str, Any]:
    """The user's settings: a file's name, or the JSON itself. Raises Failure with one line."""
    if not given:
        raise Failure("--settings needs a file's name, or JSON", USAGE)
    inline = given.lstrip("\ufeff \t\r\n").startswith("{")
    what = "the JSON of --settings" if inline else given
    try:
        text = given.lstrip("\ufeff") if inline else decoded(Path(given).read_bytes())
        table = json.loads(text) if text.strip() else {}
    except OSError as error:
        raise Failure(f"--settings {given}: {error.strerror}", NO_INPUT) from None
    except (ValueError, RecursionError) as error:
        raise Failure(f"{what}: not JSON ({error})", USAGE) from None
    if not isinstance(table, dict):
        raise Failure(f"{what}: not a JSON object", USAGE)
    return table


def decoded(data: bytes) -> str:
    """A settings file as Claude Code reads it: with a byte-order mark or without, in UTF-16 as some editors write it,
    and letters that are none in either are not the end of it."""
    return data.decode(json.detect_encoding(data), "replace")


def is_past(given: str, directory: Path) -> bool:
    """Whether it is the file of an invocation of ours that has ended: out of a line that was copied."""
    path = Path(given)
    return path.parent == directory and path.name.startswith(PREFIX) and not path.exists()


def resumed(environment: Mapping[str, str]) -> dict[str, str]:
    """What makes `claude-local --resume ID` of the line that Claude Code prints at its end. A launcher that the user
    has named stays: it comes to us, or it would not have."""
    return {} if environment.get(RESUME) else {RESUME: "claude-local"}


def merge(table: dict[str, Any], added: dict[str, str], auto_mode: bool) -> dict[str, Any]:
    """The user's settings with ours. Ours win, in `env`, for our own names; everything else is the user's."""
    env, permissions = _table(table, "env"), _table(table, "permissions")
    merged = {**table, "env": {**env, **dict.fromkeys(ELSEWHERE, ""), **added}}
    # The safety check of auto mode runs on the vendor's servers: with us it can only stop the session.
    if not auto_mode and permissions.get("defaultMode") != "auto":
        merged["permissions"] = {"disableAutoMode": "disable", **permissions}
    return merged


def _table(table: dict[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def wants_auto_mode(arguments: list[str]) -> bool:
    """Whether the user asked for auto mode on the command line."""
    following = zip(arguments, [*arguments, ""][1:], strict=True)
    return any(
        word in ("--permission-mode=auto", "--enable-auto-mode") or (word, value) == ("--permission-mode", "auto")
        for word, value in following
    )


def sweep(directory: Path) -> None:
    """Remove the files of relays that were killed: those on which nobody holds the lock any more."""
    for path in directory.glob(f"{PREFIX}*.json"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A fresh one may be between its creation and its lock.
            if time.time() - os.fstat(descriptor).st_mtime > FRESH:
                path.unlink()
        except OSError:
            pass
        finally:
            os.close(descriptor)
