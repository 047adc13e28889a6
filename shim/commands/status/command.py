"""claude-local status: what runs, for people once or live, or as JSON for scripts."""

import json
import os

from shim.commands.parsing import Parser
from shim.commands.status.status_view import overview
from shim.errors import USAGE, Failure
from shim.lease.control_client import ask
from shim.terminal import console
from sidecar.shared import protocol

EXAMPLES = (
    ("claude-local status", "terminals, model, memory, last requests"),
    ("claude-local status --watch", "the same, live; q leaves"),
    ("claude-local status --json", "everything, for scripts"),
)


def parser() -> Parser:
    made = Parser("status", EXAMPLES)
    how = made.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="a live screen, until q or Ctrl-C")
    how.add_argument("--json", action="store_true", help="everything, as one JSON object")
    return made


def run(arguments: list[str]) -> int:
    """That nothing runs is an answer, not a failure."""
    options = parser().parse_args(arguments)
    if options.watch:
        return _watch()
    table = ask("GET", protocol.STATUS_PATH)
    if options.json:
        print(json.dumps({"running": False} if table is None else {"running": True, **table}))
    elif table is None:
        print("nothing runs")
    else:
        console.console().print(overview(table, os.path.expanduser("~")))
    return 0


def _watch() -> int:
    if not (os.isatty(0) and os.isatty(1)):
        raise Failure("status --watch needs a terminal. For scripts: claude-local status --json", USAGE)
    from shim.commands.status import live_view

    return live_view.run(os.path.expanduser("~"))
