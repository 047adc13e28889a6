"""What becomes of the text of Claude Code's settings.json. Pure, from bytes to bytes.

Ours are a few keys, each a path into the JSON object. Everything else is the user's and passes through as it is.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

Path = tuple[str, ...]
"""Keys from the outermost object inwards."""

Keys = Mapping[Path, Any]
"""What is set where; MISSING = nothing is there."""

Table = dict[str, Any]


class _Missing:
    """Equal to nothing but itself, and no JSON."""


MISSING = _Missing()


class Unreadable(Exception):
    """The text is no settings; says why."""


def parse(text: bytes | None) -> Table:
    """The settings in a file's bytes; None, for a file that is not there, has none. Raises Unreadable."""
    if text is None:
        return {}
    if not text.strip():
        raise Unreadable("it is empty (remove it, or write {} into it)")
    try:
        table = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON ({error})") from None
    if not isinstance(table, dict):
        raise Unreadable("it is not a JSON object")
    return table


def put(text: bytes | None, keys: Keys) -> bytes:
    """The text with `keys` set; raises Unreadable where something that is no object is in the way."""
    table = parse(text)
    for path, value in keys.items():
        _set(table, path, value)
    return render(table, text)


def take(text: bytes, ours: Mapping[Path, list[Any]], before: bytes | None) -> bytes:
    """The text with each of our keys as it was `before`, if it still has one of the values that we gave it."""
    table, original = parse(text), parse(before)
    for path, values in ours.items():
        if get(table, path) in values:
            _set(table, path, get(original, path))
            _prune(table, path[:-1], original)
    return text if table == parse(text) else render(table, text)


def changes(old: bytes | None, new: bytes | None) -> dict[Path, Any]:
    """What somebody who made `new` of `old` has changed: the innermost keys whose values differ."""
    return dict(_changes(parse(old), parse(new), ()))


def has(text: bytes | None, keys: Keys) -> bool:
    """Whether each key has its value in the text; raises Unreadable."""
    table = parse(text)
    return all(get(table, path) == value for path, value in keys.items())


def get(table: Table, path: Path) -> Any:
    """The value at a path, or MISSING."""
    value: Any = table
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def render(table: Table, like: bytes | None) -> bytes:
    """JSON that is indented, and ended, as the text that it replaces; by two spaces, as the client does, if that was
    not."""
    indent = re.search(rb'\{\r?\n([ \t]+)"', like or b"")
    text = json.dumps(table, indent=indent[1].decode() if indent else 2, ensure_ascii=False)
    try:
        written = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can spell
        written = json.dumps(table, indent=2).encode()
    return written + (b"\n" if like is None or like.endswith(b"\n") else b"")


def _set(table: Table, path: Path, value: Any) -> None:
    *way, last = path
    for key in way:
        if not isinstance(table.get(key, {}), dict):
            raise Unreadable(f"its {key!r} is not an object")
        if value is MISSING and key not in table:
            return
        table = table.setdefault(key, {})
    if value is MISSING:
        table.pop(last, None)
    else:
        table[last] = value


def _prune(table: Table, path: Path, original: Table) -> None:
    """Remove an object that has become empty and was not there before us."""
    if path and get(table, path) == {} and get(original, path) is MISSING:
        _set(table, path, MISSING)


def _changes(old: Table, new: Table, path: Path) -> Iterator[tuple[Path, Any]]:
    for key in {**old, **new}:
        one, other = old.get(key, MISSING), new.get(key, MISSING)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _changes(one, other, (*path, key))
        elif one is MISSING and isinstance(other, dict) and other:
            yield from _changes({}, other, (*path, key))  # another may have made the same object meanwhile
        elif one is MISSING or other is MISSING or one != other:
            yield (*path, key), other


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is none of JSON's numbers")


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)  # would be written as Infinity, which is no JSON
