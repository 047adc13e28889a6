"""An agent as the command: its row of the table, made to fit this invocation."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim.agents import row as rows
from shim.agents.folder import Folder
from shim.agents.program import Program, refuse_dropped
from shim.agents.row import Row
from shim.command_line import ANYWAY
from shim.errors import UNAVAILABLE, USAGE, Failure, say


class Agent:
    """Judged, and its folder reserved, before the relay is forked; set up when the limits are known."""

    def __init__(self, name: str, row: Row, given: list[str], environment: Mapping[str, str], directory: Path) -> None:
        """`given`: the agent's own arguments. Raises Failure when it must not be run: before anything is started."""
        self._row, self._given = row, given
        refuse(name, row, given)
        self._beneath = {each: beneath(each, environment.get(each, "")) for each in row.merged}
        for each in (each for each, table in self._beneath.items() if table):
            say(f"{name}: your {each} counts where ours says nothing; the model is the one on this machine")
        if row.remark:
            say(f"{name}: {row.remark}")
        self._folder = Folder(directory) if row.files else None

    @property
    def held(self) -> tuple[str, int] | None:
        """What the relay removes at the end."""
        return self._folder.held if self._folder else None

    def arguments(self, added: Mapping[str, str]) -> list[str]:
        """Write its files; returns the arguments, ours in front. `added`: the variables that every command gets."""
        gaps = self._gaps(added)
        for name, content in self._row.files.items():
            assert self._folder
            whole = rows.filled(content, gaps)
            if name in self._row.beneath:
                whole = rows.laid_over(read_table(self._row.beneath[name]), whole)
            self._folder.write(name, whole if isinstance(whole, str) else json.dumps(whole, indent=1))
        return [*(rows.text(word, gaps) for word in self._row.arguments), *self._given]

    def variables(self, added: Mapping[str, str]) -> dict[str, str]:
        """What it gets beside `added`."""
        gaps = self._gaps(added)
        named = {
            name: rows.text(value, gaps) if isinstance(value, str) else json.dumps(rows.filled(value, gaps))
            for name, value in self._row.variables.items()
        }
        merged = {
            name: json.dumps(rows.laid_over(self._beneath[name], rows.filled(ours, gaps)))
            for name, ours in self._row.merged.items()
        }
        return named | merged

    def _gaps(self, added: Mapping[str, str]) -> rows.Gaps:
        return gaps_of(added, str(self._folder.path) if self._folder else "")


def judged(program: Program, given: list[str], anyway: bool, directory: Path) -> Agent | None:
    """The agent to be set up, or None where it runs as it is. Raises Failure."""
    row = program.row
    assert row
    if anyway:
        say(f"{program.name} runs as it is: it asks whomever it is set to ask, not the model on this machine")
        return None
    if given and given[0] in row.plain:
        return None
    if not row.refusal:
        refuse_dropped(program)
    return Agent(program.name, row, given, os.environ, directory)


def gaps_of(added: Mapping[str, str], folder: str) -> rows.Gaps:
    """What fills a row's gaps, from the variables that every command gets."""
    window = int(added.get("CLAUDE_CODE_MAX_CONTEXT_TOKENS", "0"))
    output = int(added.get("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "0"))
    return {
        "url": added["ANTHROPIC_BASE_URL"],
        "token": added["ANTHROPIC_AUTH_TOKEN"],
        "model": added["ANTHROPIC_MODEL"],
        "window": window,
        "output": output,
        "input": window - output,
        "folder": folder,
    }


def refuse(name: str, row: Row, given: list[str]) -> None:
    """Raise Failure for an agent, or for a choice of the user's, that would take the words elsewhere."""
    if row.refusal:
        raise Failure(
            f"{name} {row.refusal}; to run it as it is, and remote: claude-local {ANYWAY} {name}", UNAVAILABLE
        )
    for path in above(row.overruling):
        raise Failure(
            f"{name}: {path} would overrule claude-local's settings, and may name another model: take it away "
            f"(to run {name} as it is: claude-local {ANYWAY} {name})",
            UNAVAILABLE,
        )
    if word := astray(row, given):
        raise Failure(
            f"{name} {word} may ask another model than the one on this machine: leave it out "
            f"(to run {name} as it is: claude-local {ANYWAY} {name})",
            UNAVAILABLE,
        )


def above(names: tuple[str, ...]) -> list[str]:
    """Those of the files that are in the working folder, or above."""
    if not names:
        return []
    here = os.path.abspath(".")
    folders = [here[:at] or "/" for at, letter in enumerate(f"{here}/") if letter == "/"]
    paths = [os.path.join(folder, name) for folder in reversed(folders) for name in names]
    return [path for path in paths if os.path.exists(path)]


def astray(row: Row, given: list[str]) -> str:
    """The first word by which the user has chosen another model than ours; empty = none."""
    options = given[: given.index("--")] if "--" in given else given
    if options and options[0] in row.barred and not options[0].startswith("-"):
        return options[0]
    for at, word in enumerate(options):
        if not word.startswith("-"):
            continue
        name, mark, value = word.partition("=")
        if spelled(name, row.barred, row.abbreviates):
            return name
        if option := spelled(name, row.models, row.abbreviates):
            chosen = value if mark else _behind(word, option, options[at + 1 : at + 2])
            if not chosen.startswith(row.ours):
                return f"{name} {chosen}".strip()
    return ""


def spelled(word: str, options: tuple[str, ...], abbreviates: bool = False) -> str:
    """The option that a word spells: in full, with its value right behind one letter, as --camelCase, or by its
    beginning where that will do; or empty."""
    for option in options:
        if word == option or (len(option) == 2 and word.startswith(option)):
            return option
        if option.startswith("--") and word.startswith("--") and _plain(word) == _plain(option):
            return option
        if abbreviates and len(word) > 4 and option.startswith(word):
            return option
    return ""


def _plain(word: str) -> str:
    return word.replace("-", "").lower()


def _behind(word: str, option: str, following: list[str]) -> str:
    if len(option) == 2 and len(word) > 2:
        return word[2:]
    return following[0] if following else ""


def read_table(path: str) -> dict[str, Any]:
    """A JSON file of the user's; empty where there is none, or none that can be read."""
    try:
        table = json.loads(Path(path).expanduser().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


def beneath(name: str, text: str) -> Any:
    """The user's own JSON in a variable; raises Failure."""
    if not text.strip():
        return {}
    try:
        table = json.loads(text)
    except ValueError as error:
        raise Failure(f"{name}: not JSON ({error})", USAGE) from None
    if not isinstance(table, dict):
        raise Failure(f"{name}: not a JSON object", USAGE)
    return table
