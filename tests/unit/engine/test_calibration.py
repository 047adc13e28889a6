"""What is found out about a model is found out once, for as long as nothing has changed."""

import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache

from sidecar.engine import calibration
from sidecar.engine.calibration import FILE, Findings, find_out

KV = "16 bits"


@pytest.fixture(scope="module")
def weights(tiny: Path) -> Any:
    return load(str(tiny))[0]


def found(weights: Any, folder: Path | None, kv: str = KV) -> Findings:
    return find_out(weights, partial(make_prompt_cache, weights), kv, folder)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been measured since."""
    seen: list[Any] = []
    measure = calibration.measure
    monkeypatch.setattr(calibration, "measure", lambda *given: seen.append(given) or measure(*given))
    return seen


def test_a_later_load_runs_nothing(weights: Any, tmp_path: Path, measured: list[Any]) -> None:
    first = found(weights, tmp_path)
    assert (first.vocabulary, first.one_by_one) == (512, "") and first.costs.per_token and first.pace
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert found(weights, tmp_path) == first and len(measured) == 1
    # To the byte, corrections by what is seen later included.
    assert found(weights, tmp_path).costs.seen(256, 512, 10**6) == first.costs.seen(256, 512, 10**6)


@pytest.mark.parametrize("change", ["other caches", "another mlx", "torn", "none of ours", "gone"])
def test_what_has_changed_is_found_out_again(
    weights: Any, tmp_path: Path, measured: list[Any], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    found(weights, tmp_path)
    file = tmp_path / FILE
    match change:
        case "another mlx":
            monkeypatch.setattr(calibration, "version", lambda name: "99.0")
        case "torn":
            file.write_bytes(file.read_bytes()[:-20])
        case "none of ours":
            file.write_text('{"by": 7}')
        case "gone":
            file.unlink()
    kv = "8 bits" if change == "other caches" else KV
    again = found(weights, tmp_path, kv)
    assert len(measured) == 2
    assert found(weights, tmp_path, kv) == again and len(measured) == 2


def test_a_check_that_could_not_be_made_is_made_again(
    weights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_memory(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(calibration, "_distances", out_of_memory)
        assert found(weights, tmp_path).one_by_one == "batching fails: MemoryError: "
    assert found(weights, tmp_path).one_by_one == ""


def test_without_a_folder_nothing_is_kept(weights: Any, measured: list[Any], tmp_path: Path) -> None:
    found(weights, None)
    found(weights, tmp_path / "cannot" / "be" / "written")
    assert len(measured) == 2 and not [*tmp_path.iterdir()]


class Slow:
    """The model, on a machine that takes so long for each token. The clock is turned, nobody waits."""

    def __init__(self, weights: Any, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passes: list[int] = []
        self._weights, self._seconds, self._now = weights, seconds, 0.0
        monkeypatch.setattr(calibration.time, "perf_counter", lambda: self._now)

    def __call__(self, tokens: Any, cache: Any) -> Any:
        self.passes.append(tokens.shape[1])
        self._now += self._seconds * tokens.shape[1]
        return self._weights(tokens, cache=cache)


@pytest.mark.parametrize(
    ("seconds", "passes"),
    [
        (1e-4, [16, 16, 64, 256, 512, 1024, 1, 1]),
        (1e-3, [16, 16, 64, 256, 512, 1, 1]),
        (0.015, [16, 16, 64, 256, 1, 1]),
        (0.05, [16, 16, 64, 1, 1]),
        (3.0, [16, 16, 1, 1]),
    ],
)
def test_what_would_take_too_long_is_not_measured(
    weights: Any, seconds: float, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "batching_fault", lambda *_: "")
    slow = Slow(weights, seconds, monkeypatch)
    made = find_out(slow, partial(make_prompt_cache, weights), KV, None)
    assert slow.passes == passes
    assert made.pace == pytest.approx(1 / seconds) and made.step_s == pytest.approx(seconds)
    assert made.costs.per_token and made.costs.transient(64, 64)
    assert ("too long to try out" in made.one_by_one) == (seconds > calibration.STEP_S)
