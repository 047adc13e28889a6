"""Which of Claude Code's settings global mode sets, and to what. Pure.

Not the token: settings are often readable by others, and kept under version control. The client gets it from a command.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim.claude_code import environment
from shim.global_mode import settings_edit
from shim.global_mode.settings_edit import Keys, Table


def wanted(
    table: Table, base: Mapping[str, str], token: Path, port: int, model: str, window: int, longest: int
) -> Keys:
    """Our keys in the user's settings `table`. `base` is the environment, for proxies; `window` and `longest` answer
    in tokens."""
    env = environment.ours(port, "", model, window, longest)
    keys: dict[settings_edit.Path, Any] = {("env", name): value for name, value in env.items()}
    keys |= {("env", name): "" for name in environment.ELSEWHERE}
    keys |= {("env", name): value for name, value in environment.no_proxy(base).items()}
    keys["apiKeyHelper",] = f"cat {shlex.quote(str(token))}"
    if not _has_a_say_on_auto_mode(table):
        # Its safety check runs on the vendor's servers: with us it can only stop the session.
        keys["permissions", "disableAutoMode"] = "disable"
    return keys


def _has_a_say_on_auto_mode(table: Table) -> bool:
    mode = settings_edit.get(table, ("permissions", "defaultMode"))
    return mode == "auto" or settings_edit.get(table, ("permissions", "disableAutoMode")) is not settings_edit.MISSING
