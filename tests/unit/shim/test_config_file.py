"""config.toml is changed in one line; every other byte, and whatever it means, stays."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.commands import config_file
from shim.commands.config_file import edited
from shim.errors import Failure
from sidecar.shared.config import Config, ConfigError

FILE = "# mine\nmodel   = 'demo'  # the small one\n\ngrace=7\t# s\n# the end"


@pytest.mark.parametrize(
    ("before", "key", "value", "after"),
    [
        ("", "model", "qwen3-4b", 'model = "qwen3-4b"\n'),
        (FILE, "model", "x", FILE.replace("model   = 'demo'", 'model = "x"')),
        (FILE, "grace", 60.0, FILE.replace("grace=7", "grace = 60")),
        (FILE, "grace", None, FILE.replace("grace=7\t# s\n", "")),
        (FILE, "unload", "never", f'{FILE}\nunload = "never"\n'),
        (FILE, "unload", None, FILE),
        ("a = '''\nmodel = 1\n'''\nmodel = 'x'\n", "model", "y", "a = '''\nmodel = 1\n'''\nmodel = \"y\"\n"),
        ("model = 'a # b' # c\r\ngrace = 1\r\n", "model", "z", 'model = "z" # c\r\ngrace = 1\r\n'),
        ("[other]\nx = 1\n", "model", "x", 'model = "x"\n[other]\nx = 1\n'),
        ('"model" = "x"', "model", "y", 'model = "y"'),
        ("grace = 1", "no_install", True, "grace = 1\nno_install = true\n"),
    ],
)
def test_one_line_changes(before: str, key: str, value: config_file.Value | None, after: str) -> None:
    assert edited(before, key, value) == after


def test_what_is_not_understood_is_left_to_its_owner() -> None:
    with pytest.raises(ValueError, match="the line of model"):
        edited('model = """\nx\n"""\n', "model", "y")


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
KEYS = st.dictionaries(st.sampled_from(Config._fields), TEXTS, max_size=4)


@given(table=KEYS, key=st.sampled_from(Config._fields), value=TEXTS, comment=TEXTS)
def test_whatever_the_file_says_all_else_keeps_its_meaning(
    table: dict[str, str], key: str, value: str, comment: str
) -> None:
    before = "".join(f"{name} = {config_file.literal(text)} # {comment}\n" for name, text in table.items())
    after = edited(before, key, value)
    assert tomllib.loads(after) == {**table, key: value}
    assert after.count(f"# {comment}\n") == before.count(f"# {comment}\n")
    assert tomllib.loads(edited(after, key, None)) == {name: text for name, text in table.items() if name != key}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "claude-local" / "config.toml"


def test_a_link_into_dotfiles_stays_one_and_so_does_the_mode(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text(FILE)
    real.chmod(0o640)
    file.parent.mkdir()
    file.symlink_to(real)
    assert config_file.change("model", "qwen3-4b") == file
    assert file.is_symlink() and 'model = "qwen3-4b"  # the small one' in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claude-local", "dotfiles.toml"]


def test_a_setting_that_would_be_wrong_is_not_written(file: Path) -> None:
    config_file.change("grace", 5.0)
    with pytest.raises(ConfigError, match="must fall in this order"):
        config_file.change("memory_critical_gb", 9.0)
    assert file.read_text() == "grace = 5\n"


def test_nothing_is_written_where_nothing_changes(file: Path) -> None:
    config_file.change("model", "demo")
    written = file.stat().st_mtime_ns
    config_file.change("model", "demo")
    assert file.stat().st_mtime_ns == written


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_nothing_is_said(file: Path) -> None:
    file.parent.mkdir(mode=0o500)
    with pytest.raises(Failure, match="Permission denied"):
        config_file.change("model", "demo")
