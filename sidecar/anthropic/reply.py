"""Engine events become an answer: content blocks in strict order, as server-sent events or as one message.

Pure: the only state is the block that is open. Block lifecycles and event order follow the API's streaming
reference: message_start, (block start, deltas, block stop)*, message_delta, message_stop.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from sidecar.frames import (
    Finished,
    FromEngine,
    Progress,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingEnd,
    ToolArguments,
    ToolStart,
)

_STOP_REASONS = {
    "end": "end_turn",
    "length": "max_tokens",
    "stop": "stop_sequence",
    "window": "model_context_window_exceeded",
    "tool": "tool_use",
}

PING: dict[str, Any] = {"type": "ping"}

_BESIDE: dict[str, Any] = {
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "inference_geo": "not_available",
    "service_tier": "standard",
}
"""What an answer's usage says beside its counts; message_delta, which brings the counts again, does without."""

_EMPTY: dict[str, dict[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
    "tool_use": {"type": "tool_use"},
}
"""Content blocks at their start."""


class Reply:
    """Folds the engine's events of one request into API events."""

    def __init__(
        self,
        message_id: str,
        model: str,
        new_tool_id: Callable[[], str],
        thinking: Literal["whole", "omitted", "never"] = "whole",
        begun: bool = False,
        edits: bool = False,
    ) -> None:
        """`thinking`: what the client gets to see of it: all, blocks with nothing but a signature, or no such block.
        `begun`: the answer goes on from words of the client's, which its first blank may part from the next.
        `edits`: it has asked for edits of its context, and is told which were made: none."""
        self._message_id = message_id
        self._model = model
        self._new_tool_id = new_tool_id
        self._thinking = thinking
        self._begun = begun
        self._more: dict[str, Any] = {"context_management": {"applied_edits": []}} if edits else {}
        self._open: str | None = None
        self._index = -1
        self._blank = ""

    def start(self, started: Started | None) -> dict[str, Any]:
        """The message_start event. It counts one token of output, as the API's does; without `started` (the prompt is
        not rendered yet) its input counts are 0, and message_delta brings the true ones. Whatever was fed before is
        forgotten."""
        self._open, self._index, self._blank = None, -1, ""
        usage = _usage(started.prompt_tokens, started.cached_tokens, 1) if started else _usage(0, 0, 1)
        return {
            "type": "message_start",
            "message": {
                "id": self._message_id,
                "type": "message",
                "role": "assistant",
                "model": self._model,
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "stop_details": None,
                "usage": {**usage, **_BESIDE},
            },
        }

    def shows(self, event: FromEngine) -> bool:
        """Whether an event adds to what the client sees, so that the answer cannot be begun anew."""
        match event:
            case Started() | Progress():
                return False
            case ThinkingDelta():
                return self._thinking == "whole"
            case ThinkingEnd():
                return self._thinking != "never"
            case _:
                return True

    def feed(self, event: FromEngine) -> Iterator[dict[str, Any]]:
        """The API events that follow from one engine event."""
        match event:
            case TextDelta():
                yield from self._words("text", event.text)
            case ThinkingDelta() if self._thinking == "whole":
                yield from self._words("thinking", event.text)
            case ThinkingEnd() if self._thinking != "never":
                yield from self._ensure("thinking")
                yield self._delta({"type": "signature_delta", "signature": event.signature})
                yield from self._close()
            case ToolStart():
                yield from self._close()
                yield from self._ensure("tool_use", id=self._new_tool_id(), name=event.name, input={})
            case ToolArguments():
                yield self._delta({"type": "input_json_delta", "partial_json": event.json})
            case Finished():
                yield from self._close()
                if event.cut:
                    yield from self._words("text", _cut_off(event))
                    yield from self._close()
                yield self._end(event)
                yield {"type": "message_stop"}
            case _:
                pass

    def _end(self, event: Finished) -> dict[str, Any]:
        delta = {
            "stop_reason": _STOP_REASONS[event.reason],
            "stop_sequence": event.stop_sequence,
            "stop_details": None,
        }
        usage = _usage(event.prompt_tokens, event.cached_tokens, event.output_tokens, event.thinking_tokens)
        return {"type": "message_delta", "delta": delta, "usage": usage, **self._more}

    def _words(self, kind: Literal["text", "thinking"], text: str) -> Iterator[dict[str, Any]]:
        # The API refuses empty and blank text blocks in history, so none is opened before there is something in it.
        if self._open != kind:
            self._blank += text
            if not self._blank.strip():
                return
            text, self._blank = self._blank if self._begun and self._index < 0 else self._blank.lstrip(), ""
        yield from self._ensure(kind)
        yield self._delta({"type": f"{kind}_delta", kind: text})

    def _ensure(self, kind: str, **fields: Any) -> Iterator[dict[str, Any]]:
        if self._open == kind:
            return
        yield from self._close()
        self._index += 1
        self._open = kind
        yield {"type": "content_block_start", "index": self._index, "content_block": _EMPTY[kind] | fields}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}

    def _close(self) -> Iterator[dict[str, Any]]:
        self._blank = ""
        if self._open is None:
            return
        self._open = None
        yield {"type": "content_block_stop", "index": self._index}


def _cut_off(finished: Finished) -> str:
    """What stands in the place of a call that is not whole: an answer without any content would say nothing, and a call
    with half of its arguments might be run."""
    limit = "the context window is full" if finished.reason == "window" else "max_tokens was reached"
    return f"(The call of {finished.cut} was cut off: {limit} after {finished.output_tokens} tokens.)"


def sse(event: dict[str, Any]) -> bytes:
    """One server-sent event."""
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"


def collect(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The whole message that a stream's events describe."""
    message: dict[str, Any] = {}
    arguments = ""
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                message["content"].append(dict(event["content_block"]))
                arguments = ""
            case "content_block_delta":
                block, delta = message["content"][-1], event["delta"]
                if "partial_json" in delta:
                    arguments += delta["partial_json"]
                for key in ("text", "thinking", "signature"):
                    if key in delta:
                        block[key] += delta[key]
            case "content_block_stop":
                _close_arguments(message["content"], arguments)
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
                message |= {name: event[name] for name in ("context_management",) if name in event}
    return message


def _close_arguments(content: list[dict[str, Any]], arguments: str) -> None:
    if content[-1]["type"] != "tool_use":
        return
    try:
        # Passed on as it was written: numbers may be larger than Python's, and the order of keys is the model's.
        content[-1]["input"] = msgspec.json.decode(arguments, type=msgspec.Raw)
    except msgspec.DecodeError:
        content.pop()  # cut off by max_tokens: half a call is no call


def _usage(prompt: int, cached: int, output: int, thinking: int = 0) -> dict[str, Any]:
    """Everything that is read is cached; writing to the cache costs nothing here and is not counted apart."""
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": thinking},
    }
