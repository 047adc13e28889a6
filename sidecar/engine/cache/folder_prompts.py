"""What agents begin with in each folder, so that it can be made ready before their first request: tokens, nothing else.

A folder is known by a key that says nothing of its name. Kept in memory and, where prefixes go to disk too, in a file
beside them, which is as good as they are and no more: a torn one is no loss.
"""

import hashlib
import logging
import re
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sidecar.shared.atomic_file import put

PLACES = 64
"""Folders remembered: 80 KB each, for a prompt of 20,000 tokens."""
KEY = re.compile(r"[0-9a-f]{16,64}")
_SUM = 16
"""Bytes of the checksum at a file's beginning."""

log = logging.getLogger(__name__)


class Places:
    """The beginnings of one model's prompts. `disk`: the folder for its files; None = memory alone."""

    def __init__(self, disk: Path | None = None) -> None:
        self._disk = disk
        self._known: OrderedDict[str, NDArray[np.int32]] = OrderedDict()

    def learn(self, place: str, tokens: list[int]) -> None:
        """An agent's prompt in this folder begins with these tokens."""
        if not KEY.fullmatch(place) or not tokens:
            return
        if self.find(place) != tokens:
            self._known[place] = np.asarray(tokens, "<i4")
            self._write(place, self._known[place].tobytes())
        self._known.move_to_end(place)
        while len(self._known) > PLACES:
            self._known.popitem(last=False)

    def find(self, place: str) -> list[int] | None:
        """What was learnt last of a folder."""
        if not KEY.fullmatch(place):
            return None
        if place not in self._known and (tokens := self._read(place)) is not None:
            self._known[place] = tokens
        known = self._known.get(place)
        return None if known is None else known.tolist()

    def clear(self) -> None:
        """Forget all of them, on disk too."""
        self._known.clear()
        for file in self._files():
            with suppress(OSError):
                file.unlink()

    def _file(self, folder: Path, place: str) -> Path:
        return folder / f"{place}.place"

    def _files(self) -> list[Path]:
        return list(self._disk.glob("*.place")) if self._disk else []

    def _read(self, place: str) -> NDArray[np.int32] | None:
        if self._disk is None:
            return None
        try:
            data = self._file(self._disk, place).read_bytes()
        except OSError:
            return None
        total, body = data[:_SUM], data[_SUM:]
        if not body or len(body) % 4 or _sum(body) != total:
            log.warning("what was known of a folder is torn, and dropped")
            return None
        return np.frombuffer(body, "<i4")

    def _write(self, place: str, body: bytes) -> None:
        if self._disk is None:
            return
        try:
            self._disk.mkdir(mode=0o700, exist_ok=True)  # it may have just been cleared away
            put(self._file(self._disk, place), _sum(body) + body)
            by_age = sorted(self._files(), key=lambda file: file.stat().st_mtime)
            for old in by_age[:-PLACES]:
                old.unlink()
        except OSError as error:
            log.warning("what a folder's prompts begin with is known until this engine ends: %s", error)


def _sum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_SUM).digest()
