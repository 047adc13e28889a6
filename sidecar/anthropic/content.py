"""Content blocks of a request become the engine's: text, calls, results and thoughts; what else there is is text, left
out, or refused by its path. Pure."""

import re

from sidecar import frames
from sidecar.anthropic.tools import change_text, definition_text
from sidecar.anthropic.types import (
    REFUSED,
    AnyBlock,
    Compaction,
    ContainerUpload,
    CountRequest,
    Document,
    Image,
    Message,
    RedactedThinking,
    Remote,
    SearchResult,
    TextBlock,
    Thinking,
    ToolAddition,
    ToolReference,
    ToolRemoval,
    ToolResult,
    ToolUse,
)
from sidecar.errors import InvalidRequest

_TOKEN_REMINDER = re.compile(
    r"<system-reminder>\s*<total_tokens>[^<]*</total_tokens>\s*</system-reminder>\s*|<total_tokens>[^<]*</total_tokens>\s*"
)
"""Counts down from turn to turn: kept in history it would part the prefix at every turn."""


def blocks_of(message: Message, path: str, request: CountRequest) -> list[frames.Block]:
    if isinstance(message.content, str):
        return _text(message.content)
    blocks: list[frames.Block] = []
    for index, block in enumerate(message.content):
        blocks += _block(block, message.role, f"{path}.content.{index}", request)
    return blocks


def _block(block: AnyBlock, role: str, path: str, request: CountRequest) -> list[frames.Block]:
    match block:
        case TextBlock():
            return _text(block.text)
        case ToolUse() if role == "assistant":
            return [frames.Call(block.id, block.name, block.input)]
        case ToolResult() if role == "user":
            return [frames.Result(block.tool_use_id, _result_text(block, path, request), bool(block.is_error))]
        case Thinking() if role == "assistant":
            return [frames.Thinking(block.thinking, block.signature)]
        case RedactedThinking() if role == "assistant":
            return []
        case Document() if role == "user":
            return _text(_document_text(block, path))
        case SearchResult() if role == "user":
            return _text(_search_text(block))
        case Compaction():
            return _text(block.content or "")
        case Image():
            raise InvalidRequest(f"{path}.source: {REFUSED['image']['source']}, not images")
        case ContainerUpload():
            raise InvalidRequest(f"{path}.file_id: {REFUSED['container_upload']['file_id']}")
        case ToolAddition() | ToolRemoval():
            changed = change_text(block, request.tools or ())
            return [frames.Text(frames.reminder(changed))] if changed and role != "assistant" else []
        case ToolReference() | Remote():
            return []
    raise InvalidRequest(
        f"{path}: a {block.__struct_config__.tag} block cannot stand in a message with the role {role}"
    )


def _result_text(result: ToolResult, path: str, request: CountRequest) -> str:
    if isinstance(result.content, str):
        return without_reminders(result.content)
    parts = (_result_part(part, f"{path}.content.{index}", request) for index, part in enumerate(result.content or ()))
    return "\n".join(filter(None, parts))


def _result_part(part: AnyBlock, path: str, request: CountRequest) -> str:
    match part:
        case TextBlock():
            return without_reminders(part.text)
        case Document():
            return _document_text(part, path)
        case SearchResult():
            return _search_text(part)
        case ToolReference():
            return definition_text(part.tool_name, request.tools or ())
        case Image():
            # Refusing would end the conversation: the client sends its history again with every turn.
            return "[an image; this model reads text only]"
        case _:
            return ""


def _document_text(document: Document, path: str) -> str:
    source = document.source
    if source.type == "text":
        text = source.data
    elif source.type == "content" and isinstance(source.content, str):
        text = source.content
    elif source.type == "content" and all(isinstance(part, TextBlock) for part in source.content):
        text = "\n".join(part.text for part in source.content if isinstance(part, TextBlock))
    else:
        raise InvalidRequest(f"{path}.source: this model reads text documents only, not {source.type}")
    return "\n".join(filter(None, [document.title, document.context, text]))


def _search_text(result: SearchResult) -> str:
    return "\n".join([result.title, result.source, *(block.text for block in result.content)])


def _text(text: str) -> list[frames.Block]:
    text = without_reminders(text)
    return [frames.Text(text)] if text else []


def without_reminders(text: str) -> str:
    return _TOKEN_REMINDER.sub("", text) if "<total_tokens>" in text else text
