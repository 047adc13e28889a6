"""What words draw on: rich's console, as wide as the terminal, in colour only on one, and never with NO_COLOR."""

from rich.console import Console

PIPED_WIDTH = 120
"""Columns where there is no terminal to ask."""


def console(stderr: bool = False) -> Console:
    """Reads NO_COLOR, FORCE_COLOR, TERM and COLUMNS by itself."""
    made = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


def plain(text: object) -> str:
    """What others have written, in one line that cannot move the cursor."""
    return "".join(each if each.isprintable() or each == "\t" else "?" for each in str(text))
