"""Logs are put aside when they have grown, five deep, and a full disk is no reason to fail."""

import io
import logging
from pathlib import Path

from sidecar.shared import log_files
from sidecar.shared.log_files import KEPT, rotate


def test_a_log_moves_down_one_place_at_a_time_and_the_oldest_goes(tmp_path: Path) -> None:
    for turn in range(KEPT + 3):
        (tmp_path / "relay.log").write_text(str(turn) * 11)
        assert rotate(tmp_path, limit=10) == ["relay.log"]
    assert (tmp_path / "relay.log").read_text() == ""
    (tmp_path / "relay.log").unlink()
    kept = {file.name: file.read_text()[0] for file in tmp_path.iterdir()}
    assert kept == {f"relay.log.{number}": str(KEPT + 3 - number) for number in range(1, KEPT + 1)}


def test_a_small_log_stays(tmp_path: Path) -> None:
    (tmp_path / "sidecar.log").write_text("x" * 10)
    assert rotate(tmp_path, limit=10) == []
    assert rotate(tmp_path / "no such directory") == []


def test_whoever_has_the_log_open_goes_on_in_it(tmp_path: Path) -> None:
    """The engine's stderr is the sidecar's: with a file renamed under it, it would write to an old one for ever."""
    with (tmp_path / "sidecar.log").open("ab", buffering=0) as engine:
        engine.write(b"x" * 11)
        assert rotate(tmp_path, limit=10) == ["sidecar.log"]
        engine.write(b"later")
    assert (tmp_path / "sidecar.log").read_bytes() == b"later"
    assert (tmp_path / "sidecar.log.1").read_bytes() == b"x" * 11
    assert (tmp_path / "sidecar.log.1").stat().st_mode & 0o777 == 0o600


def test_a_message_is_one_line_without_anything_that_a_terminal_obeys() -> None:
    """Names of tools and patterns of schemas reach the log as somebody else has written them."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(log_files.Formatter("%(name)s %(message)s"))
    log = logging.Logger("engine")
    log.addHandler(handler)
    log.warning("tool %s: %s", "a\x1b[2J", "^\n2026-01-01 00:00:00,000 engine made up\x9b\u2028$")
    try:
        raise ValueError("b\x1b[31m\nc")
    except ValueError:
        log.exception("it ends")
    lines = stream.getvalue().split("\n")
    assert lines[0] == r"engine tool a\x1b[2J: ^\n2026-01-01 00:00:00,000 engine made up\x9b\u2028$"
    assert lines[1] == "engine it ends" and lines[2].startswith("Traceback")
    assert lines[-3:] == [r"ValueError: b\x1b[31m", "c", ""]
