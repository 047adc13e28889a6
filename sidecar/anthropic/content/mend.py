"""A body that cannot be read becomes one that can, where the fault lies in the history: a block of a kind that nobody
knows here, or that is not as its kind should be; and wherever it holds what JSON has no word for: NaN, and the halves
of characters that clients leave where they cut a text.

Bytes in, bytes out; called only for bodies that were found faulty. What is new in a request stays as it is, so that its
faults are told by their place: except in what a tool returned, which the client did not write. Pure.
"""

import json
import re
from typing import Any

import msgspec

from sidecar.anthropic.content.remarks import unreadable
from sidecar.anthropic.fields.types import AnyBlock, ToolResult

_HALVES = re.compile(rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[89a-fA-F][0-9a-fA-F]{2})")
"""What looks like the escape of a character beyond 16 bits, which is two, or like one of its halves. It begins with
fixed bytes, so that tens of megabytes are searched in milliseconds."""
_MOST = 200_000
"""Of them in one body; each takes a microsecond."""
_HALF = 6
"""Bytes of one half."""
_CONSTANTS = (b"NaN", b"Infinity")
_BACKSLASH = ord("\\")
_MISSING = rb"\ufffd"
_THOUGHTS = ("thinking", "redacted_thinking")

_Fields = dict[str, msgspec.Raw]
_body, _message = msgspec.json.Decoder(_Fields), msgspec.json.Decoder(_Fields)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_block = msgspec.json.Decoder(AnyBlock)
_result = msgspec.json.Decoder(ToolResult)
_text = msgspec.json.Decoder(str)


def mended(body: bytes) -> bytes | None:
    """The body without its faults, as far as they are of these kinds; None when it has none of them."""
    whole = _HALVES.sub(_joined, body, count=_MOST)
    if any(word in whole for word in _CONSTANTS) and _read(_body, msgspec.Raw(whole)) is None:
        whole = _without_constants(whole)
    try:
        fields = _body.decode(whole)
        messages = [_message.decode(each) for each in _list.decode(fields["messages"])]
        new = max((index for index, each in enumerate(messages) if _read(_text, each.get("role")) == "user"), default=0)
        said = [_mend_message(each, index < new) for index, each in enumerate(messages)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
        return whole if whole != body else None
    return msgspec.json.encode({**fields, "messages": said})


def _joined(found: re.Match[bytes]) -> bytes:
    whole, start = found[0], found.start()
    at = start
    while at and found.string[at - 1] == _BACKSLASH:
        at -= 1
    if (start - at) % 2:  # the backslash is itself one that is meant: what follows is text, but a second half is none
        return whole[:_HALF] + (_MISSING if len(whole) > _HALF else b"")
    return whole if len(whole) > _HALF else _MISSING


def _without_constants(body: bytes) -> bytes:
    """Numbers that Python and others write although JSON has none of the kind, as text."""
    try:
        return json.dumps(json.loads(body, parse_constant=str), allow_nan=False).encode()
    except (ValueError, RecursionError):
        return body


def _read(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw | None) -> Any:
    """None for what the decoder does not take."""
    try:
        return None if raw is None else decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _mend_message(message: _Fields, old: bool) -> dict[str, Any]:
    if "content" not in message or _read(_text, message["content"]) is not None:
        return message
    blocks = _read(_list, message["content"])
    if blocks is None:
        return {**message, "content": ""} if old else message
    return {**message, "content": [_mend_block(block, old) for block in blocks]}


def _mend_block(block: msgspec.Raw, old: bool) -> Any:
    if _read(_block, block) is not None:
        return block
    fields = _read(_body, block) or {}
    kind = _read(_text, fields.get("type")) or ""
    if kind == "tool_result" and (result := _mend_result(fields)):
        return result
    if not old:
        return block
    if kind in _THOUGHTS:  # nobody reads another model's, and no model should find a remark among its own words
        return {"type": "redacted_thinking"}
    return {"type": "text", "text": unreadable(kind)}


def _mend_result(fields: _Fields) -> dict[str, Any] | None:
    """A tool's result that keeps its id and whatever of its content can be read; None when it has no id."""
    kept: dict[str, Any] = {name: fields[name] for name in ("type", "tool_use_id", "is_error") if name in fields}
    content = fields.get("content")
    if (parts := _read(_list, content)) is not None:
        kept["content"] = [_mend_part(part) for part in parts]
    elif _read(_text, content) is not None:
        kept["content"] = content
    for without in ((), ("is_error",)):
        result = {name: value for name, value in kept.items() if name not in without}
        if _read(_result, msgspec.Raw(msgspec.json.encode(result))) is not None:
            return result
    return None


def _mend_part(part: msgspec.Raw) -> Any:
    result = msgspec.json.encode({"type": "tool_result", "tool_use_id": "", "content": [part]})
    if _read(_result, msgspec.Raw(result)) is not None:
        return part
    kind = _read(_text, (_read(_body, part) or {}).get("type")) or ""
    return {"type": "text", "text": unreadable(kind)}
