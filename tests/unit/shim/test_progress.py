"""What is said while something long goes on: how much, how fast, how long still."""

import pytest

from shim.terminal.progress import Progress, left, pace

MB = 1_000_000


def test_neither_speed_nor_time_are_made_up() -> None:
    assert pace(5, 10, None) == pace(10, 10, 5.0) == ""
    assert pace(5, 10 * MB, 0.0) == pace(5, 10 * MB, 999.0) == ", nothing arrives"
    assert pace(0, 100 * MB, 5.0 * MB) == ", 5.0 MB/s, 20 s left"
    assert left(36_000, 1.0) == "10 h left"
    assert [left(count, 1.0) for count in (1, 119, 120, 7100)] == [
        "1 s left",
        "119 s left",
        "2 min left",
        "118 min left",
    ]


def said(capfd: pytest.CaptureFixture[str], terminal: bool, *steps: tuple[float, int]) -> str:
    times = iter([at for at, _ in steps])
    progress = Progress("x", terminal, lambda: next(times))
    for _, done in steps:
        progress.show(done, 1000 * MB)
    progress.finish()
    return capfd.readouterr().err


def test_the_speed_is_that_of_the_last_seconds(capfd: pytest.CaptureFixture[str]) -> None:
    steps = [(0.0, 0), (2.0, 100 * MB), (10.0, 500 * MB), (20.0, 510 * MB), (40.0, 530 * MB)]
    drawn = said(capfd, True, *steps).split("\r\x1b[K")
    assert "MB/s" not in drawn[2] and ", 50 MB/s, 10 s left" in drawn[3]
    assert ", 1.0 MB/s, 7 min left" in drawn[5]
    assert drawn[-1] == ""


def test_without_a_terminal_it_is_a_line_for_each_tenth(capfd: pytest.CaptureFixture[str]) -> None:
    steps = [(0.0, 0), (1.0, 50 * MB), (4.0, 100 * MB), (5.0, 110 * MB), (6.0, 1000 * MB)]
    assert said(capfd, False, *steps).splitlines() == [
        "claude-local: x: 0 % of 1.00 GB",
        "claude-local: x: 10 % of 1.00 GB, 25 MB/s, 36 s left",
        "claude-local: x: 100 % of 1.00 GB",
    ]
