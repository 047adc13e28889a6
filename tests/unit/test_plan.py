"""What the scheduler does next, decided without doing it."""

import pytest

from sidecar.engine.plan import ALONE_S, CHUNK, DECODES_PER_SLICE, SLICE_S, Pace, Plan, plan


@pytest.mark.parametrize(
    ("unread", "decoding", "rate", "expected"),
    [
        ([], False, 1000, Plan(None, 0, 0)),
        ([], True, 1000, Plan(None, 0, 1)),
        ([50], False, 1000, Plan(0, 50, 0)),
        ([5000, 20], True, 1000, Plan(1, 20, DECODES_PER_SLICE)),  # the shortest first
        ([9000], False, 1e9, Plan(0, CHUNK, 0)),  # alone: whole chunks
        ([9000], False, 0.1, Plan(0, 32, 0)),  # however slow, something is read
        ([0], True, 1000, Plan(0, 0, DECODES_PER_SLICE)),  # all cached: straight to decoding
    ],
)
def test_one_step(unread: list[int], decoding: bool, rate: float, expected: Plan) -> None:
    assert plan(unread, decoding, rate) == expected


@pytest.mark.parametrize(("decoding", "seconds"), [(True, SLICE_S), (False, ALONE_S)])
def test_a_slice_fits_its_time_at_the_measured_speed(decoding: bool, seconds: float) -> None:
    todo = plan([10_000], decoding, rate=1000)
    assert seconds * 0.75 <= todo.tokens / 1000 <= seconds


def test_the_pace_follows_what_is_measured_but_not_tiny_slices() -> None:
    pace = Pace()
    for _ in range(20):
        pace.observe(100, 0.1)
    assert pace.rate == pytest.approx(1000, rel=0.01)
    pace.observe(2, 1.0)
    assert pace.rate == pytest.approx(1000, rel=0.01)
