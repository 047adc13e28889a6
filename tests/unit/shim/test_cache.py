"""The list of what lies on disk: counted by file names alone, and nothing but our own is ever erased."""

import json
import os
from pathlib import Path

from shim.commands.cache import Kept, describe, erase, found
from shim.terminal.format import size

A, B, C = "a" * 32, "b" * 32, "c" * 32
ROOT, SUM = "0" * 32, "12345678"


def folder(place: Path, name: str, model: str, *names: str) -> Path:
    (place / name).mkdir(parents=True)
    (place / name / "about.json").write_text(json.dumps({"model": model}))
    for each in names:
        (place / name / each).write_bytes(b"x" * 1000)
        os.utime(place / name / each, (5000, 5000))
    return place / name


def test_a_prefix_is_where_no_other_piece_goes_on(tmp_path: Path) -> None:
    pieces = (f"{A}-{ROOT}", f"{B}-{A}", f"{C}-{A}")
    names = [f"{each}-{SUM}.block.safetensors" for each in pieces] + [f"{ROOT}-{B}-{SUM}.state.safetensors"]
    folder(tmp_path, A, "phi", *names)
    [kept] = found(tmp_path)
    assert (kept.model, kept.prefixes, kept.used) == ("phi", 2, 5000)
    assert kept.bytes == 4000 + len(json.dumps({"model": "phi"}))


def test_the_latest_comes_first_and_an_unknown_one_has_its_folders_name(tmp_path: Path) -> None:
    folder(tmp_path, A, "old")
    (folder(tmp_path, B, "new", f"{A}-{ROOT}-{SUM}.block.safetensors") / "about.json").write_text("{")
    assert [kept.model for kept in found(tmp_path)] == [B, "old"]


def test_where_nothing_is_nothing_is_found_or_erased(tmp_path: Path) -> None:
    assert found(tmp_path / "nowhere") == [] and erase(tmp_path / "nowhere") == 0
    assert describe([], 0) == "nothing is kept on disk"


def test_only_our_own_is_erased(tmp_path: Path) -> None:
    folder(tmp_path / "place", A, "phi", f"{A}-{ROOT}-{SUM}.block.safetensors")
    other = folder(tmp_path / "elsewhere", B, "theirs", "file")
    (tmp_path / "place" / B).symlink_to(other)
    (tmp_path / "place" / "photos").mkdir()
    assert erase(tmp_path / "place") > 1000
    assert sorted(each.name for each in (tmp_path / "place").iterdir()) == [B, "photos"]
    assert (other / "file").exists()


def test_the_table_has_a_sum_and_tells_the_time_as_people_do() -> None:
    lines = describe([Kept("phi", 2, 3_000_000_000, 1000), Kept("demo", 10, 4_000_000, 0)], 1000 + 7200).splitlines()
    assert [line.split() for line in lines] == [
        ["model", "prefixes", "size", "last", "used"],
        ["phi", "2", "3.00", "GB", "2", "hours", "ago"],
        ["demo", "10", "4.0", "MB", "never"],
        ["in", "all", "12", "3.00", "GB"],
    ]
    assert size(99_000_000) == "99.0 MB"
