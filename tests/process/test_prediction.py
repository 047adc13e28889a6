"""The memory of a request is predicted well: on three kinds of models, measured by MLX itself."""

import json
import subprocess
import sys

import pytest

from sidecar.engine_process import environment
from tests.conftest import FULL

COUNT, LONGEST = (100, 12_000) if FULL else (12, 3_000)


@pytest.mark.parametrize("kind", ["dense", "grouped", "sliding"])
def test_nineteen_of_twenty_predictions_are_within_fifteen_percent(kind: str) -> None:
    """The short form allows one of its twelve to be further off: prompts below a thousand tokens are hardest."""
    command = [sys.executable, "-m", "tests.bench.prediction", kind, str(COUNT), str(LONGEST)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    pairs = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    errors = sorted(abs(each["predicted"] / each["measured"] - 1) for each in pairs)
    print(kind, [f"{error:.1%}" for error in errors[-6:]])
    assert len(errors) == COUNT
    assert errors[-1 - max(1, COUNT // 20)] <= 0.15
