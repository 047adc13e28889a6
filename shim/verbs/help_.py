"""claude-local help: all words, or one word's own help."""

import sys

from shim.verbs import verb
from shim.verbs.parsing import Parser
from shim.words import OURS
from sidecar import config

EXAMPLES = (
    ("claude-local help", "all words"),
    ("claude-local help status", "what `claude-local status --help` says"),
)

HELP = """\
usage: claude-local [COMMAND [ARGUMENT …]]

Runs COMMAND against a language model on this machine. Without COMMAND, or when the first argument begins
with "-", it is Claude Code:  claude-local --print "Hello in 5 words"

{words}
  claude-local -- COMMAND …       COMMAND, even if it is one of the words above

Each word has --help, with examples. Settings: environment variables CLAUDE_LOCAL_… or {config}
  CLAUDE_LOCAL_MODEL       phi-3-mini, demo, a hub id (org/name) or a folder
  CLAUDE_LOCAL_GRACE       seconds from the last terminal to the end; 0 = at once, never
  CLAUDE_LOCAL_UNLOAD      seconds without a request until the model leaves memory
  CLAUDE_LOCAL_NO_INSTALL  1 = never install Claude Code, say how instead
"""


def parser() -> Parser:
    made = Parser("help", EXAMPLES)
    made.add_argument("word", nargs="?", choices=sorted(OURS), metavar="WORD", help="one of claude-local's words")
    return made


def run(arguments: list[str]) -> int:
    word = parser().parse_args(arguments).word
    if word:
        verb(word).parser().print_help()
    else:
        words = "\n".join(f"  {f'claude-local {name}':<31} {summary}" for name, summary in OURS.items())
        sys.stdout.write(HELP.format(words=words, config=config.config_file()))
    return 0
