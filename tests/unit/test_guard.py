"""Memory levels: entered at a line, left above a higher one after a while, never by a failing probe."""

import pytest

from sidecar.guard import GB, Guard, Level


def run(trace: list[tuple[float, float]]) -> list[Level]:
    """Levels after each (seconds, GB available) sample."""
    samples = iter(trace)
    now = 0.0

    def probe() -> int:
        return int(current[1] * GB)

    guard, levels = Guard(probe), []
    for current in samples:
        now = current[0]
        guard.sample(now)
        levels.append(guard.level)
    return levels


S, W, R = Level.SAFE, Level.CAUTION, Level.CRITICAL


@pytest.mark.parametrize(
    ("trace", "levels"),
    [
        ([(0, 8), (1, 1.9), (2, 2.2)], [S, W, W]),
        ([(0, 0.9), (1, 0.9)], [W, R]),  # one low sample of the reject line is not enough
        ([(0, 1.9), (1, 2.6), (10, 2.6), (11, 2.6)], [W, W, W, S]),
        ([(0, 1.9), (1, 2.6), (10, 2.4), (11, 2.6), (20, 2.6), (21, 2.6)], [W, W, W, W, W, S]),  # the wait starts over
        ([(0, 0.9), (1, 0.9), (2, 8), (17, 8), (18, 8), (28, 8)], [W, R, R, W, W, S]),
    ],
)
def test_levels_follow_the_samples(trace: list[tuple[float, float]], levels: list[Level]) -> None:
    assert run(trace) == levels


def test_a_failing_probe_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    guard = Guard(lambda: (_ for _ in ()).throw(OSError("no /proc")))
    for now in range(100):
        guard.sample(now)
    assert guard.level is Level.SAFE and guard.accepting


def test_requests_are_refused_at_the_critical_level_only() -> None:
    assert [Guard(level=level).accepting for level in Level] == [True, True, False]
