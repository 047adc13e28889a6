"""What settings.json was before us and what we have made of it: kept on disk before anything is done, so that a kill at
any moment leaves a way back. Knows the file of the journal and nothing of how settings are replaced.
"""

import base64
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from shim.errors import IO_ERROR, Failure
from shim.global_mode import settings_edit
from shim.global_mode.settings_edit import Keys


class Journal(NamedTuple):
    """All of it. `None` for a text means that there is no file."""

    path: str
    """The settings file, symbolic links resolved."""
    before: bytes | None
    """Its text without us."""
    afters: tuple[str, ...] = ()
    """Digests of all that we have made of `before`."""
    ours: dict[settings_edit.Path, list[Any]] = {}  # noqa: RUF012  # never changed in place
    """Our keys, and every value that we have given them."""
    made_folder: bool = False
    """Whether the folder was not there before us."""
    base: bytes | None = None
    """While two files change places: the text that is being replaced."""
    put: str = ""
    """And the digest of the one that takes its place."""

    def without_us(self, text: bytes | None) -> bytes | None:
        """What the file would be if we had never been there; raises Unreadable."""
        if text is None or text == self.before:
            return text
        if digest(text) in self.afters:
            return self.before
        return settings_edit.take(text, self.ours, self.before)

    def with_keys(self, plain: bytes | None, keys: Keys) -> tuple[Self, bytes]:
        """The journal once `keys` are set in `plain`, and the text to write; raises Unreadable."""
        after = settings_edit.put(plain, keys)
        ours = {path: self.ours.get(path, []) for path in {**self.ours, **keys}}
        for path, value in keys.items():
            ours[path] = [*(each for each in ours[path] if each != value), value]
        known = self.afters if plain == self.before else ()
        afters = known if digest(after) in known else (*known, digest(after))
        return self._replace(before=plain, afters=afters, ours=ours), after

    def is_ours(self, text: bytes | None) -> bool:
        """Whether each of our keys has the value that it was given last."""
        try:
            return bool(self.ours) and settings_edit.has(text, {path: each[-1] for path, each in self.ours.items()})
        except settings_edit.Unreadable:
            return False

    def save(self, file: Path) -> None:
        """Write it, whole or not at all, and through to the disk."""
        table = self._asdict()
        table["before"], table["base"] = encode(self.before), encode(self.base)
        table["ours"] = [[path, values] for path, values in self.ours.items()]
        write(file, json.dumps(table).encode())

    @classmethod
    def load(cls, file: Path) -> Self | None:
        """The journal on disk, or None; raises Failure."""
        try:
            table = json.loads(file.read_bytes())
            table["before"], table["base"] = decode(table["before"]), decode(table["base"])
            table["ours"] = {tuple(path): values for path, values in table["ours"]}
            return cls(**{**table, "afters": tuple(table["afters"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            advice = f"Take what names 127.0.0.1 or {file.parent} out of your settings.json, and remove {file}"
            raise Failure(f"{file} cannot be read ({error}). {advice}", IO_ERROR) from None


def digest(text: bytes | None) -> str:
    return hashlib.sha256(text).hexdigest() if text is not None else ""


def encode(text: bytes | None) -> str | None:
    return None if text is None else base64.b64encode(text).decode()


def decode(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def write(file: Path, text: bytes, mode: int = 0o600) -> None:
    """Replace a file of our own, durably: nobody sees half of it, not even after the machine has stopped."""
    part = file.with_name(f"{file.name}.part")
    with suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as written:
        os.fchmod(descriptor, mode)
        written.write(text)
        written.flush()
        os.fsync(descriptor)
    os.replace(part, file)
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
