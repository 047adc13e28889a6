"""The commands of claude-local itself, a file or a folder for each. None is imported where a program is run."""

import importlib
import os
import signal
import site
import sys
from types import ModuleType

MODULES = {
    "completions": "help.completions",
    "global": "global_mode",
    "help": "help.command",
    "logs": "logs.command",
    "models": "models.command",
    "run": "run.command",
    "status": "status.command",
    "uninstall": "uninstall.command",
}
"""The modules of commands that have another name, or lie in a folder."""


def run(word: str, arguments: list[str]) -> int:
    """Do what the word says; returns the exit code, raises Failure."""
    if sys.flags.no_site:
        site.main()  # bin/claude-local leaves the libraries out, which a command's start does without
    _replace_closed_streams()
    try:
        code = int(verb(word).run(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _forget_what_is_unsaid()  # whoever read our words has seen enough
        return 128 + signal.SIGPIPE
    except OSError:
        try:
            sys.stdout.flush()
        except OSError:
            _forget_what_is_unsaid()  # a full disk: said once is enough
        raise


def verb(word: str) -> ModuleType:
    """The word's module: `parser()`, `EXAMPLES` (pairs of command line and purpose), `run(arguments)`."""
    return importlib.import_module(f"shim.commands.{MODULES.get(word, word)}")


def _replace_closed_streams() -> None:
    """Python has None for a standard stream that was closed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # until we end


def _forget_what_is_unsaid() -> None:
    """What is still buffered must not complain at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
