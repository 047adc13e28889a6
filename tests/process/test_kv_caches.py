"""The format of KV caches that a user asks for: counted, named and kept apart by every process and word."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process.test_disk import quiet, shim, usage
from tests.support.models import make_tiny
from tests.support.real_sidecar import REAL, Sidecar

Start = Callable[[str], Sidecar]


@pytest.fixture
def start(short_dir: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a sidecar with so many bits, after the one before it; all share a disk."""
    model = str(make_tiny(tmp_path, hidden_size=128))
    begun: list[Sidecar] = []

    def started(bits: str) -> Sidecar:
        for each in begun:
            each.close()
        variables = {"KV_BITS": bits, "DISK_CACHE": str(tmp_path / "cache"), "MODEL": model}
        named = {f"CLAUDE_LOCAL_{name}": value for name, value in variables.items()}
        begun.append(Sidecar(short_dir, REAL, model, **named))
        begun[-1].start()
        begun[-1].lease().until("ready")
        return begun[-1]

    yield started
    for each in begun:
        each.close()


def test_the_format_that_was_asked_for_is_the_engines_and_is_shown(start: Start) -> None:
    sidecar = start("8/4")
    assert sidecar.status()["model"]["kv_bits"] == "8/4"
    assert "KV caches in 8 bits (values in 4)" in " ".join(shim(sidecar, "status").split())


@pytest.mark.full
def test_every_word_names_the_format_that_was_asked_for(start: Start) -> None:
    sidecar = start("8/4")
    [found] = [each for each in json.loads(shim(sidecar, "models", "--json"))["models"] if each["default"]]
    assert found["kv_bits_here"] == "8/4"
    assert "tokens with KV caches in 8 bits (values in 4)" in shim(sidecar, "doctor", "memory", "--json")


@pytest.mark.full
def test_what_one_format_has_left_on_disk_is_read_by_that_format_alone(start: Start) -> None:
    for bits in ("8/4", "8", "4", "16"):
        sidecar = start(bits)
        assert usage(sidecar)["cache_read_input_tokens"] == 0
        quiet(sidecar)
    assert usage(start("8/4"))["cache_read_input_tokens"] > 500
