"""claude-local version."""

from shim.commands.parsing import Parser
from sidecar import __version__

EXAMPLES = (("claude-local version", "for a bug report"),)


def parser() -> Parser:
    return Parser("version", EXAMPLES)


def run(arguments: list[str]) -> int:
    parser().parse_args(arguments)
    print(f"claude-local {__version__}")
    return 0
