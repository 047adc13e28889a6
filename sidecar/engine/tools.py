"""Tool calls: the grammar that makes them valid, and the parser that takes answers apart.

Two call formats exist. The JSON format (`<tool_call>{"name": …, "arguments": …}</tool_call>`: Qwen, Hermes,
our own for templates without tools) is held to the tools' JSON schemas by a grammar while it is sampled, and its
arguments stream. Other native formats are parsed whole by mlx-lm's parsers when the call ends.
"""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from mlx_lm.generate import TextStateMachine
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.frames import Call, TextDelta, ThinkingDelta, Tool, ToolArguments, ToolStart

CALL_START, CALL_END = "<tool_call>", "</tool_call>"

_SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""json.dumps' defaults: what was sampled reads the same when it comes back as history, so the cache still fits."""

_BRACE = "}\n"
_CALL_HEAD = re.compile(r'\s*\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')
_CALL_TAIL = re.compile(r"[\s}]*\Z")

Event = TextDelta | ThinkingDelta | ToolStart | ToolArguments

log = logging.getLogger(__name__)


def render_call(call: Call) -> str:
    """A call in the JSON format, exactly as the grammar lets the model write it."""
    body = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
    return f"{CALL_START}\n{body}\n{CALL_END}"


class Grammars:
    """Builds the grammars of one tokenizer; the last one is kept, since an agent sends the same tools every time."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._token = {marker: self._single(marker) for marker in (CALL_START, CALL_END)}
        self._last: tuple[object, str] = ((), "")

    def matcher(self, tools: tuple[Tool, ...], forced: tuple[str, ...] = (), parallel: bool = True) -> LLMatcher:
        """A fresh matcher: free text with valid calls in it, or with `forced` nothing but calls of these tools."""
        key = (tools, forced, parallel)
        if key != self._last[0]:
            allowed = [tool for tool in tools if not forced or tool.name in forced]
            self._last = (key, self._grammar(allowed, bool(forced), parallel))
        return LLMatcher(self._tokenizer, self._last[1])

    def _grammar(self, tools: list[Tool], forced: bool, parallel: bool) -> str:
        """In llguidance's Lark: a lazy terminal ends at the first marker, so text can never hold an unchecked call."""
        token = self._token[CALL_START]
        marker = token or json.dumps(CALL_START)
        if forced:
            start = f'{marker} call ("\\n" {marker} call)*' if parallel else f"{marker} call"
        else:
            start = "(opened call)* TEXT" if parallel else "opened call | TEXT"
        rules = [f"call_{index}: {self._call(tool)}" for index, tool in enumerate(tools)]
        return "\n".join(
            [
                "%llguidance {}",
                f"start: {start}",
                r"TEXT: /(.|\n)*/",
                f"opened: spelled{f' | TEXT {token}' if token else ''}",
                f"spelled[lazy]: TEXT {json.dumps(CALL_START)}",
                f"end: {self._token[CALL_END] or json.dumps(CALL_END)}",
                f"call: {' | '.join(f'call_{index}' for index in range(len(tools)))}",
                *rules,
            ]
        )

    def _call(self, tool: Tool) -> str:
        schema = {**tool.schema, "x-guidance": _SEPARATORS}
        if problem := LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema), self._tokenizer):
            log.warning(
                "tool %s: its schema is loosened to any object, since it does not compile: %s", tool.name, problem
            )
            schema = {"type": "object", "x-guidance": _SEPARATORS}
        head = f'\n{{"name": {json.dumps(tool.name)}, "arguments": '
        return f"{json.dumps(head)} %json {json.dumps(schema)} {json.dumps(_BRACE)} end"

    def _single(self, marker: str) -> str:
        """The marker as the grammar names a token of its own; empty when the tokenizer has none.

        llguidance takes every added token in angle brackets for a special one, which no text in a grammar matches.
        """
        tokens = self._tokenizer.tokenize_str(marker)
        return f"<[{tokens[0]}]>" if len(tokens) == 1 and self._tokenizer.is_special_token(tokens[0]) else ""


class GrammarProcessor:
    """A logits processor that keeps one row inside its grammar.

    Never raises: in mlx-lm's batch that would corrupt the other rows. A matcher that fails lets the row end.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: int, eos: int) -> None:
        self._matcher = matcher
        self._mask = allocate_token_bitmask(1, vocabulary)
        self._end = np.zeros(vocabulary, dtype=bool)
        self._end[eos] = True
        self._sampling = False

    def __call__(self, context: mx.array, logits: mx.array) -> mx.array:
        # The context's last token is the one sampled from our previous mask, except on the first call.
        if self._sampling and not self._matcher.is_stopped():
            self._matcher.consume_token(int(context[-1].item()))  # type: ignore[arg-type]  # an integer array
        self._sampling = True
        return mx.where(mx.array(self._allowed(logits.shape[-1])), logits, -mx.inf)

    def _allowed(self, vocabulary: int) -> Any:
        if self._matcher.is_stopped():
            return self._end
        fill_next_token_bitmask(self._matcher, self._mask)
        allowed = np.unpackbits(self._mask.view(np.uint8)[0], bitorder="little")[:vocabulary].astype(bool)
        return allowed if allowed.any() else self._end


class AnswerParser:
    """Folds one answer's text into events, as it arrives in pieces of any size.

    `stopped` is the stop sequence that ended the answer, once one did; nothing after it is parsed.
    """

    def __init__(
        self,
        request: int,
        tokenizer: TokenizerWrapper,
        tools: tuple[Tool, ...],
        native: bool,
        stop: tuple[str, ...],
        opening: str,
    ) -> None:
        self.stopped: str | None = None
        self.calls = 0
        self._request = request
        self._tools = [{"type": "function", "function": {"name": t.name, "parameters": t.schema}} for t in tools]
        self._stop = stop
        self._parse_native = tokenizer.tool_parser if native and tokenizer.tool_call_start != CALL_START else None
        self._call: _Call | None = None
        machine = TextStateMachine(_transitions(tokenizer, bool(tools), native, stop))
        thinking = tokenizer.has_thinking and opening.rfind(tokenizer.think_start) > opening.rfind(tokenizer.think_end)
        self._state = machine.make_state("thinking" if thinking else "text")

    def feed(self, text: str) -> list[Event]:
        """The events that this piece completes. Text that may be the start of a marker is held back."""
        if self.stopped is not None:
            return []
        self._state, segments = TextStateMachine.split(self._state, text)
        return list(self._events(segments))

    def finish(self, ended: bool) -> list[Event]:
        """The rest, when no more text comes; `ended`: the model ended its turn, rather than being cut off."""
        if self.stopped is not None:
            return []
        self._state, rest, state = TextStateMachine.flush(self._state)
        events = list(self._events([(state, rest)]))
        if self._call is not None and ended and self._parse_native:  # some formats have no end marker
            events += self._close()
        return events

    def _events(self, segments: list[tuple[str, str]]) -> Iterator[Event]:
        for state, text in segments:
            if state != "tool" and self._call is not None:
                yield from self._close()
            if state.startswith("stop"):
                self.stopped = self._stop[int(state[4:])]
                return
            if state == "tool":
                yield from self._open_call().feed(text)
            elif text:
                yield (ThinkingDelta if state == "thinking" else TextDelta)(self._request, text)

    def _open_call(self) -> "_Call":
        if self._call is None:
            self._call = _Call(self._request, streams=self._parse_native is None)
        return self._call

    def _close(self) -> Iterator[Event]:
        call, self._call = self._call, None
        assert call is not None
        if self._parse_native is None:
            self.calls += call.started
            yield from call.close()
            return
        try:
            parsed = self._parse_native(call.text, self._tools)
        except Exception as error:  # mlx-lm's parsers raise whatever their format makes them
            log.warning("a tool call that does not parse is passed on as text: %s", error)
            yield TextDelta(self._request, call.text)
            return
        for one in parsed if isinstance(parsed, list) else [parsed]:
            self.calls += 1
            yield ToolStart(self._request, one["name"])
            yield ToolArguments(self._request, json.dumps(one["arguments"], ensure_ascii=False))


class _Call:
    """One call while its text arrives."""

    def __init__(self, request: int, streams: bool) -> None:
        self.text = ""
        self.started = False
        self._request = request
        self._streams = streams

    def feed(self, text: str) -> Iterator[Event]:
        self.text += text
        if not self._streams:
            return
        if not self.started:
            head = _CALL_HEAD.match(self.text)
            if head is None:
                return
            self.started = True
            self.text = self.text[head.end() :]
            yield ToolStart(self._request, json.loads(head[1]))
        # The closing brace of the call itself is not the arguments': it can only be in the tail.
        tail = _CALL_TAIL.search(self.text)
        assert tail is not None
        ready, self.text = self.text[: tail.start()], self.text[tail.start() :]
        if ready:
            yield ToolArguments(self._request, ready)

    def close(self) -> Iterator[Event]:
        if self.started:
            yield ToolArguments(self._request, self.text.rstrip()[:-1])


def _transitions(
    tokenizer: TokenizerWrapper, tools: bool, native: bool, stop: tuple[str, ...]
) -> dict[str, list[tuple[str, str]]]:
    """The states text, thinking, tool and stopN, and the markers between them."""
    edges: dict[str, list[tuple[str, str]]] = {"text": [], "thinking": [], "tool": []}
    if tokenizer.has_thinking:
        edges["text"].append((tokenizer.think_start, "thinking"))
        edges["thinking"].append((tokenizer.think_end, "text"))
    if tools:
        start, end = (tokenizer.tool_call_start, tokenizer.tool_call_end) if native else (CALL_START, CALL_END)
        edges["text"].append((start, "tool"))
        edges["tool"] += [(end, "text")] if end else []
    for index, sequence in enumerate(stop):
        edges["text"].append((sequence, f"stop{index}"))
    return edges | {f"stop{index}": [] for index in range(len(stop))}
