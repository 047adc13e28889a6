"""Help, man page and README say the same, since they are made from the words' own parsers."""

import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from shim.command_line import OURS
from shim.commands.dispatch import verb
from shim.commands.help import command, manpage, reference
from sidecar.shared.config import Config

README = Path(__file__).parents[3] / "README.md"


def test_the_readme_lists_every_word() -> None:
    """`python -m shim.commands.help.reference README.md` writes the list."""
    text = README.read_text("utf-8")
    assert reference.written(text) == text
    assert all(f"`claude-local {word}" in text for word in OURS)


@pytest.mark.parametrize("word", OURS)
def test_help_for_a_word_is_its_own_help(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    command.run([word])
    said = capsys.readouterr().out
    with pytest.raises(SystemExit):
        verb(word).run(["--help"])
    assert capsys.readouterr().out == said


def test_help_fits_a_terminal_of_eighty_columns() -> None:
    assert [line for line in command.HELP.splitlines() if len(line) > 80] == []
    assert [word for word, summary in OURS.items() if len(summary) > 49] == []


def test_the_man_page_has_everything() -> None:
    page = manpage.roff(reference.entries(), date(2026, 11, 25))
    plain = page.replace("\\-", "-").replace("\\(dq", '"').replace("\\e", "\\").replace("\\&", "")
    for each in reference.entries():
        assert f'.SS "{each.usage}"' in plain.replace("…", "...")
        assert all(flag in plain for option in each.options for flag in option.flags)
        assert all(line in plain for line, _ in each.examples)
    assert all(f"CLAUDE_LOCAL_{name.upper()}" in plain for name in Config._fields)


def test_the_installed_man_page_is_that_of_today() -> None:
    """`python -m shim.commands.help.manpage bin/man/claude-local.1` writes it."""
    installed = README.parent / "bin" / "man" / "claude-local.1"
    assert installed.read_text("utf-8") == manpage.roff(reference.entries())


@pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
def test_mandoc_has_nothing_to_say_of_the_man_page() -> None:
    page = manpage.roff(reference.entries(), date(2026, 11, 25))
    done = subprocess.run(["mandoc", "-Tlint", "-W", "warning"], input=page, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_has_nothing_to_say_of_the_man_page() -> None:
    page = manpage.roff(reference.entries(), date(2026, 11, 25))
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tascii"], input=page, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_argument_is_read_from_its_parser() -> None:
    entry = reference.entry("logs")
    [source] = entry.places
    assert source.choices == ("sidecar", "engine", "relay") and not source.repeated
    follow, lines = entry.options
    assert follow.flags == ("-f", "--follow") and follow.name == ""
    assert lines.name == "N" and not lines.choices
    [check] = reference.entry("doctor").places
    assert check.repeated and "model" in check.choices
