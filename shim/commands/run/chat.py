"""A conversation on the terminal: `claude-local run` where nobody says what to ask.

The line editor is readline, as far as this Python has one. What is typed is kept in memory alone.
"""

import contextlib
import re
from typing import Any

from shim.commands.run import input_files, printing
from shim.errors import Failure, say
from shim.lease.session import Session
from shim.terminal import console

PROMPT, MORE = ">>> ", "... "
MARK = '"""'
"""Begins and ends a question of several lines."""
LEAVE = ("/bye", "/exit", "/quit")

HELP = f"""\
  {MARK}          begins and ends a question of several lines
  \\            at the end of a line: the question goes on in the next
  /file PATH   ask about a file: its text goes with the next question
  /clear       begin a new conversation
  /bye         leave; so does Ctrl-D
  Ctrl-C       ends an answer, and keeps what there is of it"""


class Chat:
    """What has been said, and what is asked of all answers."""

    def __init__(self, session: Session, body: dict[str, Any], papers: list[str]) -> None:
        """`body`: the request but for its messages; `papers`: texts that go with the first question."""
        self._session = session
        self._body = body
        self._papers = papers
        self._said: list[dict[str, str]] = []

    def run(self) -> int:
        """Until the user leaves; returns the exit code."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # input() edits lines with it
        print(f"{console.plain(self._session.model)}. /help says what there is, /bye leaves.")
        while True:
            try:
                if (words := typed()) in LEAVE:
                    return 0
                self._take(words)
            except EOFError:
                print()
                return 0
            except KeyboardInterrupt:
                print("\n(/bye or Ctrl-D leaves)")

    def _take(self, words: str) -> None:
        """Do what a command says, or ask."""
        name, _, rest = words.partition(" ")
        if name in ("/help", "/?"):
            print(HELP)
        elif words == "/clear":
            self._said, self._papers = [], []
            print("a new conversation")
        elif name == "/file":
            self._add(rest.strip())
        elif re.fullmatch(r"/[a-z]+", words):
            print(f"there is no {words}: /help says what there is")
        elif words:
            self._ask(words)

    def _add(self, path: str) -> None:
        try:
            self._papers.append(input_files.read(path))
            print(f"the text of {console.plain(path)} goes with the next question")
        except Failure as failure:
            say(failure.reason)

    def _ask(self, words: str) -> None:
        """One question and its answer; what became of it is remembered, unless that is nothing."""
        asked = {"role": "user", "content": "\n\n".join([words, *self._papers])}
        answer = printing.Answer()
        try:
            self._session.renew()
            answer.show(self._session, {**self._body, "messages": [*self._said, asked]})
            printing.explain(answer.reason, self._body["max_tokens"], self._session)
        except KeyboardInterrupt:
            print("(ended)")
        except Failure as failure:
            say(failure.reason)
        if answer.text.strip():
            self._said += [asked, {"role": "assistant", "content": answer.text.rstrip()}]
            self._papers = []


def typed() -> str:
    """What the user asks, of one line or of several. Raises EOFError and KeyboardInterrupt."""
    line = _line(PROMPT).strip()
    if line.startswith(MARK):
        lines = [line.removeprefix(MARK)]
        while not lines[-1].rstrip().endswith(MARK):
            lines.append(_line(MORE))
        return "\n".join(lines).rstrip().removesuffix(MARK).strip()
    while line.endswith("\\"):
        line = f"{line[:-1]}\n{_line(MORE)}"
    return line


def _line(prompt: str) -> str:
    """As text, whatever bytes were typed."""
    return input(prompt).encode("utf-8", "replace").decode()
