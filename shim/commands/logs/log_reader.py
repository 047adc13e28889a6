"""The log files as one: their entries in the order of time, and what is added to them, also when they are put aside.

Knows how the three programs begin a line, and of `sidecar.shared.log_files` and the relay that a log becomes NAME.1
either by being copied and emptied or by being renamed.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

FILES = ("sidecar.log", "relay.log")
SOURCES = ("sidecar", "engine", "relay")
"""The engine writes into the sidecar's log."""

STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:,\d{3})?) (\S+) ?(.*)")


class Line(NamedTuple):
    """One line of a log. Lines of a traceback have the time and the source of what they belong to."""

    stamp: str
    source: str
    text: str
    """Without time and source."""
    goes_on: bool = False
    """Whether it belongs to the line before."""


class Reader:
    """Reads the lines of one file, in order."""

    def __init__(self, file: str) -> None:
        self._source = file.partition(".")[0]
        self._last = ("", self._source)

    def read(self, lines: Iterable[str]) -> Iterator[Line]:
        for text in lines:
            if match := STAMP.fullmatch(text):
                stamp, word, rest = match.groups()
                if self._source == "relay":
                    self._last, rest = (stamp, "relay"), f"{word} {rest}"
                else:
                    self._last = stamp, "engine" if word == "engine" else "sidecar"
                yield Line(*self._last, rest)
            else:
                yield Line(*self._last, text, goes_on=True)


def merged(files: Iterable[Iterable[Line]]) -> list[Line]:
    """In the order of time; what belongs together stays together."""
    return sorted((line for lines in files for line in lines), key=lambda line: line.stamp)


def written(folder: Path) -> list[Line]:
    """All that there is."""
    return merged(Reader(name).read(_text(folder / name)) for name in FILES)


def _text(file: Path) -> Iterator[str]:
    """A log's lines, those that were put aside first."""
    numbered = sorted(file.parent.glob(f"{file.name}.[0-9]"), reverse=True)
    for each in [*numbered, file]:
        try:
            yield from each.read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            continue  # put aside this very moment, or never there


class Tail:
    """What is added to one log, each line once, whichever way it is put aside in between."""

    def __init__(self, file: Path) -> None:
        """From its present end on."""
        self._path = file
        self._file: BinaryIO | None = None
        self._begun = b""
        self._reader = Reader(file.name)
        self._aside = self._status_aside()
        if self._open() and self._file:
            self._file.seek(0, os.SEEK_END)

    def more(self) -> list[Line]:
        """The lines that were completed since the last call."""
        *lines, self._begun = (self._begun + self._added()).split(b"\n")
        return [*self._reader.read(line.decode("utf-8", "replace") for line in lines)]

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def _added(self) -> bytes:
        if self._file is None:
            return self._file.read() if self._open() and self._file else b""
        if self._was_emptied(self._file):
            return self._rest_of_copy(self._file.tell()) + self._from_start(self._file)
        data = self._file.read()
        if not self._is_same(self._file):
            self.close()
            self._aside = self._status_aside()
            data += self._added()
        return data

    def _open(self) -> bool:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            return False
        return True

    def _was_emptied(self, file: BinaryIO) -> bool:
        """Whether there is a new copy beside it. Until the file is smaller than that, it has not been emptied yet."""
        aside = self._status_aside()
        if aside is None or (self._aside and os.path.samestat(aside, self._aside)) or not self._is_same(file):
            return False
        if os.fstat(file.fileno()).st_size >= aside.st_size:
            return False
        self._aside = aside
        return True

    def _status_aside(self) -> os.stat_result | None:
        try:
            return os.stat(f"{self._path}.1")
        except FileNotFoundError:
            return None

    def _rest_of_copy(self, position: int) -> bytes:
        """What was written after our last look and before the file was copied."""
        with Path(f"{self._path}.1").open("rb") as copy:
            copy.seek(position)
            return copy.read()

    @staticmethod
    def _from_start(file: BinaryIO) -> bytes:
        file.seek(0)
        return file.read()

    def _is_same(self, file: BinaryIO) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False
