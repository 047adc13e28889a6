"""Content blocks of a request become the engine's: text, calls, results and thoughts. What a model that reads text
cannot read becomes a remark in its place. Pure.

Nothing is refused that a client keeps in its history: it would be sent again with every turn, and end the conversation.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sidecar import conversation
from sidecar.anthropic.content import remarks
from sidecar.anthropic.content.remarks import Extract
from sidecar.anthropic.content.tools import change_text, definition_text
from sidecar.anthropic.fields.types import (
    AnyBlock,
    BrowserState,
    Compaction,
    ContainerUpload,
    CountRequest,
    Document,
    DocumentSource,
    Image,
    Message,
    RedactedThinking,
    Remote,
    SearchResult,
    TextBlock,
    Thinking,
    ToolAddition,
    ToolDefinition,
    ToolReference,
    ToolRemoval,
    ToolResult,
    ToolUse,
)
from sidecar.errors import InvalidRequest

CHARACTERS = 200_000
"""Of one PDF's text, where no window says how many are too many."""
_DEPTH = 100
"""Levels of arguments that are passed on: what works on them one level after the other has an end."""
_DIGITS = 4000
"""Of a number: Python makes none of more than 4,300."""

_TOKEN_REMINDER = re.compile(
    r"<system-reminder>\s*<total_tokens>[^<]*</total_tokens>\s*</system-reminder>\s*|<total_tokens>[^<]*</total_tokens>\s*"
)
"""Counts down from turn to turn: kept in history it would part the prefix at every turn."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known beside a message when it is read."""

    tools: Sequence[ToolDefinition] = ()
    extracts: Mapping[str, Extract] = field(default_factory=dict)
    """What could be read of PDF documents, by their data."""
    most: int = CHARACTERS
    """Characters that are shown of each."""


def media(request: CountRequest) -> Iterator[Image | Document]:
    """All pictures and documents of a request, wherever they stand."""
    for message in request.messages:
        if not isinstance(message.content, str):
            yield from _media(message.content)


def _media(blocks: Sequence[AnyBlock]) -> Iterator[Image | Document]:
    for block in blocks:
        if isinstance(block, Image | Document):
            yield block
        inner = block.source if isinstance(block, Document) else block
        if isinstance(inner, ToolResult | DocumentSource) and not isinstance(inner.content, str | None):
            yield from _media(inner.content)


def blocks_of(message: Message, path: str, known: Known, fresh: bool) -> list[conversation.Block]:
    """`fresh`: whether the message is new in this request, so that its mistakes are told to whoever makes them; in all
    others they are passed over. Raises InvalidRequest."""
    if isinstance(message.content, str):
        return _text(message.content)
    blocks: list[conversation.Block] = []
    for index, block in enumerate(message.content):
        if fresh and (belongs := _belongs(block, message.role)):
            kind = block.__struct_config__.tag
            raise InvalidRequest(f"{path}.content.{index}: `{kind}` blocks can only be in `{belongs}` messages")
        blocks += _block(block, message.role, known)
    return blocks


def _belongs(block: AnyBlock, role: str) -> str:
    """The role of the messages in which alone such a block may stand; empty when it may stand in this one."""
    if isinstance(block, ToolUse | Thinking | RedactedThinking):
        return "assistant" if role != "assistant" else ""
    return "user" if isinstance(block, ToolResult) and role != "user" else ""


def _block(block: AnyBlock, role: str, known: Known) -> list[conversation.Block]:
    match block:
        case TextBlock():
            return _text(block.text)
        case ToolUse() if role == "assistant":
            return [conversation.Call(block.id, block.name, arguments(block.input))]
        case ToolUse():
            return _text(remarks.unreadable("tool_use"))
        case ToolResult() if role == "user":
            return [conversation.Result(block.tool_use_id, _result_text(block, known), bool(block.is_error))]
        case ToolResult():
            return _text(_result_text(block, known))
        case Thinking() if role == "assistant":
            return [conversation.Thinking(block.thinking, block.signature)]
        case Compaction():
            return _text(block.content or "")
        case ContainerUpload():
            return _text(remarks.upload(block.file_id))
        case ToolAddition() | ToolRemoval():
            changed = change_text(block, known.tools)
            return [conversation.Text(conversation.reminder(changed))] if changed and role != "assistant" else []
        case Thinking() | RedactedThinking() | ToolReference() | BrowserState() | Remote():
            return []
        case _:
            return _text(_part(block, known))


def arguments(written: msgspec.Raw) -> dict[str, Any]:
    """A call's arguments, however they came into the history: numbers of any size, and an object in any case."""
    text = bytes(written).decode("utf-8", "replace")
    try:
        value = json.loads(text, parse_int=_integer, parse_float=_fraction)
        if isinstance(value, str):  # some clients keep them as the text that they streamed as
            value = json.loads(value or "{}", parse_int=_integer, parse_float=_fraction)
    except (ValueError, RecursionError):
        value = text
    if value is None:
        return {}
    return value if isinstance(value, dict) and not _is_deep(value) else {"input": text}


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _DIGITS else digits


def _fraction(digits: str) -> float | str:
    """JSON has no word for what is beyond the largest float."""
    value = float(digits)
    return value if abs(value) != float("inf") else digits


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEPTH):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def _result_text(result: ToolResult, known: Known) -> str:
    if isinstance(result.content, str):
        return without_reminders(result.content)
    return "\n".join(filter(None, (_part(part, known) for part in result.content or ())))


def _part(part: AnyBlock, known: Known) -> str:
    match part:
        case TextBlock():
            return without_reminders(part.text)
        case Document():
            return _document_text(part, known)
        case SearchResult():
            return _search_text(part)
        case ToolReference():
            return definition_text(part.tool_name, known.tools)
        case Image():
            return remarks.picture(part.source)
        case _:
            return ""


def _document_text(document: Document, known: Known) -> str:
    source = document.source
    if source.type == "text":
        text = source.data
    elif source.type == "content":
        content = source.content
        text = content if isinstance(content, str) else "\n".join(_part(part, known) for part in content)
    else:
        text = remarks.document(source, known.extracts.get(source.data), known.most)
    return "\n".join(filter(None, [document.title, document.context, text]))


def _search_text(result: SearchResult) -> str:
    return "\n".join([result.title, result.source, *(block.text for block in result.content)])


def _text(text: str) -> list[conversation.Block]:
    text = without_reminders(text)
    return [conversation.Text(text)] if text else []


def without_reminders(text: str) -> str:
    return _TOKEN_REMINDER.sub("", text) if "<total_tokens>" in text else text
