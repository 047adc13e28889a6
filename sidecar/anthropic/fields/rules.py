"""What the API refuses of a request although all of it could be read: rules that its users rely on being told of.

What stands in the history is let through: a client sends it again with every turn, so that a refusal would end the
conversation for good. Pure.
"""

from collections.abc import Iterator
from typing import Any

from sidecar.anthropic.fields.types import Block, CountRequest, MessagesRequest, TextBlock
from sidecar.errors import InvalidRequest

CITATIONS_GONE = "2026-10-21"
"""The version of the API from which on a user's text has no citations."""
_MOST_MARKS = 4
_LIFETIMES = (None, "5m", "1h")
_OUTERMOST = 3
"""Dots in the path of a block that stands in no other."""


def check(request: CountRequest, version: str) -> None:
    """`version`: the anthropic-version header. Raises InvalidRequest that names the field."""
    last = _last_said(request)
    _check_marks(request, last)
    for path, block in last:
        if isinstance(block, TextBlock) and block.citations and version >= CITATIONS_GONE:
            raise InvalidRequest(f"{path}.text.citations: Extra inputs are not permitted")
        if isinstance(block, TextBlock) and not block.text and path.count(".") == _OUTERMOST:
            raise InvalidRequest("messages: text content blocks must be non-empty")
    if isinstance(request, MessagesRequest) and request.stream and request.max_tokens == 0:
        raise InvalidRequest("max_tokens: 0 reads the prompt and answers nothing, so that there is nothing to stream")


def _check_marks(request: CountRequest, last: list[tuple[str, Block]]) -> None:
    """cache_control has no effect here, but who gets it wrong pays for it elsewhere."""
    marks = [("", request.cache_control)]
    marks += [(f"tools.{index}.custom.", tool.cache_control) for index, tool in enumerate(request.tools or ())]
    if isinstance(request.system, list):
        marks += [(f"system.{index}.text.", block.cache_control) for index, block in enumerate(request.system)]
    for path, mark in [*marks, *((f"{path}.{_kind(block)}.", block.cache_control) for path, block in last)]:
        if mark is not None:
            _check_mark(f"{path}cache_control", mark)
    said = [block for message in request.messages for block in _blocks(message.content)]
    number = sum(mark is not None for _, mark in marks) + sum(block.cache_control is not None for block in said)
    if number > _MOST_MARKS:
        raise InvalidRequest(f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {number}.")


def _check_mark(path: str, mark: Any) -> None:
    if not isinstance(mark, dict):
        raise InvalidRequest(f"{path}: Input should be a valid dictionary")
    if "type" not in mark:
        raise InvalidRequest(f"{path}.type: Field required")
    if mark["type"] != "ephemeral":
        found = f"Input tag '{str(mark['type'])[:64]}' found using 'type'"
        raise InvalidRequest(f"{path}: {found} does not match any of the expected tags: 'ephemeral'")
    if mark.get("ttl") not in _LIFETIMES:
        raise InvalidRequest(f"{path}.ephemeral.ttl: Input should be '5m' or '1h'")


def _last_said(request: CountRequest) -> list[tuple[str, Block]]:
    """The blocks of the user's last message, and those inside them, by their paths."""
    last = max((index for index, message in enumerate(request.messages) if message.role == "user"), default=0)
    return [*_placed(request.messages[last].content, f"messages.{last}.content")]


def _placed(content: Any, path: str) -> Iterator[tuple[str, Block]]:
    for index, block in enumerate(content if isinstance(content, list) else ()):
        here = f"{path}.{index}"
        yield here, block
        yield from _placed(_inner(block), f"{here}.{_kind(block)}.content")


def _blocks(content: Any) -> Iterator[Block]:
    for block in content if isinstance(content, list) else ():
        yield block
        yield from _blocks(_inner(block))


def _inner(block: Block) -> Any:
    """What a block holds that may be blocks again."""
    return getattr(block, "content", None) or getattr(getattr(block, "source", None), "content", None)


def _kind(block: Block) -> str:
    return str(block.__struct_config__.tag)
