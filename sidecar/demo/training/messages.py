"""The parts of an exchange: messages as chat templates take them, and words as people type them."""

import random
from typing import Any

Message = dict[str, Any]
Call = tuple[str, dict[str, Any]]
"""A tool's name and its arguments."""


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def answer(content: str, kind: str) -> Message:
    """`kind` is the behaviour under which score.py counts the answer."""
    return {"role": "assistant", "content": content, "kind": kind}


def calls(rng: random.Random, made: list[Call], kind: str, content: str = "") -> Message:
    table = [
        {
            "id": f"toolu_{rng.randrange(10**8)}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for name, arguments in made
    ]
    return {"role": "assistant", "content": content, "tool_calls": table, "kind": kind}


def results(made: Message, contents: list[str]) -> list[Message]:
    """The tool messages that answer the calls of `made`."""
    return [
        {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": content}
        for call, content in zip(made["tool_calls"], contents, strict=True)
    ]


def reminder(text: str) -> str:
    return f"<system-reminder>\n{text}\n</system-reminder>"


def spoken(rng: random.Random, text: str, mark: str = "!") -> str:
    """The same words as different people type them."""
    text = rng.choice(
        (text, text[0].upper() + text[1:], text[0].upper() + text[1:], text.upper() if len(text) < 12 else text)
    )
    return text + rng.choice(("", "", "", ".", mark))


def quoted(rng: random.Random, text: str, often: float) -> str:
    """In quotes or backticks, unless it holds some itself: then it would not be clear where they end."""
    free = [mark for mark in "\"'`" if mark not in text] if rng.random() < often or often == 1.0 else []
    mark = rng.choice(free) if free else "" if often < 1.0 else "`"
    return f"{mark}{text}{mark}"
