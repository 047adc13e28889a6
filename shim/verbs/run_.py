"""claude-local run: one answer on stdout, without any client."""

import argparse
import select
import sys
from collections.abc import Callable, Iterable
from typing import Any

from shim.failure import USAGE, Failure, say
from shim.verbs import screen
from shim.verbs.parsing import Parser
from shim.verbs.session import Session
from sidecar.models import ALIASES

EXAMPLES = (
    ('claude-local run "Hello in 5 words"', "the answer, as it is written"),
    ('claude-local run "Describe this change" < change.diff', "what is piped in follows the prompt"),
    ("claude-local run --model demo --max-tokens 20 hello", "another model, a short answer"),
)

SILENCE_S = 3.0
"""Without a word on stdin for so long we say what we wait for."""


def parser() -> Parser:
    made = Parser("run", EXAMPLES)
    made.add_argument("prompt", nargs="*", metavar="PROMPT", help="the question; what is piped in follows it")
    made.add_argument("--model", default="", help="alias, hub id or folder, instead of the configured one")
    made.add_argument("--system", default="", help="the system prompt")
    made.add_argument("--max-tokens", type=_count, metavar="N", help="the longest answer")
    made.offered["model"] = ("demo", *ALIASES)
    return made


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    prompt = _prompt(" ".join(options.prompt))
    with Session("run", options.model) as session:
        most = options.max_tokens or session.output_limit
        body = {"max_tokens": most, "messages": [{"role": "user", "content": prompt}]}
        if options.system:
            body["system"] = options.system
        with screen.console(stderr=True).status(f"waiting for {session.model}") as waiting:
            reason = _write(session.stream(body), waiting.stop)
    if reason == "max_tokens":
        say(f"the answer was cut off after {most} tokens (--max-tokens)")
    elif reason == "model_context_window_exceeded":
        say(f"the answer was cut off: the context window of {session.context_window:,} tokens is full")
    return 0


def _prompt(words: str) -> str:
    prompt = "\n\n".join(part for part in (words, _piped()) if part.strip())
    if not prompt:
        raise Failure('run needs a prompt: claude-local run "Hello in 5 words", or text in a pipe', USAGE)
    return prompt


def _piped() -> str:
    """What another program writes to us, to its end. One that never ends, as under a job runner, is told of: going on
    without it would lose the words of one that is only slow."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    if not select.select([sys.stdin], [], [], SILENCE_S)[0]:
        say("waiting for what is piped in; if nothing is, end the command with </dev/null")
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def _write(events: Iterable[dict[str, Any]], begins: Callable[[], None]) -> str:
    """The text, as it comes, and a line's end; returns why it ended. `begins` is called before anything is written."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a text file, whatever else it may be
    last = reason = ""
    try:
        for event in events:
            delta = event.get("delta") or {}
            reason = delta.get("stop_reason") or reason
            if text := delta.get("text"):
                if not last:
                    begins()
                sys.stdout.write(text)
                sys.stdout.flush()
                last = text
    finally:
        if last and not last.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
    return reason


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens")
    return int(text)
