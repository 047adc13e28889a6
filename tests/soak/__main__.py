"""Hours of ordinary use with extraordinary accidents: eight terminals come and go, and processes are killed.

.venv/bin/python -m tests.soak [--hours 2] [--out soak.jsonl]

Everything is real: shim, relays, sidecar, engine and the demo model, in a run directory of its own. Terminals ask at a
human pace (about a tenth of two cores in all), and leave by exit, hang-up or kill -9 of command, relay or launcher. For
the first 40 % of the time sidecar and engine are killed as well; then they live, so that their memory can be watched
for long. A line of JSON every ten seconds goes to the file, a verdict to both; the exit code is 0 when it held.
"""

import argparse
import dataclasses
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TextIO

from tests.soak.figures import Sample, Tally, verdict
from tests.soak.terminal import Terminal
from tests.support import census
from tests.support.place import Place

SAMPLE_S = 10.0
BETWEEN_KILLS_S = 150.0
KILLING_PART = 0.4
WARM_UP_S = 1800.0
"""Until what is bounded is full: the cache of prefixes, and the thousand passed deadlines that Trio keeps."""
GRACE_S = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--terminals", type=int, default=8, help="that come and go; one more stays all the time")
    parser.add_argument("--pause", type=float, default=15.0, help="mean seconds between two questions of a terminal")
    parser.add_argument("--out", type=Path, default=Path("soak.jsonl"))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, options.out.open("w") as out:
        place = Place(Path(folder))
        del place.environment["CLAUDE_LOCAL_TEST_SIDECAR"]  # the real sidecar
        # A small cache of prefixes, or it would still be filling after two hours.
        place.environment |= {
            "CLAUDE_LOCAL_MODEL": "demo",
            "CLAUDE_LOCAL_GRACE": str(GRACE_S),
            "CLAUDE_LOCAL_CACHE_GB": "0.02",
        }
        try:
            return Soak(place, options, out).run()
        finally:
            place.call("stop", "--now")
            place.clean()


class Soak:
    """One run: its terminals, its killer and its observer."""

    def __init__(self, place: Place, options: argparse.Namespace, out: TextIO) -> None:
        self.place, self.options, self.out = place, options, out
        self.tally, self.lock, self.over = Tally(), threading.Lock(), threading.Event()
        self.samples: dict[str, list[Sample]] = {"sidecar": [], "engine": [], "relay": []}
        self.began = time.monotonic()
        self.length = options.hours * 3600
        self.staying = self.terminal(0)
        self.relay: int | None = None
        """Of the terminal that stays."""

    def terminal(self, number: int) -> Terminal:
        return Terminal(self.place, self.options.seed + number, self.tally, self.lock, self.over)

    def run(self) -> int:
        self.tell({"seed": self.options.seed, "hours": self.options.hours, "pid": os.getpid()})
        terminals = [self.terminal(number) for number in range(1, self.options.terminals + 1)]
        threads = [threading.Thread(target=each.run, args=(self.options.pause,)) for each in terminals]
        threads.append(threading.Thread(target=self.staying.stay, args=(self.options.pause,)))
        threads.append(threading.Thread(target=self.kill))
        for thread in threads:
            thread.start()
        for number in range(1, int(self.length / SAMPLE_S) + 1):
            self.sample()
            time.sleep(max(0.0, self.began + number * SAMPLE_S - time.monotonic()))
        self.over.set()
        for thread in threads:
            thread.join()
        left = self.left_behind()
        good, text = verdict(self.samples, self.tally, left, min(WARM_UP_S, self.length / 4))
        self.tell({"verdict": good, "tally": dataclasses.asdict(self.tally), "left": left, "text": text.split("\n")})
        print(text)
        return 0 if good else 1

    def kill(self) -> None:
        """The sidecar or the engine, at random moments of the first part."""
        chance = random.Random(self.options.seed)
        while not self.over.wait(chance.expovariate(1 / BETWEEN_KILLS_S)):
            if time.monotonic() - self.began > KILLING_PART * self.length:
                return
            role = chance.choice(("sidecar", "engine"))
            for pid in census.processes(self.place.run, role):
                os.kill(pid, signal.SIGKILL)
                with self.lock:
                    self.tally.killed(role)

    def sample(self) -> None:
        """Look at every process that should stay as it is."""
        at = round(time.monotonic() - self.began, 1)
        status = census.status(self.place.run)
        if self.relay is None and self.staying.visit:
            self.relay = next(iter(census.holders_of(self.staying.visit.port)), None)
        alive = {role: census.processes(self.place.run, role) for role in ("sidecar", "engine", "shim")}
        self.tally.most_sidecars = max(self.tally.most_sidecars, len(alive["sidecar"]))
        self.tally.most_engines = max(self.tally.most_engines, len(alive["engine"]))
        seen = {}
        leases = status["leases"] if status else []
        looked_at = {"sidecar": status and status["pid"], "engine": status and status["engine"]["pid"]}
        looked_at["relay"] = self.relay
        for role, pid in looked_at.items():
            if pid and (found := look(pid, at, len(leases) if role == "sidecar" else 0)):
                self.samples[role].append(found)
                seen[role] = dataclasses.asdict(found)
        counts = {role: len(pids) for role, pids in alive.items()}
        with self.lock:
            tally = dataclasses.asdict(self.tally) | {"failed": len(self.tally.failed)}
        self.tell({"at": at, "leases": len(leases), "processes": counts, **seen, "tally": tally})

    def left_behind(self) -> list[str]:
        """After the grace period nothing may be there: no process, no socket."""
        deadline = time.monotonic() + GRACE_S + 60  # and the last job that outlived its terminal
        while census.processes(self.place.run) and time.monotonic() < deadline:
            time.sleep(1)
        left = [f"process {pid}" for pid in census.processes(self.place.run)]
        return left + [f"file {path.name}" for path in self.place.run.iterdir() if not path.name.endswith(".lock")]

    def tell(self, record: dict[str, object]) -> None:
        self.out.write(json.dumps(record) + "\n")
        self.out.flush()


def look(pid: int, at: float, accounted_for: int) -> Sample | None:
    try:
        return Sample(pid, at, round(census.private_mb(pid), 3), census.descriptors(pid) - accounted_for)
    except (OSError, census.psutil.Error):
        return None  # it was killed this very moment


if __name__ == "__main__":
    sys.exit(main())
