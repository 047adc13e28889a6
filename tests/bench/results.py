"""What the benches write down: one JSON file each, made whole at every step, so that a run can stop and go on.

A file holds where it was measured and, for each round, what each of those measured gave. `tests.bench.plot` reads them.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VERSIONS = ("mlx", "mlx-lm", "trio", "h11", "llguidance")


class Results:
    """The rounds of one bench. `key`: what must be equal for two runs to be one."""

    def __init__(self, file: Path, **key: Any) -> None:
        self.file = file
        self.table: dict[str, Any] = {"key": key, "machine": machine(), "rounds": []}
        if file.exists():
            kept = json.loads(file.read_text("utf-8"))
            if kept["key"] != key:
                raise SystemExit(f"{file} was measured with {kept['key']}: move it away, or name another file")
            self.table = kept

    def round(self, number: int) -> dict[str, Any]:
        rounds: list[dict[str, Any]] = self.table["rounds"]
        while len(rounds) <= number:
            rounds.append({})
        return rounds[number]

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.file.with_suffix(".part")
        aside.write_text(json.dumps(self.table, indent=1) + "\n")
        aside.replace(self.file)


class Budget:
    """Seconds that a run may take. A step begins only if the longest one so far would still fit."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._longest = 0.0
        self._began = 0.0

    def allows(self) -> bool:
        now = time.monotonic()
        if self._began:
            self._longest = max(self._longest, now - self._began)
        self._began = now
        return now + self._longest < self._ends


def machine() -> dict[str, Any]:
    """Where and with what."""
    cpu = next((line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
        "date": time.strftime("%Y-%m-%d"),
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def median(values: Iterable[Any]) -> float | None:
    """Of the figures among them; errors are none. None where there is no figure."""
    figures = [value for value in values if isinstance(value, int | float)]
    return statistics.median(figures) if figures else None


def rotated(names: list[str], by: int) -> list[str]:
    """Everybody is first as often as everybody else."""
    by %= len(names)
    return names[by:] + names[:by]
