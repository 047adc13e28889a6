"""Memory levels: entered at a line, left above a higher one after a while, never by a probe that fails."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.memory.guard import FLAP_S, GB, Guard, Level, Lines, Sample, pause

S, C, R, E = Level.SAFE, Level.CAUTION, Level.CRITICAL, Level.EMERGENCY

Trace = list[tuple[float, float | None]]
"""(seconds, GB available), None where the probe fails."""


Looks = list[tuple[float, Sample | None]]


def levels(trace: Trace) -> list[Level]:
    return fed([(now, None if each is None else Sample(int(each * GB))) for now, each in trace])


def fed(looks: Looks) -> list[Level]:
    guard = Guard()
    return [guard.feed(sample, now) for now, sample in looks]


def as_specified(looks: Looks) -> list[Level]:
    """The levels by their definition, looked up in the whole past each time instead of being kept."""
    seen = [(now, sample) for now, sample in looks if sample is not None]
    told: list[tuple[float, Level]] = []  # what was shown after each of `seen`

    def held_at(now: float) -> bool:
        """Whether a level that rose again within a minute after a fall has to stay."""
        changes = [
            (when, after - before) for (_, before), (when, after) in pairwise([(0.0, S), *told]) if after != before
        ]
        flaps = [when for (fell, down), (when, up) in pairwise(changes) if down < 0 < up and when - fell < FLAP_S]
        return any(now < flap + FLAP_S for flap in flaps)

    may_leave: list[bool] = []

    def is_on(level: Level, below: float, looks: int, span: float, above: float, hold: float) -> bool:
        """At the last of `seen` up to now: entered, and not left since."""
        low = [sample.pressure >= level or sample.available < below * GB for _, sample in seen[: len(may_leave)]]
        clear = [sample.pressure < level and sample.available >= above * GB for _, sample in seen[: len(may_leave)]]
        for last in reversed(range(len(low))):
            first = last
            while first and low[first - 1]:
                first -= 1
            if low[last] and last - first + 1 >= looks and seen[last][0] - seen[first][0] >= span:
                return True
            since = last
            while since and clear[since - 1]:
                since -= 1
            if clear[last] and may_leave[last] and seen[last][0] - seen[since][0] >= hold:
                return False
        return False

    for now, _ in seen:
        may_leave.append(not held_at(now))
        on = [
            level
            for level, *rule in (
                (C, 2.0, 1, 0.0, 2.5, 10.0),
                (R, 1.0, 2, 0.0, 1.75, 15.0),
                (E, 0.5, 3, 0.5, 1.0, 5.0),
            )
            if is_on(level, *rule)  # type: ignore[arg-type]
        ]
        told.append((now, max(on, default=S)))
    after = iter(told)
    levels = [S]
    for _, sample in looks:
        levels.append(levels[-1] if sample is None else next(after)[1])
    return levels[1:]


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


RECORDED = {
    # A compiler's tide beside file pages: three waves, each higher than the one before. The second fall of Caution is
    # followed by a rise ten seconds later, so from then on it stays for a minute.
    "build": [(62, C), (113, S), (124, C), (132, R), (184, S)],
    # 300 MB/s until 0.3 GB are left; all of it given back after 38 seconds.
    "leak": [(14, C), (23, R), (31, E), (48, R), (57, S)],
}


@pytest.mark.parametrize("name", RECORDED)
def test_what_was_recorded_is_told_as_it_was_meant(name: str) -> None:
    """The probe's own looks at its own pace, in a control group of 3 GB that another program filled."""
    lines = (Path(__file__).parent / "traces" / f"{name}.csv").read_text().split()
    rows = [(float(now), int(free), int(pressure)) for now, free, pressure in (line.split(",") for line in lines)]
    trace: Looks = [(now, Sample(free * 10**6, pressure=Level(pressure))) for now, free, pressure in rows]
    seen = fed(trace)
    told = [
        (now, after) for (before, after), (now, _) in zip(pairwise([S, *seen]), trace, strict=True) if after != before
    ]
    assert [(round(now), level) for now, level in told] == RECORDED[name]
    assert seen == as_specified(trace)


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


stays = st.tuples(
    st.sampled_from([0.2, 0.25, 0.5, 1.0, 4.0]),
    st.sampled_from([0.3, 0.499, 0.5, 0.7, 0.999, 1.0, 1.3, 1.75, 1.999, 2.0, 2.3, 2.5, 3.0, None]),
    st.sampled_from([S, S, S, C, R]),
    st.integers(1, 12),
)
"""(seconds between looks, GB available, the kernel's opinion, looks)"""


def looked(parts: list[tuple[float, float | None, Level, int]]) -> Looks:
    now, looks = 0.0, []
    for step, free, pressure, count in parts:
        for _ in range(count):
            now += step
            looks.append((now, None if free is None else Sample(int(free * GB), pressure=pressure)))
    return looks


@given(st.lists(stays, max_size=12).map(looked))
@example(looked([(0.2, 0.3, S, 4)]))  # three looks, but not yet half a second
@example(looked([(1.0, 1.9, S, 1), (1.0, 3.0, S, 12), (4.0, 3.0, S, 9), (1.0, 1.9, S, 1), (4.0, 3.0, S, 16)]))  # a flap
def test_every_transition_is_the_specified_one(looks: Looks) -> None:
    """Values at, just below and between all lines, for moments and for long, with blind spells in between."""
    assert fed(looks) == as_specified(looks)


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
