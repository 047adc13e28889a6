"""Messages as chat templates take them, and what stands in for words of theirs. Pure."""

from typing import Any

from sidecar.conversation import Call, Conversation, Message, Result, Text, Tool

UNKNOWN_WORD = "XPROBEX"
"""A word that no template contains."""

Turn = dict[str, Any]
"""A message as chat templates take it."""


class CallIds:
    """The calls of a conversation: names, and ids in the one form that all templates accept (some check)."""

    def __init__(self, conversation: Conversation) -> None:
        calls = [block for message in conversation.messages for block in message.blocks if isinstance(block, Call)]
        self.names = {call.id: call.name for call in calls}
        self.short = {call.id: call_id(index) for index, call in enumerate(calls)}


def call_id(index: int) -> str:
    return f"call{index % 100000:05}"  # Mistral's templates insist on nine letters and digits


def named_call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def in_other_words(message: Message) -> Message:
    """The same message with nothing of what it said."""
    blocks = tuple(
        Result(block.call_id, UNKNOWN_WORD) if isinstance(block, Result) else Text(UNKNOWN_WORD)
        for block in message.blocks
    )
    return Message(message.role, blocks or (Text(UNKNOWN_WORD),))


def user_turn(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def written_texts(conversation: Conversation) -> list[str]:
    """What every template writes down: all but thoughts."""
    blocks = [block for message in conversation.messages for block in message.blocks]
    return [conversation.system, *(block.text for block in blocks if isinstance(block, Text | Result))]


def listed_tools(conversation: Conversation) -> list[Tool]:
    return [tool for tool in conversation.tools if tool.listed]
