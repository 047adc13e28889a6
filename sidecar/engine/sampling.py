"""What is sampled with: what the request names, else what the user has set, else what the model's author recommends,
else ours. Pure, but for the author's file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import astuple

from sidecar.conversation import Sampling
from sidecar.frames import SamplingBy


class Settled(NamedTuple):
    """All that samplers take. At the ends of its range (0, 1, 0) a value does nothing but for the temperature, where 0
    is always the likeliest token."""

    temperature: float
    top_p: float
    top_k: int


OURS = Settled(0.0, 1.0, 0)
"""Where nobody names a temperature, not even the model's author: by the rules of generation_config.json that is greedy,
and SmolLM2-135M then answers 14 of 20 questions rightly in 1,141 tokens, at 1 it was 10 in 2,065 (`tests.bench.real`).
"""
THINKING = Settled(0.6, 0.95, 20)
"""The same for models that think: what the makers of Qwen3 and DeepSeek-R1 publish, who warn that greedy thoughts go
round in circles. Theirs, not measured here."""
PLAIN = Settled(1.0, 1.0, 0)
"""Where somebody names a temperature, and nobody the rest: the API's own."""
TOP_K = 50
"""What transformers takes where a file wants sampling and limits it in no way."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where a request names nothing."""

    temperature: float | None
    """The user's; None = not set."""
    recommended: Sampling
    """The author's; None in it = not named."""
    thinks: bool = False
    """Whether the model can think before it answers."""

    def settled(self, asked: Sampling) -> Settled:
        """Every value, each from the first who names it. Ours count only where nobody names a temperature, and the
        request does not choose among what is likely in another way."""
        named = _filled(_filled(asked, Sampling(self.temperature)), self.recommended)
        chooses = bool(asked.top_k) or 0 < (asked.top_p or 0) < 1
        ours = THINKING if self.thinks else OURS
        rest = ours if named.temperature is None and not chooses else PLAIN
        return Settled(*astuple(_filled(named, Sampling(*rest))))

    @property
    def by(self) -> SamplingBy:
        """Who names the temperature."""
        if self.temperature is not None:
            return "user"
        return "ours" if self.recommended.temperature is None else "model"


def _filled(first: Sampling, second: Sampling) -> Sampling:
    pairs = zip(astuple(first), astuple(second), strict=True)
    return Sampling(*(mine if mine is not None else other for mine, other in pairs))


def recommended(path: Path) -> Sampling:
    """What the generation_config.json of a model says, read as transformers does: values it names are meant although
    `do_sample` is left out, since authors forget it whose models go round in circles without them."""
    try:
        config = json.loads((path / "generation_config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return Sampling()
    return _said(config) if isinstance(config, dict) else Sampling()


def _said(config: dict[str, Any]) -> Sampling:
    if config.get("do_sample") is False:
        return Sampling(0.0)
    top_p, top_k = _number(config.get("top_p")), _number(config.get("top_k"))
    named = Sampling(
        _number(config.get("temperature")),
        top_p if top_p is not None and 0 < top_p <= 1 else None,
        int(top_k) if top_k is not None and top_k.is_integer() else None,
    )
    if config.get("do_sample") is True and (named.top_p, named.top_k) == (None, None):
        named = _filled(named, Sampling(top_k=TOP_K))
    return named if named == Sampling() else _filled(named, Sampling(PLAIN.temperature))


def _number(value: Any) -> float | None:
    """A number as samplers take them, from 0 to what half precision holds; None for anything else, and for text:
    authors write null, "0.6" and 50.0 where the file wants another thing or none."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 65504
    return float(value) if known else None
