"""What hours of samples say: memory's slope, descriptors, and whether that is good enough. Pure."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

SLOPE_LIMIT = 1.0
"""MB/h after warm-up. A process that gains less is under 25 MB after a day."""
DESCRIPTOR_LIMIT = 2.0
"""How many more descriptors than terminals account for may be open in the last third of a life than in the first."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    pid: int
    at: float
    """Seconds since the beginning."""
    mb: float
    """Private memory."""
    descriptors: int
    """Without those that open terminals account for."""


@dataclass(slots=True)
class Tally:
    """What became of the requests, and of everything else that was counted."""

    asked: int = 0
    answered: int = 0
    tries: int = 0
    """Tries that a client makes again: 429, 500, 503, 529, and connections that broke."""
    failed: list[str] = field(default_factory=list)
    """Requests that a client could not make again, or that it gave up after ten tries."""
    abandoned: int = 0
    """Requests whose command or relay was killed: there was nobody to make them again."""
    terminals: int = 0
    not_started: list[str] = field(default_factory=list)
    kills: dict[str, int] = field(default_factory=dict)
    slowest_release_s: float = 0.0
    """From the end of a command to the end of its lease."""
    most_engines: int = 0
    most_sidecars: int = 0

    def killed(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1


def lives(samples: Iterable[Sample]) -> list[list[Sample]]:
    """The samples of each process by itself."""
    found: dict[int, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.pid, []).append(sample)
    return list(found.values())


def after_warm_up(lives: Iterable[Sequence[Sample]], warm_up: float) -> list[list[Sample]]:
    """Each life without its first `warm_up` seconds: caches fill, a heap finds its size."""
    kept = [[sample for sample in life if sample.at - life[0].at >= warm_up] for life in lives if life]
    return [life for life in kept if len(life) > 2]


def slope(lives: Iterable[Sequence[Sample]]) -> float:
    """MB an hour: one line's steepness for all lives, each with a height of its own. NaN when nobody lived long."""
    above = below = 0.0
    for life in lives:
        middle = statistics.fmean(sample.at for sample in life)
        level = statistics.fmean(sample.mb for sample in life)
        above += sum((sample.at - middle) * (sample.mb - level) for sample in life)
        below += sum((sample.at - middle) ** 2 for sample in life)
    return above / below * 3600 if below else float("nan")


def more_descriptors(lives: Iterable[Sequence[Sample]]) -> float:
    """The largest difference between the first and the last third of a life, in medians."""
    gains = [0.0]
    for life in lives:
        third = max(1, len(life) // 3)
        first, last = ([sample.descriptors for sample in part] for part in (life[:third], life[-third:]))
        gains.append(statistics.median(last) - statistics.median(first))
    return max(gains)


def verdict(samples: dict[str, list[Sample]], tally: Tally, left: Sequence[Any], warm_up: float) -> tuple[bool, str]:
    """Whether it held, and the report. `left`: what was still there at the end."""
    lines, good = [], True

    def judge(what: str, figure: str, holds: bool) -> None:
        nonlocal good
        good = good and holds
        lines.append(f"{'ok  ' if holds else 'FAIL'}  {what:46} {figure}")

    for role, taken in samples.items():
        warm = after_warm_up(lives(taken), warm_up)
        gain, hours = slope(warm), sum(life[-1].at - life[0].at for life in warm) / 3600
        steady = gain < SLOPE_LIMIT  # not so when it is NaN: nobody lived long enough to tell
        seen = f"{gain:+.2f} MB/h over {hours:.2f} h of {len(warm)} warm lives"
        judge(f"{role}: memory's slope < {SLOPE_LIMIT:g} MB/h", seen, steady)
        more = more_descriptors(warm)
        judge(f"{role}: descriptors are flat", f"{more:+g}", more <= DESCRIPTOR_LIMIT)
    seen = f"{len(tally.failed)} of {tally.asked} ({tally.answered} answered, {tally.tries} tries made again)"
    judge("requests that a client could not retry", seen, not tally.failed and tally.answered > 0)
    seen = f"{len(tally.not_started)} of {tally.terminals}"
    judge("terminals that did not start", seen, not tally.not_started)
    seen = f"{tally.most_sidecars} and {tally.most_engines}"
    # A sidecar that forks looks like two for a moment, and a successor waits for the one before: engines count.
    judge("most sidecars and engines at once", seen, tally.most_engines == 1)
    judge("slowest release of a lease", f"{tally.slowest_release_s:.3f} s", True)
    judge("left behind", json.dumps(list(left)), not left)
    lines.append(f"      killed: {json.dumps(tally.kills)}; requests abandoned with their terminal: {tally.abandoned}")
    lines += [f"      {text}" for text in (tally.failed + tally.not_started)[:10]]
    return good, "\n".join([*lines, "THE SOAK HELD" if good else "THE SOAK FAILED"])
