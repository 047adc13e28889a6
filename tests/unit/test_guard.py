"""Memory levels: entered at a line, left above a higher one after a while, never by a probe that fails."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.guard import FLAP_S, GB, Guard, Level, Lines, Sample, pause

S, C, R, E = Level.SAFE, Level.CAUTION, Level.CRITICAL, Level.EMERGENCY

Trace = list[tuple[float, float | None]]
"""(seconds, GB available), None where the probe fails."""


def levels(trace: Trace) -> list[Level]:
    guard = Guard()
    return [guard.feed(None if each is None else Sample(int(each * GB)), now) for now, each in trace]


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ([(0, 8), (1, 1.9), (2, 2.2)], [S, C, C]),
        ([(0, 2.0), (1, 1.0), (2, 1.0)], [S, C, C]),  # at a line is not below it
        ([(0, 0.9), (1, 0.9)], [C, R]),  # one low sample of the reject line is not enough
        ([(0, 0.9), (1, 1.1), (2, 0.9)], [C, C, C]),
        ([(0, 1.9), (1, 2.6), (10.9, 2.6), (11, 2.6)], [C, C, C, S]),
        ([(0, 1.9), (1, 2.6), (10, 2.4), (11, 2.6), (20, 2.6), (21, 2.6)], [C, C, C, C, C, S]),  # the wait starts over
        ([(0, 0.9), (1, 0.9), (2, 1.8), (16, 1.8), (17, 1.8), (99, 1.8)], [C, R, R, R, C, C]),
        ([(0, 0.9), (1, 0.9), (2, 8), (16.9, 8), (17, 8)], [C, R, R, R, S]),  # each level waits for itself
        ([(0, 0.4), (0.2, 0.4), (0.4, 0.4), (0.5, 0.4)], [C, R, R, E]),  # three samples, but half a second first
        ([(0, 0.4), (0.5, 0.4), (1, 0.4)], [C, R, E]),
        ([(0, 0.4), (0.5, 0.4), (1, 0.4), (2, 1.1), (6, 1.1), (7, 1.1)], [C, R, E, E, E, R]),
    ],
)
def test_levels_follow_the_samples(trace: Trace, expected: list[Level]) -> None:
    assert levels(trace) == expected


def test_a_day_as_it_was_recorded() -> None:
    """A desktop with 8 GB while a large program is built beside a browser: one look a second, here every fifth."""
    figures = "3.1 2.8 2.2 1.9 1.6 1.2 0.9 0.8 0.8 1.1 1.5 1.9 2.1 2.3 2.6 2.7 2.7 2.8 2.6 2.4 1.9 2.6 3.4 3.5 3.5 3.6"
    seen = levels([(5.0 * index, float(figure)) for index, figure in enumerate(figures.split())])
    told = [(index, after) for index, (before, after) in enumerate(pairwise(seen), 1) if after is not before]
    assert told == [(3, C), (7, R), (14, C), (16, S), (20, C)]
    assert seen[-1] is C, "it came back at once, so it stays for a minute"


def test_what_swings_is_told_at_most_once_a_minute() -> None:
    swing: Trace = [(now, 1.9 if now % 12 == 0 else 3.0) for now in range(600)]
    rises = [now for now, (before, after) in enumerate(pairwise(levels(swing)), 1) if after > before]
    assert len(rises) <= 600 / FLAP_S + 1


@pytest.mark.parametrize(("pressure", "expected"), [(C, C), (R, R)])
def test_the_kernels_own_opinion_counts(pressure: Level, expected: Level) -> None:
    guard = Guard()
    for now in range(3):
        level = guard.feed(Sample(int(8 * GB), pressure=pressure), now)
    assert level is expected
    assert [guard.feed(Sample(int(8 * GB)), now) for now in (3, 18)] == [expected, S]


def test_requests_are_refused_from_the_critical_level_on() -> None:
    assert [Guard(level=level).accepting for level in Level] == [True, True, False, False]


def test_the_nearer_the_lines_the_closer_the_looks() -> None:
    """Three looks must fit into the time that a process needs to take the last gigabyte."""
    lines = Lines()
    assert pause(S, Sample(int(8 * GB)), lines) == 1.0
    assert pause(S, Sample(int(3.9 * GB)), lines) == 0.5
    assert pause(C, Sample(int(8 * GB)), lines) == pause(S, None, lines) == 0.25


# Any trace whatever

gigabytes = st.floats(0, 4, allow_nan=False)
steps = st.floats(0.05, 20, allow_nan=False)


def timed(steps_and_values: list[tuple[float, float | None]]) -> Trace:
    now, trace = 0.0, []
    for step, value in steps_and_values:
        now += step
        trace.append((now, value))
    return trace


traces = st.lists(st.tuples(steps, st.one_of(gigabytes, st.none())), max_size=200).map(timed)
blind = st.lists(st.tuples(steps, st.one_of(st.floats(1.0, 4), st.none())), max_size=100).map(timed)


@given(traces)
def test_a_level_rises_only_below_its_line_and_falls_only_above_its_other_one(trace: Trace) -> None:
    below, above = {C: 2.0, R: 1.0, E: 0.5}, {C: 2.5, R: 1.75, E: 1.0}
    for (before, after), (_, available) in zip(pairwise([S, *levels(trace)]), trace, strict=True):
        if after > before:
            assert available is not None and available < below[after]
        if after < before:
            assert available is not None and available >= above[before]


@given(traces)
def test_no_two_flaps_within_a_minute(trace: Trace) -> None:
    """A flap: a level rises within a minute after one fell."""
    flaps, fell = [], float("-inf")
    for (before, after), (now, _) in zip(pairwise([S, *levels(trace)]), trace, strict=True):
        if after > before:
            if now - fell < FLAP_S:
                flaps.append(now)
            fell = float("-inf")
        elif after < before:
            fell = now
    assert all(later - earlier >= FLAP_S for earlier, later in pairwise(flaps))


@given(blind)
def test_a_failing_probe_never_leads_to_a_refusal(trace: Trace) -> None:
    """None of the samples that there are is below the line, so nothing may be refused, however many are missing."""
    assert all(level < R for level in levels(trace))


@given(traces)
def test_a_failing_probe_keeps_the_level(trace: Trace) -> None:
    for (before, after), (_, available) in zip(pairwise([S, *levels(trace)]), trace, strict=True):
        if available is None:
            assert after is before


@given(traces)
def test_plenty_for_long_enough_is_always_safe_again(trace: Trace) -> None:
    end = trace[-1][0] if trace else 0.0
    assert levels([*trace, *((end + second, 8.0) for second in range(1, 80))])[-1] is S


@given(traces, st.floats(0.01, 10))
def test_other_lines_mean_the_same_at_another_scale(trace: Trace, scale: float) -> None:
    lines = Lines(2.0 * GB * scale, 1.0 * GB * scale, 0.5 * GB * scale)
    guard, scaled = Guard(), Guard(lines)
    for now, each in trace:
        near = each is not None and any(abs(each - line) < 1e-6 for line in (0.5, 1.0, 1.75, 2.0, 2.5))
        if each is None or near:
            continue
        one, other = Sample(int(each * GB)), Sample(int(each * GB * scale))
        assert guard.feed(one, now) is scaled.feed(other, now)
