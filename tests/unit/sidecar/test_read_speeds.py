"""The best speed that was seen is remembered, for as long as nobody removes it."""

from pathlib import Path

from sidecar.models.read_speeds import ENOUGH, Speeds


def test_the_best_counts_and_small_differences_are_not_written(tmp_path: Path) -> None:
    file = tmp_path / "data" / "speeds.json"
    speeds = Speeds(file)
    assert speeds.best("m") == 0
    speeds.seen("m", 2 * ENOUGH, 2.0)
    written = file.stat().st_mtime_ns
    speeds.seen("m", 2 * ENOUGH, 20.0)
    speeds.seen("m", 2 * ENOUGH, 1.95)
    assert file.stat().st_mtime_ns == written
    speeds.seen("m", 2 * ENOUGH, 1.0)
    speeds.seen("other", ENOUGH, 1.0)
    assert (Speeds(file).best("m"), Speeds(file).best("other")) == (2 * ENOUGH, ENOUGH)
    assert [each.name for each in file.parent.iterdir()] == ["speeds.json"]


def test_few_tokens_and_no_time_measure_nothing(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path / "speeds.json")
    speeds.seen("m", ENOUGH - 1, 1.0)
    speeds.seen("m", ENOUGH, 0.0)
    assert speeds.best("m") == 0


def test_a_file_that_means_nothing_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    for text in ("", "[]", '{"m": "fast"}', '{"m": null}', "\x00"):
        file.write_text(text)
        assert Speeds(file).best("m") == 0
    Speeds(file).seen("m", ENOUGH, 1.0)
    assert Speeds(file).best("m") == ENOUGH


def test_a_place_that_cannot_be_written_is_borne(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    Speeds(tmp_path / "file" / "speeds.json").seen("m", ENOUGH, 1.0)
