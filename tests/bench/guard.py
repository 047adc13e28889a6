"""What the memory guard and health cost.

    .venv/bin/python -m tests.bench.guard [seconds]

Idle: the CPU time of the memory thread's own work over so many seconds, with plenty free, near the Caution line and
below it (by lines drawn to suit: looks, decisions and pauses are the real ones). Request path: the guard's question and
the whole of /health's answer, without the socket. Also the time of /health over the socket of a sidecar that does
nothing. Promised: under 0.1 % of one core and 50 µs.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sidecar.memory.guard import Lines, pause
from sidecar.memory.monitor import Memory
from sidecar.memory.probe import Probe
from sidecar.server.status import health
from tests.support.real_sidecar import REAL, Sidecar, UnixConnection


def main() -> None:
    seconds = float((sys.argv[1:] or ["20"])[0])

    def ours() -> list[int]:
        return [os.getpid(), os.getppid(), 1]

    probe = Probe(ours=ours)
    for name, part in (("plenty", 0.1), ("near the lines", 0.7), ("at Caution", 2.0)):
        memory = Memory(probe, Lines(caution=part * probe().available), ours)
        print(f"idle, {name}: {idle(memory, seconds):.4%} of one core, {memory.view.level.label}")
    memory = Memory(probe, Lines(), ours)
    print(f"one look: {microseconds(lambda: memory.look(time.monotonic())):.1f} µs")
    print(f"request path, may it begin: {microseconds(memory.view.refusal):.2f} µs")
    answer = microseconds(lambda: msgspec.json.encode(health("ready", memory.view, False)))
    print(f"request path, health's answer: {answer:.2f} µs")
    with tempfile.TemporaryDirectory(prefix="cl-", dir="/tmp") as folder:
        sidecar = Sidecar(Path(folder), REAL, "demo")
        sidecar.start()
        sidecar.lease().until("ready")
        connection = UnixConnection(sidecar.socket)
        times = sorted(microseconds(lambda: ask(connection), 1) for _ in range(2000))
        sidecar.close()
    print(f"/health over the socket: p50 {statistics.median(times) / 1000:.2f} ms, p99 {times[1980] / 1000:.2f} ms")


def idle(memory: Memory, seconds: float) -> float:
    """Part of one core that looking, deciding and acting take."""
    ends, began = time.monotonic() + seconds, time.thread_time()
    while time.monotonic() < ends:
        memory.round(lambda wanted: False, lambda why: False)
        time.sleep(pause(memory.view.level, memory.view.sample, memory.view.lines))
    return (time.thread_time() - began) / seconds


def microseconds(act: Callable[[], object], times: int = 2000) -> float:
    began = time.perf_counter()
    for _ in range(times):
        act()
    return (time.perf_counter() - began) / times * 1e6


def ask(connection: UnixConnection) -> None:
    connection.request("GET", "/health")
    connection.getresponse().read()


if __name__ == "__main__":
    main()
