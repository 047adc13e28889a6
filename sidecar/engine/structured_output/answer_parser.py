"""The answer parser: one answer's text becomes events as it arrives, in pieces of any size."""

import hashlib
import json
from dataclasses import fields, replace
from typing import Any

from mlx_lm.generate import TextStateMachine

from sidecar.conversation import Block, Call, Text, Thinking
from sidecar.engine.structured_output.call_format import CallFormat
from sidecar.engine.tokenizing.special_tokens import Special
from sidecar.engine.tokenizing.thoughts import Thoughts
from sidecar.frames import TextDelta, ThinkingDelta, ThinkingEnd, ToolArguments, ToolStart

Event = TextDelta | ThinkingDelta | ThinkingEnd | ToolStart | ToolArguments

_SIGNATURE = "local-"


def sign(thinking: str) -> str:
    """The signature of a thought: equal thoughts have equal ones."""
    return _SIGNATURE + hashlib.sha256(thinking.encode()).hexdigest()[:32]


def is_ours(signature: str) -> bool:
    """Whether a thought in the history was thought here, rather than by some other server's model."""
    return signature.startswith(_SIGNATURE)


class AnswerParser:
    """Takes an answer apart into text, thoughts and calls, up to a stop sequence.

    `stopped` is the stop sequence that ended the answer, once one did; nothing after it is parsed.
    """

    def __init__(
        self,
        request: int,
        thoughts: Thoughts | None,
        special: Special,
        calls: CallFormat | None,
        stop: tuple[str, ...] = (),
        thought_open: bool = False,
    ) -> None:
        """`calls`: the format to look for; None when no tools were offered, so that nothing can be a call. `special`:
        the tokens that are marked in what is fed; words that spell one out are words."""
        self.stopped: str | None = None
        self.blocks: list[Block] = []
        """What was said so far, calls with their whole arguments only."""
        self.thinking = thought_open
        self._request = request
        self._stop = stop
        self._calls = _marked(calls, special) if calls else None
        self._call: _Call | None = None
        edges = _edges(thoughts, special, self._calls, stop)
        self._special, self._known = special, _known(edges, special, self._calls)
        self._machine = TextStateMachine(_complete(edges, special, self._known))
        self._state = self._machine.make_state("thinking" if thought_open else "start")
        self._thought = ""
        self._written: list[tuple[str, str]] = []
        """Calls, by name and arguments as they were written."""
        self._held: list[Event] = []
        """Of a call that is not the first one."""

    @property
    def called(self) -> bool:
        """Whether a whole call was made."""
        return any(isinstance(block, Call) for block in self.blocks)

    @property
    def calls(self) -> int:
        """How many whole calls were made, each but once."""
        return sum(isinstance(block, Call) for block in self.blocks)

    @property
    def in_call(self) -> bool:
        """Whether a call has begun and not ended."""
        return self._call is not None

    @property
    def cut(self) -> str:
        """The name of the tool in whose call, the only one, the answer has ended."""
        return self._call.name if self._call is not None and not self.called else ""

    def feed(self, text: str) -> list[Event]:
        """The events that this piece completes. Text that may be the start of a marker is held back."""
        events: list[Event] = []
        text = self._special.without(text, self._known)
        while text and self.stopped is None:
            if self._call is not None:
                text = self._feed_call(text, events)
            else:
                # At first one character at a time: after the first word a thought's marker is none any more.
                size = 1 if self._state[0] == "start" else len(text)
                self._state, segments = TextStateMachine.split(self._state, text[:size])
                text = (self._fold(segments, events) or self._settle()) + text[size:]
        return events

    def finish(self) -> list[Event]:
        """The rest, when no more text comes."""
        events: list[Event] = []
        if self._call is not None and self._call.whole:
            self._end_call(events)  # but for its end marker
        elif self.stopped is None and self._call is None:
            _, rest, state = TextStateMachine.flush(self._state)
            if self.called:
                rest = ""  # the beginning of another call's marker: nothing else comes after a call
            self._fold([(state, rest), ("text", "")], events)
        return events

    def _settle(self) -> str:
        """Once something was said no thought can begin: its marker is then a word like others. Returns what was held
        back, to be read again."""
        if self._state[0] != "start" or not any(
            isinstance(block, Text) and block.text.strip() for block in self.blocks
        ):
            return ""
        held: str = self._state[3]
        self._state = self._machine.make_state("text")
        return held

    def _fold(self, segments: list[tuple[str, str]], events: list[Event]) -> str:
        """Returns the text that lies in a call."""
        for state, text in segments:
            if self.thinking and state != "thinking":
                events.append(self._end_thought())
            self.thinking = state == "thinking"
            if state == "call":
                assert self._calls is not None
                self._call = _Call(self._request, self._calls)
                self._state = self._machine.make_state("text")
                return text
            if state.startswith("stop"):
                self.stopped = self._stop[int(state[4:])]
                return ""
            text = self._special.without(text)
            if text and self.thinking:
                self._thought += text
                events.append(ThinkingDelta(self._request, text))
            elif text and state in ("start", "text"):
                self._say(text)
                events.append(TextDelta(self._request, text))
        return ""

    def _feed_call(self, text: str, events: list[Event]) -> str:
        assert self._call is not None
        rest, pieces = self._call.feed(text)
        # A client that has seen the beginning of a further call could not be told that it was cut off, or is the same
        # once more: it comes when it is whole.
        if self.called:
            self._held += pieces
        else:
            events += pieces
        if rest is None:
            return ""
        self._end_call(events)
        return rest

    def _end_call(self, events: list[Event]) -> None:
        assert self._call is not None
        written = (self._call.name, self._call.arguments)
        if written not in self._written:
            self.blocks.append(Call("", self._call.name, _decoded(self._call.arguments)))
            self._written.append(written)
            events += self._held
        self._held, self._call = [], None

    def _say(self, text: str) -> None:
        last = self.blocks[-1] if self.blocks else None
        if isinstance(last, Text):
            self.blocks[-1] = Text(last.text + text)
        else:
            self.blocks.append(Text(text))

    def _end_thought(self) -> ThinkingEnd:
        signature = sign(self._thought)
        self.blocks.append(Thinking(self._thought, signature))
        self._thought = ""
        return ThinkingEnd(self._request, signature)


class _Call:
    """One call while its text arrives: head, name and middle, the arguments, tail and end marker."""

    def __init__(self, request: int, form: CallFormat) -> None:
        self.name = ""
        self.arguments = ""
        self._request = request
        self._form = form
        self._text = ""
        self._object = _ObjectEnd()
        self._closing: str | None = None

    @property
    def whole(self) -> bool:
        """Whether nothing but its end marker is left to come."""
        return self._closing is not None

    def feed(self, text: str) -> tuple[str | None, list[Event]]:
        """What is left after the call's end (None while it lasts), and the events."""
        events: list[Event] = []
        if not self.name:
            self._text += text
            head, middle, text = self._text[len(self._form.head) :].partition(self._form.middle)
            if not middle:
                return None, events
            self.name = head
            events.append(ToolStart(self._request, head))
        if self._closing is None:
            end = self._object.find(text)
            piece, text = (text, "") if end is None else (text[:end], text[end:])
            if piece:
                self.arguments += piece
                events.append(ToolArguments(self._request, piece))
            if end is None:
                return None, events
            self._closing = self._form.tail + self._form.end
        # The grammar lets nothing but this follow.
        taken = min(len(text), len(self._closing))
        self._closing, text = self._closing[taken:], text[taken:]
        return (None if self._closing else text), events


class _ObjectEnd:
    """Finds where a JSON object ends, without reading any character twice. A marker inside a string is none."""

    def __init__(self) -> None:
        self._depth = 0
        self._string = self._escaped = False

    def find(self, text: str) -> int | None:
        """The index after the object's last brace, if it is in this piece."""
        for index, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._string:
                self._escaped, self._string = character == "\\", character != '"'
            elif character == '"':
                self._string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if not self._depth:
                    return index + 1
        return None


def _decoded(arguments: str) -> dict[str, Any]:
    try:
        return dict(json.loads(arguments))
    except (ValueError, RecursionError):  # JSON that Python cannot hold: thousands of digits or of levels
        return {}


_Machine = dict[str, list[tuple[str, str]]]


def _edges(thoughts: Thoughts | None, special: Special, calls: CallFormat | None, stop: tuple[str, ...]) -> _Machine:
    """The states start, text, thinking, call, stopN and those of the thoughts' own, and the markers between them."""
    text = [(calls.start, "call")] if calls else []
    for index, sequence in enumerate(stop):
        text += [(each, f"stop{index}") for each in {sequence, special.marked(sequence)}]
    edges: _Machine = {"start": list(text), "text": list(text), "thinking": [], "call": []}
    edges |= {f"stop{index}": [] for index in range(len(stop))}
    own = thoughts.edges if thoughts else {}
    for state, ways in own.items():
        edges.setdefault(state, []).extend((special.marked(word), then) for word, then in ways)
    if thoughts and "thinking" not in own:
        begin = special.marked(thoughts.begin)
        edges["start"].append((begin, "thinking"))
        edges["thinking"].append((special.marked(thoughts.end), "text"))
        if begin != thoughts.begin:  # a token is a marker anywhere, its words are one at the beginning alone
            edges["text"].append((begin, "thinking"))
    return edges


def _known(edges: _Machine, special: Special, calls: CallFormat | None) -> frozenset[str]:
    """The special tokens that mean something."""
    markers = [marker for ways in edges.values() for marker, _ in ways]
    parts = [calls.start, calls.head, calls.middle, calls.tail, calls.end] if calls else []
    return frozenset(special.pattern.findall(" ".join([*markers, *parts])))


def _complete(edges: _Machine, special: Special, known: frozenset[str]) -> _Machine:
    """Where a token means nothing it is passed over."""
    for state, ways in edges.items():
        if state != "call" and not state.startswith("stop"):
            ways += [
                (marked, state)
                for marked in map(special.marked, sorted(known))
                if not any(marker.startswith(marked) for marker, _ in ways)
            ]
    return edges


def _marked(calls: CallFormat, special: Special) -> CallFormat:
    """The format as an answer has it."""
    return replace(calls, **{each.name: special.marked(getattr(calls, each.name)) for each in fields(calls)})


def said(blocks: list[Block]) -> Any:
    """What of an answer a client sees and sends back, in a form that equal answers share; hashable."""
    return (
        "".join(block.text.strip() for block in blocks if isinstance(block, Text)),
        tuple(block.signature for block in blocks if isinstance(block, Thinking)),
        tuple((block.name, json.dumps(block.arguments, sort_keys=True)) for block in blocks if isinstance(block, Call)),
    )
