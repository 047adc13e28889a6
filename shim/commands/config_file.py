"""config.toml, changed as a careful person would: one line, and every other byte as it was.

An edit counts only if TOML reads the new text as the old table with that one key changed: whatever the lines look like
(a key inside a text of several lines, a value that goes on), nothing else can have been touched.
"""

import contextlib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from shim.errors import CANNOT_CREATE, CONFIG, Failure
from sidecar.shared import config

Value = str | int | float | bool


def change(key: str, value: Value | None) -> Path:
    """Set a key, or take it out (None); returns the file. Raises Failure, and ConfigError where the new settings would
    not be valid; the file is then as it was."""
    path = config.config_file()
    try:
        before = path.read_bytes().decode() if path.exists() else ""
        after = edited(before, key, value)
        config.check(after, {name: text for name, text in os.environ.items() if not name.startswith(config.PREFIX)})
        if after != before:
            write(path, after)
    except ValueError as error:
        raise Failure(f"{path}: {error}. Change {key} there by hand", CONFIG) from None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", CANNOT_CREATE) from None
    return path


def edited(text: str, key: str, value: Value | None) -> str:
    """The text with `key` set, or without it. Pure; raises ValueError where that cannot be done safely."""
    wanted = dict(tomllib.loads(text))
    wanted.pop(key, None)
    if value is not None:
        wanted[key] = value
    elif key not in tomllib.loads(text):
        return text
    for candidate in _candidates(text, key, value):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if tomllib.loads(candidate) == wanted:
                return candidate
    raise ValueError(f"the line of {key} is not understood")


def _candidates(text: str, key: str, value: Value | None) -> Iterator[str]:
    """Texts that may be it: each line that looks like the key's replaced, then a new line at the end or the top."""
    line = f"{key} = {literal(value)}" if value is not None else ""
    for match in re.finditer(rf"^[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=[^\r\n]*(\r?\n|\Z)", text, re.MULTILINE):
        before, old, after = text[: match.start()], match[0], text[match.end() :]
        if value is None:
            yield before + after
            continue
        yield f"{before}{line}{_comment(old) or match[1]}{after}"
    end = "\r\n" if "\r\n" in text else "\n"
    if value is not None:
        yield f"{text}{'' if not text or text.endswith(chr(10)) else end}{line}{end}"
        yield f"{line}{end}{text}"  # behind a table's head it would be a key of that table


def _comment(line: str) -> str:
    """The comment at the end of a line, with the space before it and the line's end; a # may be part of a value."""
    for match in re.finditer(r"[ \t]*#", line):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            tomllib.loads(line[: match.start()])
            return line[match.start() :]
    return ""


def literal(value: Value) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def write(path: Path, text: str) -> None:
    """Replace a file at once: whoever reads it, and whatever ends us, finds the old text or the new one."""
    target = Path(os.path.realpath(path))  # a link into somebody's dotfiles stays one
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
