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


def main() -> int:
    others = sorted({file.relative_to(HERE).parts[0] for file in HERE.glob("*/**/test_*.py")} - {LONGEST})
    with tempfile.TemporaryFile() as said:
        with (
            subprocess.Popen(pytest(*others), stdout=said, stderr=subprocess.STDOUT) as beside,
            subprocess.Popen(pytest(LONGEST)) as shown,
        ):
            codes = shown.wait(), beside.wait()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
    return max(map(abs, codes))


def pytest(*tiers: str) -> list[str]:
    return [str(Path(sys.executable).with_name("pytest")), *(str(HERE / tier) for tier in tiers)]


if __name__ == "__main__":
    sys.exit(main())
