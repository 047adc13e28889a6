"""What has been read, on disk: a folder for each model, in it a file for each node of its tree.

A file says which node it is and whose child, and its name holds a checksum of all of it, so that a torn, foreign or
changed one is dropped and never trusted. Knows nothing of which nodes are worth keeping. MLX's own format (safetensors)
and MLX's one thread.
"""

import base64
import errno
import hashlib
import importlib.metadata
import json
import logging
import math
import os
import shutil
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import mlx.core as mx
import numpy as np

from sidecar.engine.cache.kv_layout import Slices, State
from sidecar.engine.cache.prefix_tree import Node, Tokens
from sidecar.shared.atomic_file import PART, put
from sidecar.shared.prefix_files import ABOUT, FOLDER, NAME

FORMAT = "1"
"""Raised when files of before cannot be read any more: they are dropped then."""

SHARE = 0.1
"""Of the free disk, at most."""
FILES = 4096
"""In a folder, at most: their index takes 1.5 KB of memory for each, and to look at all of them takes 0.25 s when the
model is loaded. They hold a million tokens at 256 each: only of short prompts to small models are there so many before
they weigh too much."""
AGE_S = 30 * 86400.0
"""Not used for so long: dropped."""
TOUCH_S = 60.0
"""How exactly a file knows when it was last used."""
COSTLY = 256 << 10
"""Bytes of a token in 16 bit from which on keys and values are written in 8 bit: Phi-3 takes 393,216 (4.7 GB for
12,000 tokens, 2.65 GB in 8 bit), Llama-3.2-3B 114,688."""

log = logging.getLogger(__name__)


class Broken(Exception):
    """A file that cannot be trusted; the text says why."""


class Entry(NamedTuple):
    """A file as its header describes it."""

    name: str
    digest: bytes
    parent: bytes
    start: int
    tokens: Tokens
    used: float
    """When, in seconds since the epoch."""


class Disk:
    """One model's folder. Files may vanish at any time; whoever writes the same one last wins."""

    def __init__(self, folder: Path, fingerprint: bytes, limit: int, model: str = "", pack: bool | None = None) -> None:
        """`limit`: bytes of all its files together, which the owner keeps to, as to `FILES`; `pack`: whether costly
        ones are written in 8 bit, by default where a GPU does it: a CPU takes a second for a piece of Phi-3. Raises
        OSError when the folder cannot be used."""
        self._pack = mx.default_device() == mx.gpu if pack is None else pack
        self.folder = folder
        self.fingerprint = fingerprint
        self.limit = limit
        self.writable = True
        self.used = 0
        """Bytes of all files."""
        self._about = json.dumps({"model": model, "format": FORMAT})
        self._files: dict[str, int] = {}
        self._touched: dict[str, float] = {}
        self._prepare()

    @property
    def count(self) -> int:
        """Files."""
        return len(self._files)

    def holds_over(self, part: float = 1.0) -> bool:
        """Whether there is more than this part of what there may be, in bytes or in files."""
        return self.used > part * self.limit or self.count > part * FILES

    def scan(self, now: float) -> list[Entry]:
        """Every file that can be trusted as far as its header goes, parents first. The others are deleted."""
        entries = []
        for found in os.scandir(self.folder):
            if not NAME.fullmatch(found.name):
                if found.name.endswith((PART, ".safetensors")):
                    self._unlink(found.name)
                continue
            try:
                entry = _examine(Path(found.path), self.fingerprint)
                if now - entry.used > AGE_S:
                    raise Broken("not used for a month")
                self._files[entry.name] = found.stat(follow_symlinks=False).st_size
                entries.append(entry)
            except (Broken, OSError) as error:
                log.info("a cached prefix is dropped: %s: %s", found.name, error)
                self._unlink(found.name)
        self.used = sum(self._files.values())
        # Of two in one place the longer one has taken the other's.
        return sorted(entries, key=lambda entry: (entry.start, -len(entry.tokens)))

    def write(self, node: Node) -> str | None:
        """Write a node with its payload; its file's name, or None when the disk is full or must not be written to."""
        assert node.parent is not None
        arrays, plain = _arrays(node, self._pack)
        metadata = {
            "format": FORMAT,
            "fingerprint": self.fingerprint.hex(),
            "parent": node.parent.digest.hex(),
            "start": str(node.start),
            "tokens": base64.b64encode(node.tokens.tobytes()).decode(),
            "plain": json.dumps(plain),
        }
        part = self.folder / f"{node.digest.hex()}.{os.getpid()}{PART}"
        try:
            self._prepare()
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                checked = _Checked(file)
                mx.save_safetensors(cast(BinaryIO, checked), arrays, metadata)
                size = file.tell()
            kind = "state" if node.is_mark else "block"
            name = f"{node.digest.hex()}-{node.parent.digest.hex()}-{checked.sum:08x}.{kind}.safetensors"
            os.rename(part, self.folder / name)
        except OSError as error:
            self.writable = error.errno == errno.ENOENT  # the folder has just been cleared away
            full = " (the disk is full)" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
            log.warning("what is read is kept in memory alone from now on: %s%s", error, full)
            with suppress(OSError):
                part.unlink()
            return None
        self.used += size - self._files.get(name, 0)
        self._files[name] = size
        return name

    def read(self, name: str, leaves: int) -> Slices | State:
        """A node's payload, lazy, after a look at every byte of it. `leaves`: layers that can be cut. Raises Broken."""
        path = self.folder / name
        try:
            entry = _examine(path, self.fingerprint)
            if _checksum(path) != int(name.split(".")[0].rsplit("-", 1)[1], 16):
                raise Broken("its checksum is another")
            arrays, metadata = cast(
                tuple[dict[str, mx.array], dict[str, str]], mx.load(str(path), return_metadata=True)
            )
            return _payload(arrays, json.loads(metadata["plain"]), leaves, is_mark=not len(entry.tokens))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise Broken(str(error)) from None

    def touch(self, name: str, now: float) -> None:
        """It is used."""
        if now - self._touched.get(name, 0.0) > TOUCH_S:
            self._touched[name] = now
            with suppress(OSError):
                os.utime(self.folder / name, (now, now))

    def remove(self, name: str) -> None:
        self.used -= self._files.pop(name, 0)
        self._touched.pop(name, None)
        self._unlink(name)

    def _prepare(self) -> None:
        """Make the folder, ours alone: it may have been cleared away."""
        if not self.folder.is_dir():
            self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            put(self.folder / ABOUT, self._about.encode())
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(errno.EPERM, "not a directory of ours alone", str(self.folder))

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            (self.folder / name).unlink()


def open_disk(place: Path, most: int, model: Path, name: str, layout: str) -> Disk | None:
    """The folder of a model under `place`, which holds at most `most` bytes and a share of the free disk for all
    models together; None, and a line in the log, where nothing can be kept."""
    mark = fingerprint(model, layout)
    folder = place / mark.hex()
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        others = {each: _weigh(each) for each in place.iterdir() if FOLDER.fullmatch(each.name) and each != folder}
        free = shutil.disk_usage(place).free + sum(others.values()) + _weigh(folder)
        limit = min(most, int(free * SHARE))
        for other in sorted(others, key=_last_use):
            if time.time() - _last_use(other) > AGE_S or sum(others.values()) > limit // 2:
                shutil.rmtree(other, ignore_errors=True)
                del others[other]
        return Disk(folder, mark, limit - sum(others.values()), name)
    except OSError as error:
        log.warning("what is read is kept in memory alone: %s", error)
        return None


def fingerprint(model: Path, layout: str) -> bytes:
    """Of all that decides what keys and values are: the files of the model, how its caches are made up, and the code.

    The template is not in it: it shows in the tokens. Of the weights' files it is names, sizes and times, since two
    tunings of one model differ in nothing else that is quickly read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (FORMAT, importlib.metadata.version("mlx-lm"), layout):
        digest.update(part.encode() + b"\0")
    digest.update((model / "config.json").read_bytes())
    for file in sorted(model.glob("*.safetensors")):
        real = file.resolve()
        status = real.stat()
        digest.update(f"{file.name}\0{real.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.digest()


class _Checked:
    """A file as MLX writes to it, with the checksum of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = 0
        self.seek, self.tell = file.seek, file.tell

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        self.sum = zlib.crc32(data, self.sum)
        return self._file.write(data)


def _examine(path: Path, fingerprint: bytes) -> Entry:
    """What a file's header says; raises Broken, or OSError."""
    match = NAME.fullmatch(path.name)
    assert match
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        header, length = _header(file, status.st_size)
    try:
        metadata = header.pop("__metadata__")
        end = max((each["data_offsets"][1] for each in header.values()), default=0)
        if metadata["format"] != FORMAT or metadata["fingerprint"] != fingerprint.hex():
            raise Broken("it is another model's or version's")
        if status.st_size != length + end or not stat.S_ISREG(status.st_mode):
            raise Broken("it is not whole")
        tokens = np.frombuffer(base64.b64decode(metadata["tokens"]), np.int32)
        parent, start = bytes.fromhex(metadata["parent"]), int(metadata["start"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Broken(f"its header is none of ours ({error})") from None
    if parent.hex() != match[2] or (match[4] == "state") != (not len(tokens)):
        raise Broken("its name and its header differ")
    return Entry(path.name, bytes.fromhex(match[1]), parent, start, tokens, status.st_mtime)


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """A safetensors header and where it ends."""
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= size - 8:
        raise Broken("it is not whole")
    try:
        header = json.loads(file.read(length))
    except ValueError:
        raise Broken("it has no header") from None
    if not isinstance(header, dict):
        raise Broken("it has no header")
    return header, 8 + length


def _checksum(path: Path) -> int:
    total = 0
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            total = zlib.crc32(data, total)
    return total


def _arrays(node: Node, pack: bool) -> tuple[dict[str, mx.array], Any]:
    """A payload by names, and what is not an array of it."""
    if isinstance(node.payload, State):
        return {str(index): array for index, array in enumerate(node.payload.arrays)}, node.payload.plain
    arrays = {f"{leaf}.{index}": each for leaf, slices in enumerate(node.payload) for index, each in enumerate(slices)}
    width = sum(2 * each.size // each.shape[2] for each in arrays.values())
    if width < COSTLY or not pack:
        return arrays, None
    return dict(pair for name, array in arrays.items() for pair in _packed(name, array)), None


def _packed(name: str, array: mx.array) -> Iterator[tuple[str, mx.array]]:
    """In 8 bit, where that is possible."""
    group = math.gcd(array.shape[-1], 64)
    if group < 32 or array.dtype not in (mx.float16, mx.bfloat16, mx.float32):
        yield name, array
        return
    for part, value in zip("qsb", mx.quantize(array, group_size=group, bits=8), strict=True):
        yield f"{name}.{part}", value


def _payload(arrays: dict[str, mx.array], plain: Any, leaves: int, is_mark: bool) -> Slices | State:
    if is_mark:
        return State(tuple(arrays[str(index)] for index in range(len(arrays))), plain)
    slices: list[list[mx.array]] = [[] for _ in range(leaves)]
    for name in sorted({name[:-2] if name[-1] in "qsb" else name for name in arrays}, key=lambda name: name.split(".")):
        slices[int(name.split(".")[0])].append(arrays[name] if name in arrays else _unpacked(name, arrays))
    return tuple(map(tuple, slices))


def _unpacked(name: str, arrays: dict[str, mx.array]) -> mx.array:
    values, scales, biases = (arrays[f"{name}.{part}"] for part in "qsb")
    return mx.dequantize(values, scales, biases, group_size=4 * values.shape[-1] // scales.shape[-1], bits=8)


def _weigh(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    return sum(each.stat(follow_symlinks=False).st_size for each in os.scandir(folder))


def _last_use(folder: Path) -> float:
    return max((each.stat(follow_symlinks=False).st_mtime for each in os.scandir(folder)), default=0.0)
