"""claude-local run: one answer on stdout, or a chat, without any client."""

import argparse
import select
import sys
from collections.abc import Sequence
from typing import Any

from shim.commands.parsing import Parser
from shim.commands.run import input_files
from shim.commands.run.printing import Answer, explain
from shim.errors import USAGE, Failure, say
from shim.lease.session import Session
from sidecar.models.catalog import ALIASES

EXAMPLES = (
    ('claude-local run "Hello in 5 words"', "the answer, as it is written"),
    ('claude-local run "Describe this change" < change.diff', "what is piped in follows the prompt"),
    ('claude-local run --file notes.txt "What is it about?"', "a question about a file"),
    ("claude-local run --model demo --max-tokens 20 hello", "another model, a short answer"),
    ("claude-local run", "a chat, until /bye"),
)

SILENCE_S = 3.0
"""Without a word on stdin for so long we say what we wait for."""


def parser() -> Parser:
    made = Parser("run", EXAMPLES)
    made.add_argument(
        "prompt", nargs="*", metavar="PROMPT", help="the question, without one: a chat; what is piped in follows it"
    )
    made.add_argument("--file", action="append", default=[], metavar="FILE", help="a text that the question is about")
    made.add_argument("--model", default="", help="alias, hub id or folder, instead of the configured one")
    made.add_argument("--system", default="", help="the system prompt")
    made.add_argument("--max-tokens", type=_count, metavar="N", help="the longest answer")
    made.offered["model"] = ("demo", *ALIASES)
    return made


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a text file, whatever else it may be
    found = [input_files.read(name) for name in options.file]
    chats = not options.prompt and sys.stdin.isatty() and sys.stdout.isatty()
    prompt = "" if chats else _prompt(" ".join(options.prompt), found)
    with Session("run", options.model, shows=True) as session:
        most = options.max_tokens or session.output_limit
        body: dict[str, Any] = {"max_tokens": most} | ({"system": options.system} if options.system else {})
        if chats:
            from shim.commands.run.chat import Chat

            return Chat(session, body, found).run()
        answer = Answer()
        answer.show(session, {**body, "messages": [{"role": "user", "content": prompt}]})
        explain(answer.reason, most, session)
    return 0


def _prompt(words: str, found: Sequence[str]) -> str:
    """The question, then what is piped in, then the files."""
    asked = [part for part in (words, _piped()) if part.strip()]
    if not asked:
        raise Failure('run needs a prompt: claude-local run "Hello in 5 words", or text in a pipe', USAGE)
    return "\n\n".join([*asked, *found])


def _piped() -> str:
    """What another program writes to us, to its end. One that never ends, as under a job runner, is told of: going on
    without it would lose the words of one that is only slow."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    if not select.select([sys.stdin], [], [], SILENCE_S)[0]:
        say("waiting for what is piped in; if nothing is, end the command with </dev/null")
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens")
    return int(text)
