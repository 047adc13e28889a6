"""How a word's arguments are read: argparse, with our errors (one line, the nearest right word) and our help."""

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

from shim.command_line import OURS
from shim.errors import USAGE, Failure

Examples = Sequence[tuple[str, str]]
"""Command lines, and what each does."""
COLUMNS = 80


class Parser(argparse.ArgumentParser):
    """The parser of one word. An error is a Failure."""

    def __init__(self, word: str, examples: Examples) -> None:
        super().__init__(
            prog=f"claude-local {word}",
            description=f"{OURS[word][0].upper()}{OURS[word][1:]}.",
            epilog=listed(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.offered: dict[str, tuple[str, ...]] = {}
        """For completion, by argument: values that are good although they are not the only ones."""
        self.following: dict[str, dict[str, tuple[str, ...]]] = {}
        """The same for an argument whose values depend on the word before it: by that word."""

    def error(self, message: str) -> NoReturn:
        close = nearest(message, self.spelled())
        if close:
            message = re.sub(r" \(choose from .*\)", "", message)
        raise Failure(f"{message}{close}. See: {self.prog} --help", USAGE)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """argparse refuses () too, the absence of words that may be absent."""
        if value != ():
            super()._check_value(action, value)

    def spelled(self) -> list[str]:
        """Every word that it knows by name: options, choices, words of its own."""
        return [name for action in self._actions for name in (*action.option_strings, *(action.choices or ()))]


def nearest(message: str, known: Sequence[str]) -> str:
    """`, did you mean X?` where the word that argparse complains of is nearly one that it knows."""
    match = re.search(r"unrecognized arguments: (\S+)|invalid choice: '([^']*)'", message)
    close = difflib.get_close_matches((match[1] or match[2]) if match else "", known, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def listed(examples: Examples) -> str:
    """Examples as help shows them: in two columns, or, where these are too wide for a terminal, in two lines each."""
    width = max((len(line) for line, _ in examples), default=0)
    lines = [f"  {line:<{width}}  {purpose}" for line, purpose in examples]
    if max(map(len, lines), default=0) > COLUMNS:
        lines = [f"  {line}\n      {purpose}" for line, purpose in examples]
    return "\n".join(["examples:", *lines])
