"""What each word takes, read from its own parser: the one source of completions, man page and README's list.

`python -m shim.commands.help.reference README.md` writes that list.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from shim.command_line import OURS
from shim.commands.dispatch import verb
from shim.commands.parsing import Parser

BEGIN, END = "<!-- words: written by python -m shim.commands.help.reference README.md -->", "<!-- end of words -->"


class Option(NamedTuple):
    """An option, or an argument that has a place instead of flags."""

    name: str
    """Of its value; empty = it takes none."""
    help: str
    flags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    """What the value may be; empty = anything."""
    offered: tuple[str, ...] = ()
    """What it may be among others: names of models, beside folders."""
    repeated: bool = False
    following: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """What it may be behind which word."""


class Entry(NamedTuple):
    """One word."""

    word: str
    summary: str
    usage: str
    """As it is typed, on one line."""
    options: tuple[Option, ...]
    places: tuple[Option, ...]
    examples: Sequence[tuple[str, str]]


def entries() -> list[Entry]:
    """All words, in the order of help."""
    return [entry(word) for word in OURS]


def entry(word: str) -> Entry:
    module = verb(word)
    parser: Parser = module.parser()
    read = [_read(action, parser) for action in parser._actions if action.dest != "help"]
    usage = re.sub(r"\s+", " ", parser.format_usage().removeprefix("usage: ").replace("[-h]", "")).strip()
    options, places = [each for each in read if each.flags], [each for each in read if not each.flags]
    return Entry(word, OURS[word], usage, tuple(options), tuple(places), module.EXAMPLES)


def _read(action: argparse.Action, parser: Parser) -> Option:
    takes_none = action.nargs == 0
    choices = tuple(map(str, action.choices or ()))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    name = "" if takes_none else metavar or ("|".join(choices) or action.dest.upper())
    help_text = (action.help or "") % {"default": action.default}
    offered, following = parser.offered.get(action.dest, ()), tuple(parser.following.get(action.dest, {}).items())
    flags, repeated = tuple(action.option_strings), action.nargs in ("*", "+")
    return Option(name, help_text, flags, choices, offered, repeated, following)


def markdown(words: Iterable[Entry]) -> str:
    """A table: what is typed, what it does, and its options."""
    rows = [f"| `{_cell(each.usage)}` | {_cell(each.summary)} | {_options(each)} |" for each in words]
    return "\n".join(["| Typed | What it does | Options |", "|---|---|---|", *rows])


def _options(each: Entry) -> str:
    return _cell("; ".join(f"`{', '.join(option.flags)}`: {option.help}" for option in each.options))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def written(readme: str) -> str:
    """The README with the list of today."""
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{markdown(entries())}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(written(file.read_text("utf-8")), "utf-8")
