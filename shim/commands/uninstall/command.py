"""claude-local uninstall: everything of ours goes, but for the program itself."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from shim.commands import global_mode, stop
from shim.commands.parsing import Parser
from shim.commands.uninstall import installed_files
from shim.commands.uninstall.installed_files import Belonging
from shim.errors import IO_ERROR, USAGE, Failure
from shim.global_mode import port_holders
from shim.global_mode.settings_file import Settings
from shim.global_mode.state import Folder
from shim.lease import attach
from shim.lease.control_client import SECONDS, ask, directory
from shim.terminal import console
from shim.terminal.confirm import agrees
from shim.terminal.format import size
from sidecar.models import hub
from sidecar.models.catalog import MODELS
from sidecar.shared import config, protocol, run_directory

EXAMPLES = (
    ("claude-local uninstall --dry-run", "what would go, and how big it is"),
    ("claude-local uninstall", "the same, and a question first"),
    ("claude-local uninstall --all --models --yes", "and more, unasked"),
)

PUBLISHER = "mlx-community/"
"""Whose models nobody but programs like ours can use."""


def parser() -> Parser:
    made = Parser("uninstall", EXAMPLES)
    made.add_argument("--all", action="store_true", help="config.toml as well")
    made.add_argument("--models", action="store_true", help="downloaded models as well")
    made.add_argument("--dry-run", action="store_true", help="only say what would go")
    made.add_argument("--yes", action="store_true", help="do not ask")
    return made


def run(arguments: list[str]) -> int:
    options, settings = parser().parse_args(arguments), config.load()
    run_dir, folder = directory(), Folder(settings.data.absolute() / "global")
    places = installed_files.places(settings, run_dir.path)
    if options.all:
        places.append(installed_files.configuration())
    found, models = installed_files.found(places), _models() if options.models else []
    if not options.all and config.config_file().exists():
        console.tell(f"{config.config_file()} stays, unless you say --all")
    if not found and not models:
        console.tell("there is nothing of claude-local on this disk but the program")
        installed_files.tidy(places)
        return 0
    console.console().print(listed(found, models))
    preferences = Settings(folder.journal)
    for line in warnings(preferences.path if preferences.is_known else "", found):
        print(line)
    if options.dry_run:
        return 0
    if not options.yes and not agrees("remove all of this?"):
        raise Failure("nothing was removed", USAGE)
    if folder.state.exists() or folder.journal.exists():
        global_mode.off(folder)
    stop.run(["--now"])
    _wait_for_the_end(run_dir)
    try:
        # Looked for again: what has just ended may have written its last.
        installed_files.remove(installed_files.found(places))
        for model in models:
            hub.remove(model.repository)
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", IO_ERROR) from None
    for kept in installed_files.tidy(places):
        console.tell(f"{kept} stays: it holds something that is not ours")
    print(farewell(Path(__file__).resolve().parents[3]))
    return 0


def listed(found: Sequence[Belonging], models: Sequence[hub.Stored]) -> Table:
    """What goes, and how big it is. Pure."""
    shown = Table(box=None, pad_edge=False, show_edge=False)
    for name in ("WHAT", "WHERE"):
        shown.add_column(name, overflow="fold")
    shown.add_column("SIZE", justify="right", no_wrap=True)
    for (what, where), count in grouped(found).items():
        shown.add_row(what, str(where), size(count))
    for model in models:
        shown.add_row("model", model.repository, size(model.bytes))
    shown.add_row("in all", "", size(sum(each.bytes for each in found) + sum(each.bytes for each in models)))
    return shown


def grouped(found: Sequence[Belonging]) -> dict[tuple[str, Path], int]:
    """Bytes by kind and folder: nobody wants to read the name of each log. Pure."""
    sums: dict[tuple[str, Path], int] = {}
    kinds = [each.what for each in found]
    for each in found:
        where = each.path if kinds.count(each.what) == 1 else each.path.parent
        sums[each.what, where] = sums.get((each.what, where), 0) + each.bytes
    return sums


def warnings(edited: str, found: Sequence[Belonging]) -> list[str]:
    """What somebody should know before they say yes. `edited`: the settings file that global mode wrote, if any."""
    lines = [f"{each.path} is a link: it goes, what it points to stays" for each in found if each.is_link]
    if edited:
        units = [str(file) for holder in (port_holders.Systemd(), port_holders.Launchd()) for file in holder.files()]
        lines.append(f"Global mode is turned off, {edited} is put back" + "".join(f", {file} goes" for file in units))
    leases = (ask("GET", protocol.STATUS_PATH) or {}).get("leases") or []
    if commands := [str(lease.get("command")) for lease in leases if lease.get("strong")]:
        lines.append(f"The sidecar ends, and with it the model of: {', '.join(commands)}")
    return lines


def farewell(root: Path) -> str:
    """How the program itself is removed. Pure but for a look at where it lies."""
    if (root / "bin" / "claude-local").exists():
        return f"All of it is gone but the program: delete {root}, and links to it"
    return "All of it is gone but the program: pipx uninstall claude-local, or what it was installed with"


def _models() -> list[hub.Stored]:
    """Models that nobody else has fetched: those with a short name of ours, and what is made for mlx alone."""
    ours = {model.hub for model in MODELS.values()}
    return [each for each in hub.stored() if each.repository in ours or each.repository.startswith(PUBLISHER)]


def _wait_for_the_end(run_dir: run_directory.RunDirectory) -> None:
    limit = time.monotonic() + SECONDS
    while (pid := attach.holder(run_dir)) is not None:
        if time.monotonic() > limit:
            raise Failure(f"sidecar {pid} does not end: kill -9 {pid}, then try again")
        time.sleep(0.02)
