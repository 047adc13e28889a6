"""The logs as one: whose a line is, in which order, and that following loses none when a log is put aside."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shim.commands.logs import command as word
from shim.commands.logs.log_reader import Line, Reader, Tail, merged, written
from shim.relay import log as relay_log
from shim.terminal import console
from sidecar.shared import log_files

SIDECAR = """\
2026-11-25 14:00:01,500 sidecar.serve serves
2026-11-25 14:00:02,000 engine the engine ends
Traceback (most recent call last):
  ValueError: no
2026-11-25 14:00:04,000 __main__ leaves
"""
PADDING = "." * 100
"""A log is put aside because it is long: longer than what is written to the next before anybody looks."""
RELAY = "2026-11-25 14:00:03 4711 accept: no descriptors\n"


def read(name: str, text: str) -> list[Line]:
    return [*Reader(name).read(text.splitlines())]


def put_aside_by_the_sidecar(file: Path) -> None:
    assert log_files.rotate(file.parent, limit=0) == [file.name]


def put_aside_by_a_relay(file: Path) -> None:
    relay_log._rotate(str(file))
    file.touch()


def test_each_line_has_a_source_and_a_traceback_that_of_its_first() -> None:
    lines = read("sidecar.log", SIDECAR) + read("relay.log", RELAY)
    assert [line.source for line in lines] == ["sidecar", "engine", "engine", "engine", "sidecar", "relay"]
    assert [line.goes_on for line in lines] == [False, False, True, True, False, False]
    assert lines[-1] == Line("2026-11-25 14:00:03", "relay", "4711 accept: no descriptors")


def test_a_line_before_any_time_is_the_files_own() -> None:
    assert read("sidecar.log", "warning: no\n") == [Line("", "sidecar", "warning: no", goes_on=True)]


def test_logs_are_merged_by_time_and_tracebacks_stay_whole() -> None:
    texts = [line.text for line in merged([read("sidecar.log", SIDECAR), read("relay.log", RELAY)])]
    assert texts == [
        "serves",
        "the engine ends",
        "Traceback (most recent call last):",
        "  ValueError: no",
        "4711 accept: no descriptors",
        "leaves",
    ]


def test_what_was_put_aside_comes_first_and_what_is_missing_is_no_error(tmp_path: Path) -> None:
    assert written(tmp_path) == []
    file = tmp_path / "sidecar.log"
    for text in ("one", "two", "three"):
        file.write_text(text + "\n")
        if text != "three":
            put_aside_by_the_sidecar(file)
    assert [line.text for line in written(tmp_path)] == ["one", "two", "three"]


@pytest.mark.parametrize("put_aside", [put_aside_by_the_sidecar, put_aside_by_a_relay])
def test_following_loses_no_line_whichever_way_a_log_is_put_aside(
    tmp_path: Path, put_aside: Callable[[Path], None]
) -> None:
    """Written at every moment: before a look, between a look and the putting aside, after it."""
    file = tmp_path / "relay.log"
    file.write_text("old\n")
    tail, seen = Tail(file), list[str]()

    def add(text: str) -> None:
        with file.open("a") as log:
            log.write(text)

    for number in range(3):
        add(f"a{number}\n")
        seen += [line.text for line in tail.more()]
        add(f"b{number}{PADDING}\nhalf")
        put_aside(file)
        add(f" and half {number}\n")
        seen += [line.text for line in tail.more()]
    tail.close()
    assert seen == [
        text for number in range(3) for text in (f"a{number}", f"b{number}{PADDING}", f"half and half {number}")
    ]


def test_a_line_is_told_once_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.log"
    tail = Tail(file)
    assert tail.more() == []
    file.write_text("2026-11-25 14:00:02,000 engine sp")
    assert tail.more() == []
    with file.open("a") as log:
        log.write("oken\n")
    assert tail.more() == [Line("2026-11-25 14:00:02,000", "engine", "spoken")]
    tail.close()


def test_what_is_logged_cannot_move_the_cursor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sidecar.log").write_text("2026-11-25 10:00:00,123 sidecar \x1b[2Jone\n\ttwo\x07\n")
    word._show(console.console(), written(tmp_path))
    assert capsys.readouterr().out == "2026-11-25 10:00:00,123 sidecar ?[2Jone\n        two?\n"
