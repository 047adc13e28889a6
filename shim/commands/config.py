"""claude-local config: every setting, its value and who said so; and one of them changed in config.toml."""

import json
import os

from rich.table import Table

from shim.commands import config_file
from shim.commands.parsing import Parser
from shim.errors import CONFIG, say
from shim.terminal.console import console
from sidecar.models.catalog import ALIASES
from sidecar.shared import config
from sidecar.shared.config import NEVER, Config, ConfigError, Setting

EXAMPLES = (
    ("claude-local config", "each setting, and where it comes from"),
    ("claude-local config set grace 60", "write it into config.toml"),
    ("claude-local config unset grace", "take it out again"),
    ("claude-local config --json", "the same for scripts"),
)

VALUES = {
    "model": ("demo", *ALIASES),
    **{name: ("on", "off") for name, usual in Config._field_defaults.items() if isinstance(usual, bool)},
    **config.CHOICES,
    "grace": ("never",),
    "unload": ("never",),
    "temperature": (config.AUTO, "0"),
    "disk_cache": ("off",),
}
"""For completion: what a setting may be, where that is a matter of words."""


def parser() -> Parser:
    made = Parser("config", EXAMPLES)
    made.add_argument("action", nargs="?", choices=("set", "unset"), help="change config.toml")
    made.add_argument("key", nargs="?", choices=Config._fields, metavar="KEY", help="a setting's name")
    made.add_argument("value", nargs="?", metavar="VALUE", help="what to set it to")
    made.add_argument("--json", action="store_true", help="every setting, as one JSON object")
    made.following["value"] = VALUES
    return made


def run(arguments: list[str]) -> int:
    made = parser()
    options = made.parse_intermixed_args(arguments)
    if not options.action:
        return show(options.json)
    if not options.key or (options.action == "set") != (options.value is not None):
        made.error("it is `config set KEY VALUE`, or `config unset KEY`")
    value = None if options.value is None else config.parsed(options.key, options.value)
    path = config_file.change(options.key, "never" if value == NEVER else value)
    now = config.settings(os.environ)[options.key]
    print(f"{options.key} = {shown(now.value)}")
    if now.origin not in ("", str(path)):
        say(f"{now.origin} is set in this shell, and wins over {path}")
    return 0


def show(as_json: bool) -> int:
    """All settings; what is wrong with them follows on stderr, and in the exit code."""
    found = config.settings(os.environ)
    if as_json:
        table = {name: {"value": _plain(each.value), "from": each.origin or "default"} for name, each in found.items()}
        print(json.dumps({"file": str(config.config_file()), "settings": table}))
    else:
        draw(found)
    return complain()


def complain() -> int:
    """Say what in file and environment means nothing, or cannot be; returns the exit code."""
    file = config.config_file()
    for name, near in config.unknown_keys():
        say(f"{file}: unknown key {name!r}: " + (f"did you mean {near}?" if near else "take it out"))
    for name, near in config.unknown_variables():
        say(f"{name} is no variable of ours: " + (f"did you mean {near}?" if near else "it is ignored"))
    try:
        config.load()
    except ConfigError as error:
        if not config.unknown_keys():
            say(str(error))
        return CONFIG
    return 0


def draw(found: dict[str, Setting]) -> None:
    screen, file = console(), config.config_file()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    usual = Config()
    places = {"disk_cache": usual.prefixes, "data_dir": usual.data, "log_dir": usual.logs}
    for name, each in found.items():
        origin = "config.toml" if each.origin == str(file) else each.origin or "default"
        value = shown(each.value) if each.value != "" else str(places.get(name, "the platform's"))
        table.add_row(name, value, origin, style="" if each.origin else "dim")
    screen.print(table)
    screen.print(f"\nfile: {file}" + ("" if file.exists() else " (not there yet)"), soft_wrap=True)


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value == NEVER:
        return "never"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    return "never" if value == NEVER else value
