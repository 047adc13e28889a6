"""claude-local models: which there are and which fit; one is shown, fetched, removed, or made the default."""

import json
import os
import sys

from shim.commands import config_file, model_inventory
from shim.commands.model_inventory import Item
from shim.commands.models import listing
from shim.commands.parsing import Parser
from shim.errors import UNAVAILABLE, USAGE, Failure, say
from shim.lease.control_client import ask
from shim.lease.request import model_name
from shim.terminal.confirm import agrees, asked
from shim.terminal.console import console, plain, tell
from shim.terminal.progress import Progress, size
from sidecar.models import hub, resolve
from sidecar.models.catalog import ALIASES
from sidecar.models.resolve import ModelUnavailable
from sidecar.shared import config, protocol
from sidecar.shared.config import Config

EXAMPLES = (
    ("claude-local models", "all, and our choice for this machine"),
    ("claude-local models pull qwen3-4b", "fetch it, or go on; check what is there"),
    ("claude-local models show qwen3-4b", "what is known of it"),
    ("claude-local models use qwen3-4b", "the default; without a name: choose"),
    ("claude-local models use ./my-model", "a folder of yours"),
    ("claude-local models rm owner/name", "delete it from this disk"),
)

ACTIONS = ("list", "ls", "show", "pull", "rm", "use")
"""The first two are what is done without any: who comes from elsewhere types them."""


def parser() -> Parser:
    made = Parser("models", EXAMPLES)
    made.add_argument("action", nargs="?", choices=ACTIONS, help="show one, fetch, delete, or make the default")
    made.add_argument("name", nargs="?", metavar="NAME", help="an alias, a hub id (owner/name), or a folder")
    made.add_argument("--yes", action="store_true", help="rm: do not ask")
    made.add_argument("--json", action="store_true", help="the list as one JSON object")
    made.offered["name"] = ("demo", *ALIASES)
    return made


def run(arguments: list[str]) -> int:
    made = parser()
    options = made.parse_intermixed_args(arguments)
    wanted = options.name
    if options.action == "use" and not wanted and sys.stdin.isatty() and sys.stderr.isatty():
        wanted = choose()
        if not wanted:
            tell("the default stays as it is")
            return 0
    if options.action in (None, "list", "ls"):
        if wanted:
            made.error(f"to see one model: claude-local models show {wanted}")
        show(options.json)
        return 0
    if not wanted:
        made.error(f"{options.action} needs the name of a model: an alias, a hub id (owner/name), or a folder")
    try:
        _act(options.action, model_name(wanted), options.yes, options.json)
    except ModelUnavailable as error:
        raise Failure(str(error), error.exit_code) from None
    except hub.HubError as error:
        raise Failure(str(error), USAGE) from None  # the name is none
    return 0


def _act(action: str, name: str, sure: bool, as_json: bool) -> None:
    if action == "pull":
        pull(name)
    elif action == "rm":
        remove(name, sure)
    elif action == "use":
        use(name)
    else:
        show_one(name, as_json)


def pull(name: str) -> None:
    """Make sure that a model is on disk, whole and as the hub has it."""
    if path := resolve.local_path(name):
        tell(f"{name} is on this disk, whole: {size(resolve.inspect(path).weights_bytes)}")
        return
    repository = resolve.repository(name)
    if path := hub.cached(repository):
        say(f"checking what is here of {name} …")
        for file in hub.damaged(path):
            say(f"{file.name} is damaged, and fetched again")
            file.resolve().unlink(missing_ok=True)
            file.unlink()
    progress = Progress(f"downloading {name}", os.isatty(2))
    try:
        files = resolve.resolve(name, progress.show)
    finally:
        progress.finish()
    tell(f"{name} is whole: {files.path}")


def remove(name: str, sure: bool) -> None:
    """Delete a model of the hub from this disk."""
    if resolve.local_path(name):
        raise Failure(f"{name}: not from the hub, so it is not ours to remove", USAGE)
    repository = resolve.repository(name)
    stored = next((each for each in hub.stored() if each.repository == repository), None)
    if stored is None:
        raise Failure(f"{name} is not on this disk. See: claude-local models", UNAVAILABLE)
    model = (ask("GET", protocol.STATUS_PATH) or {}).get("model") or {}
    if model.get("name") and ALIASES.get(model["name"], model["name"]) == repository:
        raise Failure(f"{name} is in memory. First: claude-local stop", UNAVAILABLE)
    if not (sure or agrees(f"remove {repository} ({size(stored.bytes)}), for all programs that use the hub's cache?")):
        raise Failure("nothing was removed", USAGE)
    tell(f"removed {repository}: {size(hub.remove(repository))}")


def use(name: str) -> None:
    """Make a model the default of all terminals that name none."""
    path = resolve.local_path(name)
    if path:
        resolve.inspect(path)
    here = path or model_inventory.snapshot(resolve.repository(name))
    file = config_file.change("model", name)
    tell(f"the default is {name} now ({file})")
    settings = config.load()
    item = next(
        (each for each in model_inventory.items(model_inventory.free_memory(settings), settings) if each.name == name),
        None,
    )
    if item and item.lacking:
        say(f"it needs {size(item.lacking)} more memory than is free now: close something, or use a smaller model")
    if not here:
        tell(f"it is fetched when it is first used, or now: claude-local models pull {name}")
    if os.environ.get("CLAUDE_LOCAL_MODEL", name) != name:
        say(f"CLAUDE_LOCAL_MODEL={os.environ['CLAUDE_LOCAL_MODEL']} is set in this shell, and wins")


def show(as_json: bool) -> None:
    """All models."""
    settings, free, found, chosen = _looked()
    if as_json:
        table = [listing.described(item, settings.model, chosen) for item in found]
        print(
            json.dumps({"free_bytes": free, "default": settings.model, "recommended": chosen or None, "models": table})
        )
        return
    screen = console()
    screen.print(listing.drawn(found, settings.model, chosen, screen.width >= listing.WIDE))
    screen.print("", *listing.marks(found, settings.model, chosen, free), sep="\n", soft_wrap=True)


def show_one(name: str, as_json: bool) -> None:
    """What is known of one model, as it lies on this disk or as it can be had."""
    settings, _, found, chosen = _looked()
    path = resolve.local_path(name)
    item = next((each for each in found if name in (each.name, each.hub)), None)
    if item is None and path:
        item = model_inventory.fitted(
            model_inventory.at(name, path), model_inventory.free_memory(settings), settings, model_inventory.cores()
        )
    if item is None:
        raise Failure(f"{resolve.repository(name)} is not on this disk: claude-local models pull {name}", UNAVAILABLE)
    if as_json:
        print(json.dumps(listing.described(item, settings.model, chosen)))
    else:
        console().print(listing.in_full(item, settings.model, chosen))


def choose() -> str:
    """A name, asked for by number; empty when the user wants none."""
    settings, _, found, chosen = _looked()
    offered = [item for item in found if item.limits]
    for number, item in enumerate(offered, 1):
        notes = [listing.disk(item) or f"fetched first, {size(item.files.weights_bytes)}"]
        notes += ["the default"] * (item.name == settings.model) + ["our choice"] * (item.name == chosen)
        sys.stderr.write(f"{number:>3}  {plain(item.name)}  ({', '.join(notes)})\n")
    return chosen_of([item.name for item in offered], asked("number or name (Enter leaves it as it is): "))


def chosen_of(names: list[str], answer: str) -> str:
    """The name behind a number, or the name that was typed. Pure; raises Failure."""
    if not answer.isdecimal():
        return answer
    if not 1 <= int(answer) <= len(names):
        raise Failure(f"there is no number {answer}: nothing was changed", USAGE)
    return names[int(answer) - 1]


def _looked() -> tuple[Config, int, list[Item], str]:
    """The settings, the memory that is free, all models, and the one that we would use."""
    settings = config.load()
    free = model_inventory.free_memory(settings)
    found = model_inventory.items(free, settings)
    return settings, free, found, model_inventory.choice(found)
