"""claude-local help: all words, or one word's own help."""

import sys
from datetime import date

from shim.command_line import OURS
from shim.commands.dispatch import verb
from shim.commands.help import manpage, reference
from shim.commands.parsing import Parser
from sidecar.shared import config

EXAMPLES = (
    ("claude-local help", "all words"),
    ("claude-local help status", "what `claude-local status --help` says"),
    ("claude-local help --man | man -l -", "the man page"),
)

HELP = """\
usage: claude-local [COMMAND [ARGUMENT …]]

Runs COMMAND against a language model on this machine. Without COMMAND, or when
the first argument begins with "-", it is Claude Code:
claude-local --print "Hello in 5 words"

{words}
  claude-local -- COMMAND …    COMMAND, even if it is one of the words above
  claude-local --local-anyway COMMAND …
                               an agent that is refused otherwise, as it is:
                               it asks its vendor's models, not this machine's

Claude Code's own options: claude-local claude --help

Each word has --help, with examples. Settings are environment variables, or keys
of {config}:
  CLAUDE_LOCAL_MODEL           phi-3-mini, demo, a hub id (org/name), a folder
  CLAUDE_LOCAL_GRACE           seconds from the last terminal to the end; never
  CLAUDE_LOCAL_UNLOAD          seconds without a request until the model leaves
  CLAUDE_LOCAL_PROFILE         full, lean, bare: what of its prompt Claude Code
                               sends; or --local-profile X before its arguments
  CLAUDE_LOCAL_NO_INSTALL      1 = never install Claude Code, say how instead
"""


def parser() -> Parser:
    made = Parser("help", EXAMPLES)
    made.add_argument("word", nargs="?", choices=sorted(OURS), metavar="WORD", help="one of claude-local's words")
    made.add_argument("--man", action="store_true", help="all of it as a man page, for man -l -")
    return made


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    if options.man:
        sys.stdout.write(manpage.roff(reference.entries(), date.today()))
    elif options.word:
        verb(options.word).parser().print_help()
    else:
        words = "\n".join(f"  {f'claude-local {name}':<28} {summary}" for name, summary in OURS.items())
        sys.stdout.write(HELP.format(words=words, config=config.config_file()))
    return 0
