"""What words draw on: rich's console, as wide as the terminal, in colour only on one, and never with NO_COLOR.

What others have written (names of folders and models, a model's words) cannot move the cursor or change the terminal.
"""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from shim.errors import folded, harmless

PIPED_WIDTH = 120
"""Columns where there is no terminal to ask."""


class _Screen(Console):
    """All that is drawn comes through here."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(lines(segment.text), segment.style)


def console(stderr: bool = False) -> Console:
    """Reads NO_COLOR, FORCE_COLOR, TERM and COLUMNS by itself."""
    made = _Screen(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = PIPED_WIDTH
    return made


def tell(text: str) -> None:
    """A sentence on stdout, in lines of whole words on a terminal."""
    print(folded(lines(text), 1))


def plain(text: object) -> str:
    """What others have written, in one line."""
    return lines(str(text).replace("\n", "?"))


def lines(text: str) -> str:
    """What others have written, in its lines."""
    return harmless(text)
