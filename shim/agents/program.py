"""Which agent a command line starts, if it is one: by the command's name, through launchers, or by where a link leads.
Looks at the table and at links, and changes nothing."""

import os
from typing import NamedTuple

from shim.agents import launchers
from shim.agents.row import Row
from shim.agents.table import BY_NAME, ROWS
from shim.command_line import ANYWAY, CLAUDE
from shim.errors import UNAVAILABLE, Failure

CLAUDE_PACKAGE = "@anthropic-ai/claude-code"
SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "csh", "tcsh", "nu", "pwsh", "elvish", "xonsh", "busybox")
MULTIPLEXERS = ("tmux", "screen", "zellij")


class Program(NamedTuple):
    """What a command line starts in the end."""

    name: str
    """The agent's, or the file's."""
    at: int = 0
    """The index of the word that names it: its own arguments follow."""
    drops: str = ""
    """The launcher that keeps our variables from it."""

    @property
    def row(self) -> Row | None:
        return ROWS.get(self.name)


def read(words: list[str]) -> Program:
    """What the words alone say."""
    found = launchers.look_through(words)
    if found.kind == "command":
        name = os.path.basename(found.word)
        return Program(known(name) or name, found.at, found.drops)
    if found.kind == "package":
        name = known(launchers.package(found.word))
    elif found.kind == "script":
        name = known(launchers.of_path(os.path.realpath(found.word)), only_packages=True)
    else:
        name = known(found.word.partition(".")[0])
    return Program(name, found.at, found.drops) if name else Program(os.path.basename(words[0]))


def linked(program: Program, file: str) -> Program:
    """The same, where the command's file is a link with a name of its own to a program that we know."""
    if program.at or program.name == CLAUDE or program.row:
        return program
    path = os.path.realpath(file)
    versions = os.path.dirname(path).endswith("/claude/versions")  # where Claude Code's own installer puts it
    return program._replace(name=CLAUDE if versions else known(launchers.of_path(path)) or program.name)


def known(name: str, only_packages: bool = False) -> str:
    """The agent, or Claude Code, of a command's or a package's name; empty = neither."""
    if name in (CLAUDE, CLAUDE_PACKAGE):
        return CLAUDE
    agent = BY_NAME.get(name, "")
    if only_packages and agent and name not in ROWS[agent].packages:
        return ""
    return agent


def refuse_dropped(program: Program) -> None:
    """Raise Failure where a known program would not get the variables that lead it here. Claude Code has them in its
    settings file too, which only another user cannot read."""
    if program.drops and (program.row or program.drops != "env"):
        raise Failure(
            f"{program.drops} takes away the variables that lead {program.name} here: put claude-local behind it, "
            f"as in: {program.drops} … claude-local {program.name} … (or, to run it as it is: {ANYWAY})",
            UNAVAILABLE,
        )


def takes_key(program: Program, given: list[str]) -> bool:
    """Whether ANTHROPIC_API_KEY may be the token, rather than empty. `given`: the program's own arguments.

    Many programs know no other name. Claude Code on a terminal stops to ask about each new key, and keeps its end in
    ~/.claude.json: so not where it is the command, and not where somebody may type or has written its name.
    """
    if program.name == CLAUDE or program.name in MULTIPLEXERS:
        return False
    if program.name not in SHELLS:
        return True
    return any(not word.startswith("-") for word in given) and not any(map(names_claude, given))


def names_claude(script: str) -> bool:
    """Whether the words of a shell have the command of Claude Code among them."""
    words = script.translate(dict.fromkeys(map(ord, ";&|()`'\"$="), " ")).split()
    return any(os.path.basename(word) == CLAUDE or word.startswith(CLAUDE_PACKAGE) for word in words)
