"""All tests, in two groups side by side: most of their time is waiting, for deadlines and for other processes.

.venv/bin/python -m tests

The exit code is 0 when both groups' is.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LONGEST = "process"
"""The tier that is shown as it runs; what the others say comes behind it."""
BESIDE = [HERE / LONGEST / "test_engine.py"]
"""What of it runs with the others, so that both groups end at about the same time."""


def main() -> int:
    others = sorted({file.relative_to(HERE).parts[0] for file in HERE.glob("*/**/test_*.py")} - {LONGEST})
    with tempfile.TemporaryFile() as said:
        with (
            subprocess.Popen(
                pytest(*(HERE / tier for tier in others), *BESIDE), stdout=said, stderr=subprocess.STDOUT
            ) as beside,
            subprocess.Popen([*pytest(HERE / LONGEST), *(f"--ignore={each}" for each in BESIDE)]) as shown,
        ):
            codes = shown.wait(), beside.wait()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
    return max(map(abs, codes))


def pytest(*places: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("pytest")), *map(str, places)]


if __name__ == "__main__":
    sys.exit(main())
