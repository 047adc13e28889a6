"""What a folder's prompts begin with is known again after a restart, and a torn file is no loss."""

import stat
from pathlib import Path

import pytest

from sidecar.engine.cache.folder_prompts import PLACES, Places

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


def test_a_folder_is_known_again_from_disk_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    Places(tmp_path).learn(KEY, [1, 2, 70_000])
    [file] = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Places(tmp_path).find(KEY) == [1, 2, 70_000]
    assert Places(tmp_path).find(OTHER) is None


def test_the_last_beginning_counts(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.learn(KEY, [1, 2])
    places.learn(KEY, [3])
    assert places.find(KEY) == Places(tmp_path).find(KEY) == [3]


@pytest.mark.parametrize("damage", [b"", b"short", bytes(64)])
def test_a_torn_file_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    Places(tmp_path).learn(KEY, [1, 2, 3])
    [file] = tmp_path.iterdir()
    file.write_bytes(damage)
    assert Places(tmp_path).find(KEY) is None


def test_without_a_disk_it_is_known_while_the_engine_lives() -> None:
    places = Places()
    places.learn(KEY, [1, 2])
    assert places.find(KEY) == [1, 2]
    assert Places().find(KEY) is None


def test_a_disk_that_refuses_leaves_memory(tmp_path: Path) -> None:
    places = Places(tmp_path / "absent" / "too")
    places.learn(KEY, [1, 2])
    assert places.find(KEY) == [1, 2]


def test_only_the_last_folders_are_remembered_and_all_can_be_forgotten(tmp_path: Path) -> None:
    places = Places(tmp_path)
    for index in range(PLACES + 5):
        places.learn(f"{index:016x}", [index])
    assert len([*tmp_path.iterdir()]) == PLACES
    places.clear()
    assert not [*tmp_path.iterdir()] and places.find(f"{PLACES:016x}") is None


def test_a_key_is_never_a_path(tmp_path: Path) -> None:
    Places(tmp_path).learn("../../etc/passwd", [1])
    assert not [*tmp_path.iterdir()]
