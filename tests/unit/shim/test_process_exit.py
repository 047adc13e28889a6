"""Watching a process, the same on two systems; macOS's calls are stubbed here, and unproven until run there."""

import os
import select
import signal
import types

import pytest

from shim.relay.process_exit import Watch


def test_the_watch_becomes_readable_when_the_process_ends() -> None:
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    watch = Watch(child)
    assert not select.select([watch], [], [], 0)[0]
    os.kill(child, signal.SIGKILL)
    assert select.select([watch], [], [], 20)[0]
    os.waitpid(child, 0)
    os.close(watch.fileno())


def test_a_process_that_is_gone_cannot_be_watched() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert Watch(child).fileno() == -1


def test_on_macos_a_kqueue_waits_for_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    queue = types.SimpleNamespace(control=lambda events, limit: asked.append((events, limit)), fileno=lambda: 42)
    names = {
        "kqueue": lambda: queue,
        "kevent": lambda pid, **rest: (pid, rest),
        "KQ_FILTER_PROC": -5,
        "KQ_EV_ADD": 1,
        "KQ_EV_ONESHOT": 0x10,
        "KQ_NOTE_EXIT": 0x80000000,
    }
    for name, value in names.items():
        monkeypatch.setattr(select, name, value, raising=False)
    assert Watch(4711, platform="darwin").fileno() == 42
    assert asked == [([(4711, {"filter": -5, "flags": 0x11, "fflags": 0x80000000})], 0)]


def test_on_macos_a_process_that_is_gone_cannot_be_watched_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def control(events: object, limit: int) -> None:
        raise ProcessLookupError

    names = {"kqueue": lambda: types.SimpleNamespace(control=control), "kevent": lambda *_, **__: None}
    names |= dict.fromkeys(("KQ_FILTER_PROC", "KQ_EV_ADD", "KQ_EV_ONESHOT", "KQ_NOTE_EXIT"), 0)  # type: ignore[arg-type]
    for name, value in names.items():
        monkeypatch.setattr(select, name, value, raising=False)
    assert Watch(4711, platform="darwin").fileno() == -1
