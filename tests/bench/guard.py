"""What the memory guard and health cost.

    .venv/bin/python -m tests.bench.guard [seconds]

Idle: the CPU time of the memory thread's own work over so many seconds, at the pace of a machine with plenty and at
that of one near its lines. Request path: the guard's question and the whole of /health's answer, without the socket.
Also the time of /health over the socket of a sidecar that does nothing. Promised: under 0.1 % of one core and 50 µs.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from sidecar.guard import GB, Lines, Sample, pause
from sidecar.health import health
from sidecar.memory import Memory
from sidecar.probe import Probe
from tests.process.test_sidecar import REAL, Sidecar, UnixConnection


def main() -> None:
    seconds = float((sys.argv[1:] or ["20"])[0])

    def ours() -> list[int]:
        return [os.getpid(), os.getppid(), 1]

    memory = Memory(Probe(ours=ours), Lines(), ours)
    for name, available in (("plenty", 100 * GB), ("near the lines", 3 * GB)):
        share = idle(memory, pause(memory.view.level, Sample(int(available)), Lines()), seconds)
        print(f"idle, {name}: {share:.4%} of one core")
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


def idle(memory: Memory, wait: float, seconds: float) -> float:
    """Part of one core that looking, deciding and acting take."""
    ends, spent = time.monotonic() + seconds, 0.0
    while time.monotonic() < ends:
        began = time.thread_time()
        memory.look(time.monotonic())
        memory.act(time.monotonic(), lambda wanted: False, lambda why: False)
        memory.list_largest(time.monotonic())
        time.sleep(wait)
        spent += time.thread_time() - began
    return spent / seconds


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
