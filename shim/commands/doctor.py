"""claude-local doctor: what is wrong on this machine, and how to put it right. It changes nothing."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from rich.table import Table
from rich.text import Text

from shim.commands import model_inventory
from shim.commands.parsing import Parser
from shim.doctor import claude_code, directories, machine, model, network
from shim.doctor.check import Check, Finding, made
from shim.doctor.context import Case, case, homes, user
from shim.doctor.redact import discreet
from shim.global_mode import status
from shim.terminal.console import console
from sidecar import __version__

EXAMPLES = (
    ("claude-local doctor", "every check; fit for a bug report"),
    ("claude-local doctor --quick", "all but an answer of the model"),
    ("claude-local doctor model hub", "these two"),
    ("claude-local doctor --json", "for scripts"),
)

FAILED = 1
"""The exit code where a check fails; warnings are none."""
NAMES = (
    *("platform", "python", "mlx", "openblas", "configuration", "memory", "limits", "disk", "run-directory"),
    *(
        "stale",
        "sidecar",
        "port",
        "global",
        "proxies",
        "settings",
        "claude",
        "hub",
        "model",
        "pace",
        "panics",
        "answer",
    ),
)
WIDTH = max(map(len, NAMES))
SECONDS = 15.0
"""For a check that should take milliseconds: a disk that spins up, a sidecar that is busy."""
STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red"}


def parser() -> Parser:
    made = Parser("doctor", EXAMPLES)
    made.add_argument("check", nargs="*", choices=NAMES, default=(), metavar="CHECK", help=f"of {', '.join(NAMES)}")
    made.add_argument("--quick", action="store_true", help="without the answer of the model")
    made.add_argument("--json", action="store_true", help="one JSON object")
    return made


def run(arguments: list[str]) -> int:
    """Each line as soon as it is known; returns 1 when something does not work."""
    options = parser().parse_args(arguments)
    wanted = [each for each in checks(case()) if each.name in (options.check or NAMES)]
    if options.quick:
        wanted = [each for each in wanted if each.name != "answer"]
    found = [(check.name, safe) for check, safe in _examined(wanted, None if options.json else _Screen())]
    is_well = all(finding.level != "failure" for _, finding in found)
    if options.json:
        table = {"version": __version__, "ok": is_well, "checks": [{"name": n, **f._asdict()} for n, f in found]}
        print(json.dumps(table))
    else:
        print(summary([finding for _, finding in found]))
    return 0 if is_well else FAILED


def summary(found: Sequence[Finding]) -> str:
    """The last line."""
    levels = [finding.level for finding in found]
    failures, warnings = levels.count("failure"), levels.count("warning")
    if not failures and not warnings:
        return "nothing is wrong"
    return f"{failures} {'failure' if failures == 1 else 'failures'}, {warnings} warning{'s' * (warnings != 1)}"


def checks(case: Case, kind: str = sys.platform) -> list[Check]:
    """All of them, in the order in which they are made. Those of another system are left out."""

    @cache
    def known() -> model.Known:
        return model.known(case.model)

    def missing() -> int:
        return 0 if known().files else known().weights

    every: list[tuple[str, Callable[[], Finding], float]] = [
        ("platform", machine.platform, SECONDS),
        ("python", machine.python, SECONDS),
        ("mlx", machine.mlx, machine.DEVICE_S + SECONDS),
        ("openblas", machine.openblas, SECONDS),
        ("configuration", lambda: directories.configuration(case), SECONDS),
        ("memory", lambda: machine.memory(case, known().name, known().files, known().weights), SECONDS),
        ("limits", machine.open_files, SECONDS),
        ("disk", lambda: directories.disk(case, missing()), SECONDS),
        ("run-directory", lambda: directories.run_directory(case), SECONDS),
        ("stale", lambda: directories.stale(case), SECONDS),
        ("sidecar", lambda: directories.sidecar(case), SECONDS),
        ("port", network.port, SECONDS),
        ("global", lambda: network.standing(case), status.ANSWER_S + SECONDS),
        ("proxies", lambda: network.proxies(case), SECONDS),
        ("settings", lambda: claude_code.settings(case), SECONDS),
        ("claude", lambda: claude_code.claude(case), claude_code.VERSION_S + SECONDS),
        ("hub", lambda: network.model_hub(known().repository, known().files is not None), 2 * network.HUB_S + SECONDS),
        ("model", lambda: model.complete(known()), model.HASH_S),
        ("pace", lambda: model.pace(known(), model_inventory.cores()), SECONDS),
        ("panics", machine.panics, SECONDS),
        ("answer", lambda: model.answer(case, known()), model.ANSWER_S + SECONDS),
    ]
    elsewhere = {"openblas"} if kind == "darwin" else {"panics"}
    return [Check(*each) for each in every if each[0] not in elsewhere]


def _examined(wanted: Sequence[Check], screen: "_Screen | None") -> Iterator[tuple[Check, Finding]]:
    """Makes each check, and shows it if somebody looks."""
    names = homes(), user()
    for check in wanted:
        with screen.waiting(check.name) if screen else nullcontext():
            found = made(check)
        found = found._replace(text=discreet(found.text, *names), fix=discreet(found.fix, *names))
        if screen:
            screen.show(check.name, found)
        yield check, found


class _Screen:
    """A line for each check, one beneath it for what to do."""

    def __init__(self) -> None:
        self._console = console()

    def waiting(self, name: str) -> AbstractContextManager[object]:
        """Says what is looked at, on a terminal."""
        return self._console.status(f"looking at {name} …") if self._console.is_terminal else nullcontext()

    def show(self, name: str, found: Finding) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{found.level:<8} {name:<{WIDTH}} {found.text}", soft_wrap=True)
            if found.fix:
                self._console.print(f"{'':8} {'':{WIDTH}} fix: {found.fix}", soft_wrap=True)
            return
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=8)
        grid.add_column(width=WIDTH)
        grid.add_column(overflow="fold")  # not cut: paths and commands are there to be copied
        grid.add_row(Text(found.level, STYLES[found.level]), name, found.text)
        if found.fix:
            grid.add_row("", "", Text(f"fix: {found.fix}", "bold"))
        self._console.print(grid)
