"""Files that are asked about: their text, with their name, as a part of the question."""

import re
from pathlib import Path

from shim.errors import DATA, NO_INPUT, Failure

LARGEST = 32_000_000
"""Bytes: what the API takes at most, and more than any window holds."""


def read(path: str) -> str:
    """The text of a file; raises Failure where there is none."""
    if not path:
        raise Failure("which file? For example: /file notes.txt", NO_INPUT)
    try:
        with Path(path).expanduser().open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}", NO_INPUT) from None
    if len(data) > LARGEST:
        raise Failure(f"{path} has more than {LARGEST // 1_000_000} MB, which is more than a model can read", DATA)
    text = decoded(data)
    if text is None:
        raise Failure(f"{path} is not a text: only text can be read here", DATA)
    return quoted(Path(path).name, text)


def quoted(name: str, text: str) -> str:
    """As people quote a file to a model; the fence is longer than any in it. Pure."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{name}:\n{fence}\n{text.rstrip()}\n{fence}"


def decoded(data: bytes) -> str | None:
    """The text in a file's bytes; None where it is no text."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return None if b"\0" in data else data.decode("utf-8-sig", "replace")
