"""Which of Claude Code's settings global mode sets, and to what. Pure.

Not the token: settings are often readable by others, and kept under version control. The client gets it from a command.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim import variables
from shim.standing import preferences
from shim.standing.preferences import Keys, Table


def wanted(
    table: Table, base: Mapping[str, str], token: Path, port: int, model: str, window: int, longest: int
) -> Keys:
    """Our keys in the user's settings `table`. `base` is the environment, for proxies; `window` and `longest` answer
    in tokens."""
    env = variables.ours(port, "", model, window, longest)
    keys: dict[preferences.Path, Any] = {("env", name): value for name, value in env.items()}
    keys |= {("env", name): "" for name in variables.ELSEWHERE}
    keys |= {("env", name): value for name, value in variables.no_proxy(base).items()}
    keys["apiKeyHelper",] = f"cat {shlex.quote(str(token))}"
    if not _has_a_say_on_auto_mode(table):
        # Its safety check runs on the vendor's servers: with us it can only stop the session.
        keys["permissions", "disableAutoMode"] = "disable"
    return keys


def _has_a_say_on_auto_mode(table: Table) -> bool:
    mode = preferences.get(table, ("permissions", "defaultMode"))
    return mode == "auto" or preferences.get(table, ("permissions", "disableAutoMode")) is not preferences.MISSING
