"""The line below Claude Code's prompt: a shell reads it once a second, from a file that the sidecar keeps.

Ours is a default. Settings given with --settings, which ours are, beat the user's and the project's; so it is left out
where any of those has a status line, or might have one.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KEY = "statusLine"

LARGEST = 1 << 20
"""Bytes of a settings file that are looked at."""

PRINTS = ("-p", "--print")
"""With these nobody sees a status line."""

FILES = ("settings.json", "settings.local.json")


def setting(file: Path) -> dict[str, Any]:
    """What goes into the settings. Only what is built into a shell: nothing is started once a second. The file begins
    with the process that writes it, for a line that nobody writes any more would be a lie."""
    read = f"{{ read -r pid && read -r line; }} <{shlex.quote(str(file))}"
    line = f'{{ {read} && kill -0 "$pid" && printf \'%s\\n\' "$line"; }} 2>/dev/null'
    return {"type": "command", "command": line, "refreshInterval": 1, "padding": 0}


def is_wanted(given: Mapping[str, Any], arguments: list[str], folder: str, environment: Mapping[str, str]) -> bool:
    """Whether there is room for ours. `given`: the user's own --settings; `folder`: where Claude Code is started."""
    if KEY in given or any(word in PRINTS for word in arguments):
        return False
    return not any(_mentions(file) for file in _others(folder, environment))


def _others(folder: str, environment: Mapping[str, str]) -> Iterator[Path]:
    """The user's settings, and those of the folder and of all above it, of which the project's is one."""
    home = environment.get("CLAUDE_CONFIG_DIR") or os.path.join(environment.get("HOME", "/"), ".claude")
    above = [Path(folder), *Path(folder).parents] if folder else []
    return (place / name for place in (Path(home), *(each / ".claude" for each in above)) for name in FILES)


def _mentions(file: Path) -> bool:
    """Asked of the bytes: where the text is no JSON that we understand, Claude Code may still make something of it."""
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return KEY.encode() in opened.read(LARGEST).replace(b"\0", b"")  # UTF-16 is read as well
    except OSError:
        return False
