"""What the scheduler does next, decided without doing it."""

import pytest

from sidecar.engine.plan import ALONE_S, CHUNK, DECODES_PER_SLICE, SLICE_S, Pace, Plan, piece, schedule
from sidecar.engine.turns import Rank
from sidecar.frames import Priority

FIRST: Rank = (False, 0, Priority.MAIN, 0.0)
LATER: Rank = (False, 0, Priority.SIDE, 0.0)


@pytest.mark.parametrize(
    ("reading", "decoding", "rate", "expected"),
    [
        ([], False, 1000, Plan(None, 0, 0)),
        ([], True, 1000, Plan(None, 0, 1)),
        ([(FIRST, 50)], False, 1000, Plan(0, 50, 0)),
        ([(LATER, 20), (FIRST, 5000)], False, 1000, Plan(1, 992, 0)),
        ([(FIRST, 20), (LATER, 5)], True, 1000, Plan(0, 20, DECODES_PER_SLICE)),
        ([(FIRST, 9000)], False, 1e9, Plan(0, CHUNK, 0)),  # alone: whole chunks
        ([(FIRST, 9000)], False, 0.1, Plan(0, 32, 0)),  # however slow, something is read
        ([(FIRST, 0)], True, 1000, Plan(0, 0, DECODES_PER_SLICE)),  # all cached: straight to decoding
    ],
)
def test_one_step(reading: list[tuple[Rank, int]], decoding: bool, rate: float, expected: Plan) -> None:
    assert schedule(reading, decoding, Pace(rate)) == expected


@pytest.mark.parametrize(("decoding", "seconds"), [(True, SLICE_S), (False, ALONE_S)])
def test_a_piece_fits_its_time_at_the_measured_speed(decoding: bool, seconds: float) -> None:
    assert seconds * 0.75 <= piece(decoding, Pace(1000)) / 1000 <= seconds


def test_the_pace_follows_what_is_measured_but_not_tiny_slices() -> None:
    pace = Pace()
    for _ in range(20):
        pace.read(100, 0.1)
    assert pace.rate == pytest.approx(1000, rel=0.01)
    pace.read(2, 1.0)
    assert pace.rate == pytest.approx(1000, rel=0.01)
    assert pace.beside(False) == pytest.approx(pace.beside(True))  # no step is known yet
    pace.decoded(SLICE_S / DECODES_PER_SLICE)
    assert pace.beside(True) == pytest.approx(500, rel=0.01)
