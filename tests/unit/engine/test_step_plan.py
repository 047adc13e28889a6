"""What the scheduler does next, decided without doing it."""

import pytest

from sidecar.conversation import Priority
from sidecar.engine.chunking import PACKED
from sidecar.engine.memory_costs import STEP
from sidecar.engine.scheduling.policy import Rank
from sidecar.engine.scheduling.step_plan import (
    ALONE_S,
    CHUNK,
    MOST_DECODES,
    SHARE,
    SLICE_S,
    Pace,
    Plan,
    decodes,
    piece,
    schedule,
)

FIRST: Rank = (False, 0, Priority.MAIN, 0.0)
LATER: Rank = (False, 0, Priority.SIDE, 0.0)


@pytest.mark.parametrize(
    ("reading", "decoding", "rate", "expected"),
    [
        ([], False, 1000, Plan(None, 0, 0)),
        ([], True, 1000, Plan(None, 0, 1)),
        ([(FIRST, 50)], False, 1000, Plan(0, 50, 0)),
        ([(LATER, 20), (FIRST, 5000)], False, 1000, Plan(1, 1024, 0)),
        ([(FIRST, 20), (LATER, 5)], True, 1000, Plan(0, 20, 1)),
        ([(FIRST, 9000)], False, 1e9, Plan(0, CHUNK, 0)),  # alone: whole chunks
        ([(FIRST, 9000)], False, 0.1, Plan(0, 32, 0)),  # however slow, something is read
        ([(FIRST, 0)], True, 1000, Plan(0, 0, 1)),  # all cached: straight to decoding
    ],
)
def test_one_step(reading: list[tuple[Rank, int]], decoding: bool, rate: float, expected: Plan) -> None:
    assert schedule(reading, decoding, Pace(rate)) == expected


@pytest.mark.parametrize(("decoding", "seconds"), [(True, SLICE_S), (False, ALONE_S)])
@pytest.mark.parametrize("rate", [250, 400, 700, 1000, 1300, 1700, 1900])
def test_a_piece_fits_its_time_and_the_steps_of_a_cache(decoding: bool, seconds: float, rate: float) -> None:
    size = piece(decoding, Pace(rate))
    assert seconds / 1.5 <= size / rate <= seconds * 1.5
    assert size % STEP == 0 or STEP % size == 0


@pytest.mark.parametrize(
    ("rate", "alone", "beside"), [(1, 32, 32), (6, 128, 64), (40, 256, 64), (300, 256, 64), (2000, 2048, 256)]
)
def test_what_is_unpacked_for_each_pass_is_read_in_longer_pieces(rate: float, alone: int, beside: int) -> None:
    """But no piece takes longer than half a minute or so."""
    pace = Pace(rate, manner=PACKED)
    assert (piece(False, pace), piece(True, pace)) == (alone, beside)


def test_a_step_is_expected_to_take_what_was_measured() -> None:
    pace = Pace(10.0, step_s=2.0, manner=PACKED)
    assert pace.seconds(Plan(0, 100, 1)) == 100 / 10 + (1 + 5 + 1) * 2
    assert pace.seconds(Plan(None, 0, 1)) == 4


def test_the_pace_follows_what_is_measured_but_not_tiny_slices() -> None:
    pace = Pace()
    for _ in range(20):
        pace.read(100, 0.1)
    assert pace.rate == pytest.approx(1000, rel=0.01)
    pace.read(2, 1.0)
    assert pace.rate == pytest.approx(1000, rel=0.01)
    assert pace.beside(False) == pace.rate
    assert pace.beside(True) == pytest.approx((1 - SHARE) * pace.rate)


@pytest.mark.parametrize("step_s", [0.002, 0.01, 0.03, 0.2])
def test_streams_get_their_share_of_the_time_whatever_a_step_takes(step_s: float) -> None:
    pace, reading, decoding = Pace(1000, step_s), 0.0, 0.0
    for _ in range(20):
        todo = schedule([(FIRST, 10_000)], True, pace)
        reading, decoding = reading + todo.tokens / pace.rate, decoding + todo.decodes * step_s
    share = decoding / (reading + decoding)
    if step_s > 2 * SLICE_S * SHARE:
        assert todo.decodes == 1  # a step cannot be cut
    else:
        assert share == pytest.approx(SHARE, abs=0.12)
    assert decodes(1000.0, pace) == MOST_DECODES
