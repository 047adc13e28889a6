"""One look at memory, over recorded files of both kinds of control group and the pressure files, and over the real."""

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from sidecar.memory import probe
from sidecar.memory.guard import Level
from sidecar.memory.probe import Group, Probe, kernel_level, largest, own_groups, process_bytes, stall_level

UNLIMITED = "9223372036854771712\n"


def nobody() -> tuple[int, ...]:
    """No processes: the one that runs the tests may hold more than a recorded group allows."""
    return ()


def version_1(folder: Path, limit: str, usage: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(limit)
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n")
    # The first three lines hide nothing: of a group with children, only the totals count.
    (folder / "memory.stat").write_text(f"cache 1\ninactive_file 7\nactive_file 2\ntotal_inactive_file {inactive}\n")


def version_2(folder: Path, limit: str, usage: int, inactive: int, high: str = "max") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.high").write_text(f"{high}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\nfile 9\ninactive_file {inactive}\nactive_file 2\n")


def proc(folder: Path, mount: str, cgroup: str) -> Path:
    (folder / "mountinfo").write_text(f"23 1 0:5 / / rw - ext4 /dev/vda rw\n{mount}")
    (folder / "cgroup").write_text(cgroup)
    return folder


def test_the_tightest_group_up_the_tree_counts(tmp_path: Path) -> None:
    mount = tmp_path / "cg"
    version_1(mount, UNLIMITED, 10**12, 0)
    version_1(mount / "outer", f"{10**9}\n", 900_000_000, 50_000_000)
    version_1(mount / "outer/inner", f"{2 * 10**9}\n", 1000, 0)
    place = proc(tmp_path, f"35 31 0:32 / {mount} rw - cgroup cgroup rw,memory\n", "9:cpu:/x\n4:memory:/outer/inner\n")
    groups = own_groups(place)
    assert [group.folder for group in groups] == [mount / "outer/inner", mount / "outer", mount]
    sample = Probe(ours=nobody, groups=groups)()
    assert sample.available == 150_000_000 and sample.total == 10**9


def test_version_2_has_a_soft_limit_too(tmp_path: Path) -> None:
    mount = tmp_path / "cg"
    mount.mkdir()
    version_2(mount / "user/session", "max", 400_000_000, 100_000_000, high="500000000")
    place = proc(tmp_path, f"35 31 0:32 / {mount} rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n", "0::/user/session\n")
    sample = Probe(ours=nobody, groups=own_groups(place))()
    assert sample.available == 200_000_000 and sample.total == 500_000_000


@pytest.mark.parametrize("name", ["/docker/4711", "/../../outside"])
def test_a_container_that_does_not_see_its_own_name_looks_at_its_root(tmp_path: Path, name: str) -> None:
    mount = tmp_path / "cg"
    version_2(mount, str(10**9), 250_000_000, 0)
    place = proc(tmp_path, f"35 31 0:32 / {mount} rw - cgroup2 cgroup2 rw\n", f"0::{name}\n")
    assert [group.available(group.limit()) for group in own_groups(place)] == [750_000_000]


def test_the_part_of_a_name_that_is_the_mounts_own_is_left_out(tmp_path: Path) -> None:
    mount = tmp_path / "cg"
    version_1(mount / "b", f"{10**9}\n", 0, 0)
    place = proc(tmp_path, f"35 31 0:32 /a {mount} rw - cgroup cgroup rw,memory\n", "4:memory:/a/b\n")
    assert own_groups(place)[0].folder == mount / "b"


def test_without_groups_there_is_the_machine(tmp_path: Path) -> None:
    assert own_groups(tmp_path) == []
    sample = Probe(groups=[])()
    memory = psutil.virtual_memory()
    assert sample.total == memory.total and abs(sample.available - memory.available) < memory.total // 4


def test_a_group_without_a_limit_changes_nothing(tmp_path: Path) -> None:
    version_2(tmp_path, "max", 10**12, 0)
    assert Probe(groups=[Group(tmp_path)])().total == psutil.virtual_memory().total


MEMINFO = b"MemTotal:       24689764 kB\nMemFree:         1200588 kB\nMemAvailable:   22331104 kB\nBuffers:  33 kB\n"


@pytest.mark.parametrize(("platform", "read_here"), [("linux", True), ("darwin", False)])
def test_the_machine_is_read_here_where_its_kernel_says_what_is_available(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, read_here: bool
) -> None:
    (tmp_path / "meminfo").write_bytes(MEMINFO)
    monkeypatch.setattr(probe.sys, "platform", platform)  # type: ignore[attr-defined]
    machine = probe._machine(tmp_path / "meminfo")()
    assert (machine == (1024 * 22_331_104, 1024 * 24_689_764)) is read_here
    (tmp_path / "meminfo").write_bytes(MEMINFO.replace(b"MemAvailable", b"MemUnknown"))
    assert probe._machine(tmp_path / "meminfo")().total == psutil.virtual_memory().total


def test_what_the_kernel_says_is_what_psutil_says() -> None:
    here, there = probe._machine()(), psutil.virtual_memory()
    assert here.total == there.total and abs(here.available - there.available) < there.total // 4


def test_our_own_limit_counts_all_our_processes() -> None:
    hold = "import sys; held = bytearray(80_000_000); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin and other.stdout
    other.stdout.readline()
    sample = Probe(10**9, lambda: (os.getpid(), other.pid), [])()
    assert sample.footprint > 80_000_000 and sample.total == 10**9
    assert sample.available <= 10**9 - sample.footprint
    other.communicate()
    assert process_bytes(other.pid) == 0


def test_the_largest_programs_of_others_are_named() -> None:
    found = largest({os.getpid()}, count=1000)
    sizes = [size for _, size in found]
    assert sizes == sorted(sizes, reverse=True)
    assert largest(psutil.pids(), 5) == []


@pytest.mark.parametrize(
    ("full", "level"), [(0.0, Level.SAFE), (9.99, Level.SAFE), (10.0, Level.CAUTION), (63.2, Level.CRITICAL)]
)
def test_stalls_become_levels(full: float, level: Level) -> None:
    text = f"some avg10=99.00 avg60=1.00 avg300=0.00 total=7\nfull avg10={full:.2f} avg60=0.00 avg300=0.00 total=0\n"
    assert stall_level(text.encode()) is level


@pytest.mark.parametrize(
    ("value", "level"), [(1, Level.SAFE), (2, Level.CAUTION), (4, Level.CRITICAL), (0, Level.SAFE)]
)
def test_macos_says_its_level_itself(value: int, level: Level) -> None:
    asked: list[bytes] = []
    answer: Callable[[bytes], int] = lambda name: (asked.append(name), value)[1]  # noqa: E731
    assert kernel_level(answer) is level
    assert asked == [b"kern.memorystatus_vm_pressure_level"]


def test_a_sysctl_is_read_as_the_kernel_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stub of the C library's call: there is none on Linux."""

    class Library:
        @staticmethod
        def sysctlbyname(name: bytes, value: ctypes.Array, size: ctypes.Array, new: None, length: int) -> int:
            if name != b"kern.known":
                ctypes.set_errno(2)
                return -1
            assert size._obj.value == 4 and new is None and length == 0  # type: ignore[attr-defined]
            value._obj.value = 4  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: Library)
    assert probe._sysctl(b"kern.known") == 4
    with pytest.raises(OSError, match=r"No such file|sysctl kern\.other"):
        probe._sysctl(b"kern.other")


def test_a_look_costs_little() -> None:
    """A fifth of a millisecond is the promise; the best of many, since a test machine is busy."""
    look = Probe(ours=lambda: (os.getpid(), os.getppid(), 1))
    best = min(_seconds(look) for _ in range(200))
    assert best < 200e-6


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began
