"""One look at memory: what psutil sees, and what it does not (control groups, pressure, our own processes together).

Imports nothing of ours but the guard's plain values. Files in /proc and /sys stay open, since a look happens up to
four times a second: reading one again costs 2 to 7 µs, opening it 10 more. For the same reason the machine's own
figures are read here on Linux: psutil works out a dozen others with them, which was half of a look.
"""

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from sidecar.memory.guard import Level, Sample

STALLED = ((40.0, Level.CRITICAL), (10.0, Level.CAUTION))
"""Percent of the last ten seconds in which every task waited for memory, and the level that this means.

systemd-oomd begins to kill at 60 by default: we want to be out of the way before."""

WORTH_CLOSING = 20_000_000
"""Bytes: processes below this are not what fills a memory, and there are hundreds of them."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Probe:
    """Call it for a Sample; raises OSError or psutil.Error when it cannot see."""

    def __init__(
        self,
        limit: float = 0,
        ours: Callable[[], Iterable[int]] = lambda: (os.getpid(),),
        groups: "Sequence[Group] | None" = None,
    ) -> None:
        """`limit`: bytes that our processes may hold together, 0 = all there are; `ours`: their ids."""
        self._limit = limit
        self._ours = ours
        self._groups = own_groups() if groups is None else groups
        self._stalls = _stall_files(self._groups)
        self._machine = _machine()

    def __call__(self) -> Sample:
        available, total = machine = self._machine()
        for group in self._groups:
            if (limit := group.limit()) < machine.total:
                total = min(total, limit)
                available = min(available, group.available(limit))
        footprint = sum(map(process_bytes, self._ours()))
        if self._limit:
            total = min(total, int(self._limit))
        available = max(0, min(available, total - footprint))
        return Sample(available, total, footprint, self._pressure())

    def _pressure(self) -> Level:
        if sys.platform == "darwin":
            return kernel_level(_sysctl)
        return max((min(worst, stall_level(_read(file))) for file, worst in self._stalls), default=Level.SAFE)


class Machine(NamedTuple):
    """Bytes of the whole machine."""

    available: int
    total: int


def _machine(meminfo: Path = Path("/proc/meminfo")) -> Callable[[], Machine]:
    """What looks at the whole machine: psutil, where the kernel does not say the same in one file."""
    if sys.platform == "linux":
        file = _open(meminfo)
        if b"\nMemAvailable:" in _read(file):
            return lambda: _linux_machine(_read(file))
        os.close(file)  # a kernel before 3.14, for which psutil estimates
    return _psutil_machine


def _linux_machine(meminfo: bytes) -> Machine:
    """From lines like "MemAvailable:   8152424 kB"; raises ValueError for others."""
    total, available = (meminfo.index(name) + len(name) for name in (b"MemTotal:", b"\nMemAvailable:"))
    return Machine(*(1024 * int(meminfo[at : meminfo.index(b"kB", at)]) for at in (available, total)))


def _psutil_machine() -> Machine:
    memory = psutil.virtual_memory()
    return Machine(int(memory.available), int(memory.total))


def process_bytes(pid: int) -> int:
    """Memory of one process that nobody else shares, about; 0 when it is gone."""
    if sys.platform == "linux":
        try:
            with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
                _, resident, shared = file.read().split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return (int(resident) - int(shared)) * _PAGE
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def largest(ours: Iterable[int], count: int = 2) -> list[tuple[str, int]]:
    """The programs of others that hold most, as (name, bytes): what the user could close. Takes milliseconds, since
    only what is worth closing is asked for its name."""
    held: dict[str, int] = {}
    for pid in set(psutil.pids()).difference(ours):
        try:
            if (size := process_bytes(pid)) >= WORTH_CLOSING:
                name = psutil.Process(pid).name()
                held[name] = held.get(name, 0) + size
        except (psutil.Error, OSError):
            continue  # gone meanwhile, or another user's
    return sorted(held.items(), key=lambda each: -each[1])[:count]


# Control groups (Linux)


class Group:
    """One control group of version 1 or 2 that may limit us."""

    def __init__(self, folder: Path) -> None:
        limits, usage, reclaimable = ["memory.limit_in_bytes"], "memory.usage_in_bytes", b"\ntotal_inactive_file "
        if (folder / "memory.max").exists():
            limits, usage, reclaimable = ["memory.max", "memory.high"], "memory.current", b"\ninactive_file "
        self.folder = folder
        self._limits = [_open(folder / name) for name in limits if (folder / name).exists()]
        self._usage = _open(folder / usage)
        self._statistics = _open(folder / "memory.stat")
        self._reclaimable = reclaimable

    def limit(self) -> int:
        """Bytes; version 1 says "none" with a huge number, version 2 with a word."""
        values = [_read(file).strip() for file in self._limits]
        return min((int(value) for value in values if value != b"max"), default=sys.maxsize)

    def available(self, limit: int) -> int:
        """Bytes below the limit, counting file pages not used lately, which the kernel takes back first."""
        _, _, rest = _read(self._statistics).partition(self._reclaimable)
        return limit - int(_read(self._usage)) + int(rest.partition(b"\n")[0] or 0)


def own_groups(proc: Path = Path("/proc/self")) -> list[Group]:
    """The control groups that this process is in and everything above them; empty where there are none."""
    try:
        mounts = (proc / "mountinfo").read_text().splitlines()
        memberships = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return []
    groups = []
    for mount in mounts:
        # "36 35 98:0 /root /mount options - type source superoptions": proc(5)
        fields, _, described = mount.partition(" - ")
        root, place = fields.split()[3:5]
        kind, _, options = described.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(" ")[-1].split(",")):
            path = _membership(memberships, "" if kind == "cgroup2" else "memory")
            groups += _up_the_tree(Path(place), path.removeprefix(root.rstrip("/")))
    return groups


def _membership(lines: list[str], controller: str) -> str:
    """The group's path from lines like "4:memory:/a/b" (version 1) or "0::/a/b"."""
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"


def _up_the_tree(mount: Path, path: str) -> list[Group]:
    folder = mount / path.strip("/")
    if ".." in folder.parts or not folder.is_dir():
        folder = mount  # a container that sees its own group as the root, but its name from outside
    found = []
    while folder == mount or mount in folder.parents:
        if any((folder / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            found.append(Group(folder))
        folder = folder.parent
    return found


# Pressure


def stall_level(text: bytes) -> Level:
    """What a pressure file means (Linux, PSI): its line "full avg10=1.23 avg60=…"."""
    _, _, rest = text.partition(b"full avg10=")
    stalled = float(rest.partition(b" ")[0] or 0)
    return next((level for line, level in STALLED if stalled >= line), Level.SAFE)


def kernel_level(sysctl: Callable[[bytes], int]) -> Level:
    """macOS's own level: 1 normal, 2 warning, 4 critical (dispatch/source.h)."""
    value = sysctl(b"kern.memorystatus_vm_pressure_level")
    return {2: Level.CAUTION, 4: Level.CRITICAL}.get(value, Level.SAFE)


def _sysctl(name: bytes) -> int:
    """An integer that the macOS kernel publishes; raises OSError."""
    library = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    value, size = ctypes.c_int(0), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    if library.sysctlbyname(name, ctypes.byref(value), ctypes.byref(size), None, 0):
        raise OSError(ctypes.get_errno(), f"sysctl {name.decode()}")
    return value.value


def _stall_files(groups: Sequence[Group]) -> list[tuple[int, Level]]:
    """The pressure files that this kernel has, each with the worst that it may say."""
    # The whole machine's stalls may be those of one container in its own limit; our own group's are ours.
    places = [(Path("/proc/pressure/memory"), Level.CAUTION)]
    places += [(group.folder / "memory.pressure", Level.CRITICAL) for group in groups[:1]]
    found = []
    for place, worst in places:
        try:
            file = _open(place)
            _read(file)
        except OSError:  # a kernel without PSI, or with it switched off
            continue
        found.append((file, worst))
    return found


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _read(file: int) -> bytes:
    return os.pread(file, 16384, 0)
