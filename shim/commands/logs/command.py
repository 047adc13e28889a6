"""claude-local logs: what sidecar, engine and relays have written, in the order of time."""

import argparse
import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from shim.commands.logs.log_reader import FILES, SOURCES, Line, Tail, merged, written
from shim.commands.parsing import Parser
from shim.errors import say
from shim.terminal import console as screen
from sidecar.shared import config

EXAMPLES = (
    ("claude-local logs", "the last lines of all logs"),
    ("claude-local logs -f engine", "the engine's, and what is added to them"),
    ("claude-local logs --lines 500", "more lines of all"),
)

LINES = 50
EVERY_S = 0.25
"""Between two looks at files that are followed."""
COLOURS = {"sidecar": "cyan", "engine": "magenta", "relay": "green"}


def parser() -> Parser:
    made = Parser("logs", EXAMPLES)
    made.add_argument("source", nargs="?", choices=SOURCES, metavar="SOURCE", help="sidecar, engine or relay; else all")
    made.add_argument("-f", "--follow", action="store_true", help="go on with what is added, until Ctrl-C")
    made.add_argument(
        "-n", "--lines", type=_count, default=LINES, metavar="N", help=f"the last N lines (else {LINES}); 0 = none"
    )
    return made


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    folder, sources = config.load().logs, (options.source,) if options.source else SOURCES
    console = screen.console()
    # Tails first: what is written in between is better seen twice than never.
    tails = [Tail(folder / name) for name in FILES]
    lines = [line for line in written(folder) if line.source in sources]
    if not lines and not options.follow:
        say(f"nothing has been logged yet in {folder}")
    _show(console, lines[len(lines) - options.lines :] if options.lines < len(lines) else lines)
    while options.follow:
        _show(console, [line for line in merged(tail.more() for tail in tails) if line.source in sources])
        time.sleep(EVERY_S)
    return 0


def _show(console: Console, lines: Iterable[Line]) -> None:
    for line in lines:
        text = screen.plain(line.text)
        shown = Text(text)
        if not line.goes_on:
            shown = Text.assemble((line.stamp, "dim"), " ", (f"{line.source:<7}", COLOURS[line.source]), " ", text)
        console.print(shown, soft_wrap=True)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of lines")
    return int(text)
