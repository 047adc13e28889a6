"""What the prefix costs: `claude-local true` with a warm sidecar, beside `true` and a bare Python, interleaved.

.venv/bin/python -m tests.bench.launch [rounds]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.process.fake_sidecar import Place

HERE = Path(__file__).parent


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        del place.environment["CLAUDE_LOCAL_TEST_SIDECAR"]  # the real sidecar
        place.environment |= {"CLAUDE_LOCAL_MODEL": "demo", "CLAUDE_LOCAL_GRACE": "5"}
        try:
            show(measure(place, rounds))
        finally:
            place.call("stop", "--now")
            place.clean()


def measure(place: Place, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round."""
    import subprocess

    commands = {
        "true": ["true"],
        "python -IS": [sys.executable, "-IS", "-c", ""],
        "claude-local true": [*place.shim, "true"],
    }
    keeper = place.start("sh", "-c", "read line")  # one terminal stays, as in daily use
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, env=place.environment, check=True)
            times[name].append((time.perf_counter() - began) * 1000)
    keeper.communicate()
    return {name: values[1:] for name, values in times.items()}  # the first one started the sidecar


def show(times: dict[str, list[float]]) -> None:
    for name, values in times.items():
        print(f"{name:20} median {statistics.median(values):6.1f} ms   best {min(values):6.1f} ms")
    ours, bare = times["claude-local true"], times["true"]
    print(f"the prefix adds      median {statistics.median(ours) - statistics.median(bare):6.1f} ms")


if __name__ == "__main__":
    main()
