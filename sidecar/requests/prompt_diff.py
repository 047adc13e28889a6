"""What a conversation consisted of, in little: enough to say where the next one of its session first differs. Pure.

A prompt is read again from the first difference on, which its author seldom knows of: a tool server that came late, a
date, a message that was cut.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sidecar.conversation import Block, Call, Conversation, Result, Text
from sidecar.packing import packed

HEAD = 32 * 1024
"""Characters of a text in which a difference is found to the character; it is a digest from there on."""

_KINDS: tuple[tuple[type[Block], str], ...] = ((Text, "text"), (Call, "call"), (Result, "result"))

Digest = bytes


@dataclass(frozen=True, slots=True)
class Words:
    """A text, of which not more than HEAD characters are kept."""

    head: str
    rest: Digest

    @classmethod
    def of(cls, text: str) -> "Words":
        return cls(text[:HEAD], _digest(text[HEAD:]))

    def first_difference(self, other: "Words") -> str:
        """Where, in words; empty when there is none."""
        pairs = enumerate(zip_longest(self.head, other.head))
        at = next((index for index, (one, two) in pairs if one != two), None) if self.head != other.head else None
        if at is not None:
            return f"at character {at + 1}"
        return f"after character {HEAD}" if self.rest != other.rest else ""


@dataclass(frozen=True, slots=True)
class Outline:
    """In the order in which a prompt holds it."""

    system: Words
    tools: tuple[tuple[str, Digest, Digest], ...]
    """Names, and digests of descriptions and schemas."""
    answer: Digest
    environment: Words
    messages: tuple[tuple[str, tuple[tuple[str, Digest], ...]], ...]
    """Roles, and the kinds and digests of their blocks."""
    thinking: bool

    @classmethod
    def of(cls, conversation: Conversation) -> "Outline":
        listed = [tool for tool in conversation.tools if tool.listed]
        return cls(
            Words.of(conversation.system),
            tuple((tool.name, _digest(tool.description), _digest(tool.schema)) for tool in listed),
            _digest(conversation.answer_schema),
            Words.of("\n\n".join(conversation.environment)),
            tuple(
                (message.role, tuple((_kind(block), _digest(block)) for block in message.blocks))
                for message in conversation.messages
            ),
            conversation.thinking,
        )


def difference(before: Outline, after: Outline) -> str:
    """The first thing in which `after` is not what `before` was; empty when it simply goes on, or goes back."""
    return (
        _in_text("the system prompt", before.system, after.system)
        or _in_tools(before.tools, after.tools)
        or ("the answer's format" if before.answer != after.answer else "")
        or _in_text("the environment", before.environment, after.environment)
        or _in_messages(before, after)
        or (f"thinking, switched {'on' if after.thinking else 'off'}" if before.thinking != after.thinking else "")
    )


def _in_text(name: str, before: Words, after: Words) -> str:
    where = before.first_difference(after)
    return f"{name}, {where}" if where else ""


def _in_tools(before: Sequence[tuple[str, Digest, Digest]], after: Sequence[tuple[str, Digest, Digest]]) -> str:
    old, new = ([tool[0] for tool in tools] for tools in (before, after))
    for one, two in zip_longest(before, after):
        if one == two:
            continue
        if one and two and one[0] == two[0]:
            return f"tool {one[0]}: its {'description' if one[1] != two[1] else 'schema'}"
        if two and two[0] not in old:
            return f"tool {two[0]}, which is new"
        if one and one[0] not in new:
            return f"tool {one[0]}, which is gone"
        return "the order of the tools"
    return ""


def _in_messages(before: Outline, after: Outline) -> str:
    last = len(before.messages) - 1
    for index, ((role, old), (other, new)) in enumerate(zip(before.messages, after.messages, strict=False)):
        if role == other and (old == new or (index == last and new[: len(old)] == old)):
            continue  # what was said last may have gone on
        at = next(
            (at for at, (one, two) in enumerate(zip(old, new, strict=False)) if one != two), min(len(old), len(new))
        )
        what = f"{new[at][0]} {at + 1} of {len(new)}" if at < len(new) else "which is shorter"
        return f"message {index + 1} ({other}), {what}"
    return ""


def _kind(block: Block) -> str:
    return next((name for kind, name in _KINDS if isinstance(block, kind)), "thought")


def _digest(value: object) -> Digest:
    try:
        return hashlib.blake2b(packed(value), digest_size=8).digest()
    except RecursionError:
        return b""  # a value that no frame can hold: its request is about to be refused
