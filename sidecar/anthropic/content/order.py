"""Calls and their results: templates rely on each call's one result right behind it, and histories lack some.

A session that was interrupted, cut or put together by hand holds calls without results, results without calls, and ids
that come twice. In the turn that is new these are the client's mistakes, and told; before it they are mended. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from sidecar import conversation
from sidecar.anthropic.fields.types import AnyBlock, Message, ToolResult
from sidecar.errors import InvalidRequest

MISSING = "[there is no result: the call was interrupted]"
"""The result of a call that has none."""


@dataclass(slots=True)
class Turn:
    """Neighbouring messages of one role."""

    role: Literal["user", "assistant"]
    blocks: list[conversation.Block]
    first: int
    """Index of its first message."""


def newest(messages: Sequence[Message]) -> int:
    """Index of the message that a request is about, the last of the user's: what stands before it is history."""
    return max((index for index, message in enumerate(messages) if message.role == "user"), default=0)


def pair(turns: Sequence[Turn], messages: Sequence[Message]) -> None:
    """Give every call its result in the turn behind it, and every result a call. Raises InvalidRequest for what the
    request's own message lacks."""
    new, seen = newest(messages), Counter[str]()
    called, waiting = 0, dict[str, str]()
    for turn in turns:
        if turn.role == "assistant":
            called, waiting = turn.first, _calls(turn, seen)
            continue
        answered = {block.call_id for block in turn.blocks if isinstance(block, conversation.Result)}
        stray = _match(turn, waiting)
        if turn.first == new and (lost := [sent for sent in waiting.values() if sent not in answered]):
            raise _lost(called, lost)
        if turn.first == new and stray:
            raise _stray(stray[0], new, messages[new].content)
        turn.blocks[:0] = [conversation.Result(call, MISSING, is_error=True) for call in waiting]
        waiting = {}
    if waiting:
        raise _lost(called, waiting.values())


def _calls(turn: Turn, seen: Counter[str]) -> dict[str, str]:
    """The ids of a turn's calls, and what the client knows each by. One that has come before is made another."""
    ids = {}
    for index, block in enumerate(turn.blocks):
        if isinstance(block, conversation.Call):
            name = block.id
            while seen[name]:
                seen[block.id] += 1
                name = f"{block.id}~{seen[block.id]}"
            seen[name] += 1
            ids[name] = block.id
            turn.blocks[index] = msgspec.structs.replace(block, id=name)
    return ids


def _match(turn: Turn, waiting: dict[str, str]) -> list[str]:
    """Point each result at its call, which then waits no more; without one it is mere text. The ids of those."""
    calls: dict[str, list[str]] = {}
    for name, sent in reversed(waiting.items()):
        calls.setdefault(sent, []).append(name)
    stray = []
    for index, block in enumerate(turn.blocks):
        if isinstance(block, conversation.Result) and calls.get(block.call_id):
            name = calls[block.call_id].pop()
            del waiting[name]
            turn.blocks[index] = msgspec.structs.replace(block, call_id=name)
        elif isinstance(block, conversation.Result):
            stray.append(block.call_id)
            turn.blocks[index] = conversation.Text(block.text)
    return stray


def _lost(first: int, ids: Iterable[str]) -> InvalidRequest:
    return InvalidRequest(
        f"messages.{first}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(ids)}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )


def _stray(id_: str, first: int, content: str | Sequence[AnyBlock]) -> InvalidRequest:
    at = [isinstance(block, ToolResult) and block.tool_use_id == id_ for block in content].index(True)
    return InvalidRequest(
        f"messages.{first}.content.{at}: unexpected `tool_use_id` found in `tool_result` blocks: {id_}. Each "
        "`tool_result` block must have a corresponding `tool_use` block in the previous message."
    )
