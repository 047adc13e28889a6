"""An answer on its way to the terminal: what becomes of the request until then, and the words as they come."""

import sys
from typing import Any

from rich.status import Status
from rich.text import Text

from shim.errors import say
from shim.lease.session import Session
from shim.terminal import console


class Waiting:
    """What a spinner says: the sidecar's line about this terminal, read anew each time that it is drawn."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __rich__(self) -> Text:
        return Text(self._session.line() or f"waiting for {self._session.model}", overflow="ellipsis", no_wrap=True)


class Answer:
    """One answer, written to stdout while it comes. What has been written so far is kept, whatever ends it."""

    def __init__(self) -> None:
        self.text = ""
        self.reason = ""
        """Why it ended, in the API's words."""

    def show(self, session: Session, body: dict[str, Any]) -> None:
        """Ask, and write all of it. Raises Failure; a Ctrl-C leaves off, which cancels the request."""
        with console.console(stderr=True).status(Waiting(session)) as waiting:
            try:
                for event in session.stream(body):
                    delta = event.get("delta") or {}
                    self.reason = delta.get("stop_reason") or self.reason
                    if text := delta.get("text"):
                        self._write(text, waiting)
            finally:
                if self.text and not self.text.endswith("\n"):
                    _put("\n")

    def _write(self, text: str, waiting: Status) -> None:
        if not self.text:
            waiting.stop()
        self.text += text
        _put(console.lines(text) if sys.stdout.isatty() else text)


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def explain(reason: str, most: int, session: Session) -> None:
    """Say why an answer is shorter than it might be."""
    if reason == "max_tokens":
        say(f"the answer was cut off after {most} tokens (--max-tokens)")
    elif reason == "model_context_window_exceeded":
        say(f"the answer was cut off: the context window of {session.context_window:,} tokens is full")
