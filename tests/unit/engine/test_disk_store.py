"""Prefixes on disk: found again by another process, private, and never trusted when they are not whole."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.engine.cache import disk_store
from sidecar.engine.cache.disk_store import AGE_S, Disk, open_disk
from sidecar.engine.cache.prefix_cache import PrefixCache
from tests.unit.engine.test_prefix_cache import KINDS, LOTS, NewCache, full, held, recurrent, row, tokens

SIGN = b"0123456789abcdef"
LONG = list(range(1000))


def opened(folder: Path, kind: NewCache = full, limit: int = LOTS, budget: int = LOTS, block: int = 256) -> PrefixCache:
    """As a new process would."""
    return PrefixCache(budget, kind, Disk(folder, SIGN, limit), block=block)


def written(prefixes: PrefixCache) -> PrefixCache:
    while prefixes.unwritten:
        prefixes.write()
    return prefixes


def filled(folder: Path, kind: NewCache = full, said: tuple[list[int], ...] = (LONG,)) -> PrefixCache:
    prefixes = opened(folder, kind)
    for conversation in said:
        prefixes.add(conversation, row(kind, conversation))
    return written(prefixes)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(said=st.lists(tokens, min_size=1, max_size=6), asked=st.lists(tokens, max_size=3))
def test_another_process_finds_the_same(
    tmp_path_factory: pytest.TempPathFactory, kind: NewCache, said: list[list[int]], asked: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("disk") / "model"
    before = opened(folder, kind, block=4)
    for number, conversation in enumerate(said):
        before.add(conversation, row(kind, conversation))
        if number % 2:
            written(before)
    written(before)
    after = opened(folder, kind, block=4)
    for wanted in [*said, *asked]:
        assert after.match([*wanted, 0]) == before.match([*wanted, 0])
        found = after.find([*wanted, 0])
        assert (found.cache is None) == (found.length == 0)
        if found.cache:
            assert held(found.cache) == held(row(kind, wanted[: found.length]))
    before.shed(0)  # what was found has come into memory, to the byte
    for wanted in [*said, *asked]:
        before.find([*wanted, 0])
    assert (before.nbytes, before.nodes) == (after.nbytes, after.nodes)


def test_what_comes_from_disk_is_counted_once(tmp_path: Path) -> None:
    filled(tmp_path / "m")
    prefixes = opened(tmp_path / "m")
    assert prefixes.nbytes == 0
    first, second = prefixes.find([*LONG, 5]), prefixes.find([*LONG[:300], 5])
    assert (first.length, first.from_disk, second.length, second.from_disk) == (1000, 1000, 300, 0)


def test_what_does_not_fit_into_memory_is_found_all_the_same(tmp_path: Path) -> None:
    filled(tmp_path / "m")
    prefixes = opened(tmp_path / "m", budget=1000)
    for _ in range(2):
        found = prefixes.find([*LONG, 5])
        assert found.cache and held(found.cache) == held(row(full, LONG))
        assert (found.from_disk, prefixes.nbytes) == (1000, 0)


def test_forgetting_in_memory_keeps_what_is_on_disk(tmp_path: Path) -> None:
    prefixes = filled(tmp_path / "m")
    prefixes.shed(0)
    assert prefixes.nbytes == 0 and prefixes.match([*LONG, 5]) == 1000
    prefixes.clear()
    assert prefixes.match([*LONG, 5]) == 0 and not files(tmp_path / "m")


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    filled(tmp_path / "m")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "m").iterdir()} == {0o600}


def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = tmp_path / "weights"
    model.mkdir()
    (model / "config.json").write_text("{}")
    disk = open_disk(tmp_path / "cache", LOTS, model, "m", "")
    assert disk is not None
    disk.folder.chmod(0o755)
    assert open_disk(tmp_path / "cache", LOTS, model, "m", "") is None
    assert "memory alone" in caplog.text


def cut_short(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def one_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def another_models(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(SIGN.hex().encode(), b"f" * 32))


def of_another_format(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b'"format":"1"', b'"format":"0"'))


def other_tokens(file: Path) -> None:
    data = file.read_bytes()
    at = data.index(b'"tokens":"') + 10
    file.write_bytes(data[:at] + b"BBBB" + data[at + 4 :])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def no_header(file: Path) -> None:
    file.write_bytes(b"\xff" * 200)


def a_link(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


@pytest.mark.parametrize(
    "harm", [cut_short, one_bit, another_models, of_another_format, other_tokens, empty, no_header, a_link]
)
def test_a_file_that_cannot_be_trusted_is_dropped(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """With what comes behind it; what comes before it stays."""
    filled(tmp_path / "m")
    [second] = [file for file in files(tmp_path / "m") if _start(file) == 256]
    harm(second)
    prefixes = opened(tmp_path / "m")
    found = prefixes.find([*LONG, 5])
    assert found.length == 256
    assert found.cache and held(found.cache) == held(row(full, LONG[:256]))
    assert not second.exists() and len(files(tmp_path / "m")) == 1


def _start(file: Path) -> int:
    data = file.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return int(header["__metadata__"]["start"])


def test_a_file_that_vanishes_is_read_again_by_the_model(tmp_path: Path) -> None:
    prefixes = filled(tmp_path / "m")
    prefixes.shed(0)
    for file in (tmp_path / "m").iterdir():
        file.unlink()
    (tmp_path / "m").rmdir()
    assert prefixes.find([*LONG, 5]).length == 0
    prefixes.add(LONG, row(full, LONG))
    written(prefixes)
    assert opened(tmp_path / "m").match([*LONG, 5]) == 1000


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    filled(tmp_path / "m")
    (tmp_path / "m" / "0.12.part").write_bytes(b"half")
    (tmp_path / "m" / "notes.txt").write_text("not ours")
    assert opened(tmp_path / "m").match([*LONG, 5]) == 1000
    assert [file.name for file in (tmp_path / "m").iterdir() if file.suffix in (".part", ".txt")] == ["notes.txt"]


def test_a_longer_piece_takes_the_place_of_a_shorter_one(tmp_path: Path) -> None:
    prefixes = filled(tmp_path / "m", full, (LONG[:100],))
    prefixes.add(LONG[:200], row(full, LONG[:200]))
    written(prefixes)
    assert prefixes.disk and len(files(tmp_path / "m")) == prefixes.disk.count == 1
    assert opened(tmp_path / "m").match([*LONG, 5]) == 200


def test_the_least_recently_used_files_go_first(tmp_path: Path) -> None:
    old, new = [1, *LONG], [2, *LONG]
    filled(tmp_path / "m", full, (old, new))
    size = sum(file.stat().st_size for file in files(tmp_path / "m"))
    prefixes = opened(tmp_path / "m", limit=size)
    prefixes.find([*old, 5])
    newest = [3] * 300
    prefixes.add(newest, row(full, newest))
    kept = written(prefixes).disk
    assert kept and kept.used == sum(file.stat().st_size for file in files(tmp_path / "m")) <= size
    again = opened(tmp_path / "m")
    assert again.match([*old, 5]) == len(old) and again.match([*newest, 5]) == 300
    assert again.match([*new, 5]) < len(new)


def test_there_are_never_more_files_than_a_start_can_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_store, "FILES", 20)
    prefixes = opened(tmp_path / "m")
    for first in range(100):
        prefixes.add([first, 7], row(full, [first, 7]))
        written(prefixes)
        assert len(files(tmp_path / "m")) <= 20
    prefixes.shed(0)  # what is on disk no more is not held in the tree either
    known = [first for first in range(100) if prefixes.match([first, 7, 5])]
    assert known == [*range(100 - len(files(tmp_path / "m")), 100)] and len(known) >= 19


def test_what_was_not_used_for_a_month_goes(tmp_path: Path) -> None:
    filled(tmp_path / "m")
    for file in files(tmp_path / "m"):
        os.utime(file, (file.stat().st_atime, file.stat().st_mtime - AGE_S - 60))
    assert opened(tmp_path / "m").match([*LONG, 5]) == 0
    assert not files(tmp_path / "m")


def test_a_full_disk_is_told_once_and_nothing_else_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefixes = opened(tmp_path / "m")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mx, "save_safetensors", full_disk)
    for first in (1, 2):
        prefixes.add([first, *LONG], row(full, [first, *LONG]))
        written(prefixes)
    assert prefixes.match([1, *LONG, 5]) == 1001
    assert len(caplog.records) == 1 and "the disk is full" in caplog.text
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["about.json"]


def test_costly_keys_and_values_are_written_in_eight_bit(tmp_path: Path) -> None:
    """As many bytes for a token as Phi-3's, in one layer."""
    from mlx_lm.models.cache import KVCache

    def costly() -> list[KVCache]:
        return [KVCache()]

    cache = costly()
    keys = mx.random.normal((1, 1024, 10, 96)).astype(mx.float16)
    cache[0].update_and_fetch(keys, keys)
    prefixes = PrefixCache(LOTS, costly, Disk(tmp_path / "m", SIGN, LOTS, pack=True))
    prefixes.add(LONG[:10], cache)
    written(prefixes)
    [file] = files(tmp_path / "m")
    assert file.stat().st_size < 0.6 * prefixes.nbytes
    found = opened(tmp_path / "m", costly).find([*LONG[:10], 5])
    assert found.cache and found.cache[0].keys.dtype == mx.float16
    off = np.abs(np.asarray(found.cache[0].keys[:, :, :10]) - np.asarray(keys)).max()
    assert 0 < off < 0.03


def test_a_model_whose_rows_need_a_state_is_resumed_at_one(tmp_path: Path) -> None:
    filled(tmp_path / "m", recurrent, (LONG[:300], LONG[:700]))
    prefixes = opened(tmp_path / "m", recurrent)
    found = prefixes.find(LONG[:600])
    assert (found.length, found.from_disk) == (300, 300)
    assert found.cache and held(found.cache) == held(row(recurrent, LONG[:300]))


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    model = tmp_path / "weights"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"x" * 100)
    first = open_disk(tmp_path / "cache", LOTS, model, "m", "")
    os.utime(model / "model.safetensors", (1, 1))
    second = open_disk(tmp_path / "cache", LOTS, model, "m", "")
    third = open_disk(tmp_path / "cache", LOTS, model, "m", "quantised")
    assert first and second and third
    assert len({first.folder, second.folder, third.folder}) == 3
    assert first.limit <= LOTS


def test_in_a_hurry_the_newest_state_of_each_conversation_is_written_first(tmp_path: Path) -> None:
    """A model that keeps only its last state finds nothing of a prompt without it, whatever else of it was written."""
    prefixes = opened(tmp_path / "m", recurrent)
    other = list(range(5000, 5600))
    for conversation in (other, LONG):
        for end in range(200, len(conversation) + 1, 200):  # as it is read, with a state at each checkpoint
            prefixes.add(conversation[:end], row(recurrent, conversation[:end]))
    prefixes.hurry()
    while len(files(tmp_path / "m")) != 6:  # five blocks of tokens and one state
        prefixes.write()
    assert opened(tmp_path / "m", recurrent).match([*LONG, 5]) == 1000
    assert opened(tmp_path / "m", recurrent).match([*other, 5]) == 0
    written(prefixes)
    assert opened(tmp_path / "m", recurrent).match([*other, 5]) == 600


def test_in_a_hurry_no_more_is_written_than_the_disk_may_keep(tmp_path: Path) -> None:
    said = [[*range(start, start + 500)] for start in (0, 1000, 2000, 3000)]
    prefixes = opened(tmp_path / "m", limit=LOTS)
    for conversation in said:
        prefixes.add(conversation, row(full, conversation))
    assert prefixes.disk is not None
    prefixes.disk.limit = int(2.5 * prefixes.nbytes / 4)
    prefixes.hurry()
    written(prefixes)
    kept = [opened(tmp_path / "m").match([*each, 5]) for each in said]
    assert kept[0] == 0 and kept[2:] == [500, 500]


def test_what_the_disk_has_no_room_for_is_tried_once(tmp_path: Path) -> None:
    """Else an engine that nobody asks for anything would write the same piece for ever."""
    prefixes = opened(tmp_path / "m", limit=1000)
    prefixes.add(LONG, row(full, LONG))
    for _ in range(20):
        prefixes.write()
    assert not prefixes.unwritten and prefixes.match([*LONG, 5]) == 1000


def test_a_clock_that_was_put_back_makes_nothing_on_disk_newer_than_what_is_read_now(tmp_path: Path) -> None:
    filled(tmp_path / "m")
    for file in files(tmp_path / "m"):
        os.utime(file, (4e9, 4e9))
    prefixes = opened(tmp_path / "m")
    assert prefixes.match([*LONG, 5]) == 1000
    assert all(node.rank < 0 for node in prefixes._root.below() if node.file)
