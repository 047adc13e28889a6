"""The sidecar's start, in parts: its word to whoever waits, and its limit of descriptors."""

import os
import resource

import pytest

from sidecar.serve import DESCRIPTORS, raise_descriptor_limit, say


def test_that_nobody_waits_any_more_does_not_end_it() -> None:
    reader, writer = os.pipe()
    ready = os.fdopen(writer, "w")
    os.close(reader)
    say(ready, "ready")
    assert ready.closed


@pytest.mark.parametrize(
    ("limits", "then"),
    [
        ((256, resource.RLIM_INFINITY), DESCRIPTORS),
        ((256, 1024), 1024),
        ((DESCRIPTORS + 1, DESCRIPTORS + 1), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
    ids=["macos", "hard", "enough", "none"],
)
def test_a_low_limit_of_descriptors_is_raised_as_far_as_it_goes(
    limits: tuple[int, int], then: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, value: said.append((which, value)))
    raise_descriptor_limit()
    assert said == ([(resource.RLIMIT_NOFILE, (then, limits[1]))] if then else [])
