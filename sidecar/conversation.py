"""A conversation in its neutral form: between the public API and the prompt builder, neither of which knows the other's
format.
"""

from enum import IntEnum
from typing import Any, Literal

import msgspec


class Frame(msgspec.Struct, frozen=True, tag=True):
    """Base of everything that is encoded with its class name as the tag."""


class Text(Frame, frozen=True):
    text: str


class Call(Frame, frozen=True):
    """The model's call of a tool."""

    id: str
    name: str
    arguments: dict[str, Any]


class Result(Frame, frozen=True):
    """What a tool gave back."""

    call_id: str
    text: str
    is_error: bool = False


class Thinking(Frame, frozen=True):
    """What the model thought before it answered."""

    text: str
    signature: str
    """The engine's own mark: with it a later turn finds the answer that it sampled, even when the text is withheld."""


Block = Text | Call | Result | Thinking


class Message(Frame, frozen=True):
    role: Literal["user", "assistant"]
    blocks: tuple[Block, ...]


class Tool(Frame, frozen=True):
    name: str
    description: str
    schema: dict[str, Any]
    """JSON Schema of the arguments, as the client sent it."""
    listed: bool = True
    """Whether the prompt lists it; False for one that something in the conversation has shown."""
    withdrawn: bool = False
    """Whether it may not be called any more; the prompt goes on listing it, so that its beginning stays."""


class Conversation(Frame, frozen=True):
    """Roles alternate and begin with the user; a trailing assistant message is a prefill to go on from."""

    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    thinking: bool = False
    """Whether a model that can choose thinks before it answers."""
    answer_schema: dict[str, Any] | None = None
    """The answer is JSON that this JSON Schema accepts; None = free text."""
    environment: tuple[str, ...] = ()
    """What the client says of the place it runs in, in parts: those that more places share come first. The prompt has
    it behind system prompt and tools, so that other places read only what follows those."""

    @property
    def begun(self) -> bool:
        """Whether the answer goes on from words that the client put into the model's mouth."""
        return self.messages[-1].role == "assistant" and bool(self.messages[-1].blocks)


def reminder(text: str) -> str:
    """Marked, so that the model does not take the words for the user's; the mark is Claude Code's own."""
    if text.lstrip().startswith("<system-reminder>"):
        return text
    return f"<system-reminder>\n{text.strip()}\n</system-reminder>"


class Sampling(Frame, frozen=True):
    """None = not named. Values are in range: mlx-lm fails badly on others."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


class Priority(IntEnum):
    """Whose request comes first within a session; the lowest number wins."""

    MAIN = 0
    """The conversation that somebody looks at."""
    SUBAGENT = 1
    SIDE = 2
    """What the client asks on its own account: titles, summaries."""
    PREWARM = 3
    """Nobody waits for it."""
