"""The soak's verdict: what it says yes and no to."""

import math

import pytest

from tests.soak.figures import Sample, Tally, after_warm_up, lives, more_descriptors, slope, verdict


def life(pid: int, mb_an_hour: float, hours: float = 1.0, base: float = 20.0, descriptors: int = 10) -> list[Sample]:
    times = [10.0 * number for number in range(int(hours * 360))]
    return [Sample(pid, at, base + mb_an_hour * at / 3600, descriptors) for at in times]


def good() -> Tally:
    return Tally(asked=5, answered=5, terminals=2, most_engines=1, most_sidecars=1)


def test_the_slope_is_that_of_lives_and_not_of_the_step_between_them() -> None:
    samples = life(1, 0.5) + [Sample(2, each.at + 3600, each.mb + 50, 10) for each in life(2, 0.5)]
    assert slope(lives(samples)) == pytest.approx(0.5)
    assert math.isnan(slope([]))


def test_warm_up_is_left_out_of_every_life() -> None:
    growing = [Sample(1, at, min(at, 300.0), 10) for at in range(0, 1200, 10)]
    assert slope(after_warm_up([growing], 300)) == pytest.approx(0)
    assert not after_warm_up([growing[:20]], 300)


def test_descriptors_are_compared_within_a_life() -> None:
    leaking = [Sample(1, at, 20, 10 + at // 100) for at in range(1000)]
    assert more_descriptors([life(1, 0), leaking]) > 5
    assert more_descriptors([life(1, 0, descriptors=10), life(2, 0, descriptors=30)]) == 0


def test_it_held_when_everything_did() -> None:
    held, text = verdict({"sidecar": life(1, 0.2)}, good(), [], 60)
    assert held and text.endswith("THE SOAK HELD")


@pytest.mark.parametrize(
    ("samples", "change", "left"),
    [
        (life(1, 1.5), {}, []),
        ([], {}, []),
        (life(1, 0), {"failed": ["400"]}, []),
        (life(1, 0), {"answered": 0}, []),
        (life(1, 0), {"not_started": ["exit 69"]}, []),
        (life(1, 0), {"most_engines": 2}, []),
        (life(1, 0), {}, ["process 7"]),
        (life(1, 0)[:120] + life(1, 0, descriptors=14)[120:], {}, []),
    ],
    ids=["memory", "nobody-lived", "request", "no-answer", "start", "engines", "left", "descriptors"],
)
def test_one_thing_that_did_not_hold_is_enough(samples: list[Sample], change: dict, left: list[str]) -> None:
    tally = good()
    for name, value in change.items():
        setattr(tally, name, value)
    held, text = verdict({"sidecar": samples}, tally, left, 60)
    assert not held and text.count("FAIL  ") >= 1
