"""What the prefix costs, beside the bare command: time of a warm and of a cold start, memory of relay and sidecar.

.venv/bin/python -m tests.bench.launch [rounds]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support import attacher, census
from tests.support.place import Session
from tests.support.real_place import RealPlace, persistent_ask

Times = dict[str, list[float]]


@dataclass
class Memory:
    """Resident and private MB of what stays beside a command."""

    resident: dict[str, float] = field(default_factory=dict)
    private: dict[str, float] = field(default_factory=dict)

    def look(self, name: str, pid: int) -> None:
        self.resident[name] = psutil.Process(pid).memory_info().rss / 1e6
        self.private[name] = census.private_mb(pid)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        place, memory = RealPlace(Path(folder), grace=5), Memory()
        try:
            times = cold(place, max(5, rounds // 4), memory) | warm(place, rounds, memory)
            show(times, memory)
        finally:
            place.call("stop", "--now")
            place.clean()


def cold(place: RealPlace, rounds: int, memory: Memory) -> Times:
    """Milliseconds from nothing at all to a lease (the attach alone), and to the end of a command."""
    command = [sys.executable, "-IS", attacher.__file__, str(place.run), str(place.folder / "logs")]
    times: Times = {"cold lease": [], "cold claude-local true": []}
    for _ in range(rounds):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=place.environment)
        said = granted(process)
        times["cold lease"].append(float(said[2]))
        memory.look("sidecar without model", int(said[1]))
        process.terminate()
        process.wait()
        stop(place)
        times["cold claude-local true"].append(timed([*place.shim, "true"], place))
        stop(place)
    return times


def warm(place: RealPlace, rounds: int, memory: Memory) -> Times:
    """Milliseconds of each round, interleaved."""
    commands = {
        "true": ["true"],
        "python -IS": [sys.executable, "-IS", "-c", ""],
        "claude-local true": [*place.shim, "true"],
    }
    keeper = Session(place)  # one terminal stays, as in daily use
    persistent_ask(keeper)
    memory.look("relay", census.holders_of(keeper.port)[0])
    times: Times = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(timed(command, place))
    keeper.end()
    return times


def timed(command: list[str], place: RealPlace) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=place.environment, check=True)
    return (time.perf_counter() - began) * 1000


def stop(place: RealPlace) -> None:
    """Until nothing runs: the next start is cold."""
    place.call("stop", "--now")
    place.finish()


def granted(process: subprocess.Popen[bytes]) -> list[str]:
    assert process.stdin and process.stdout
    process.stdout.readline()  # it is ready
    process.stdin.close()
    return process.stdout.readline().decode().split()


def show(times: Times, memory: Memory) -> None:
    bare = statistics.median(times["true"])
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"{name:24} median {middle:7.1f} ms   best {min(values):7.1f} ms   {middle / bare:6.1f} x true")
    adds = statistics.median(times["claude-local true"]) - bare
    print(f"{'the prefix adds':24} median {adds:7.1f} ms   (60 at most, 35 aimed at)")
    print(f"{'cold start to a lease':24} median {statistics.median(times['cold lease']):7.1f} ms   (400 at most)")
    for name, most in (("relay", 12), ("sidecar without model", 45)):
        resident, private = memory.resident[name], memory.private[name]
        print(f"{name:24} {resident:5.1f} MB resident ({most} at most), {private:.1f} MB private")


if __name__ == "__main__":
    main()
