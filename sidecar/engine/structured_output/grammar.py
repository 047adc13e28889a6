"""Grammars: what the model may write, so that calls and structured answers are valid by construction.

llguidance compiles them from JSON Schemas and says, token by token, what may come next.
"""

import json
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from llguidance import LLMatcher, LLTokenizer
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.conversation import Tool
from sidecar.engine.json_schema.loosen import COSTLY, compiling, without
from sidecar.engine.json_schema.narrowing import WHOLE, Narrowed, narrowed
from sidecar.engine.structured_output.call_format import CallFormat
from sidecar.engine.structured_output.loops import Vocabulary
from sidecar.engine.tokenizing.special_tokens import special_of
from sidecar.engine.tokenizing.thoughts import thoughts_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shape:
    """What one answer may look like. Without tools and schema there is nothing to enforce."""

    tools: tuple[Tool, ...] = ()
    forced: tuple[str, ...] = ()
    """The answer is nothing but calls of these tools; empty = text or calls of any."""
    parallel: bool = True
    answer_schema: dict[str, Any] | None = None
    """Text is JSON that this schema accepts."""
    thinking: bool = False
    """The answer may begin with a thought."""
    thought_open: bool = False
    """The prompt has already begun one, which must end first."""
    answer_open: bool = False
    """The prompt has already written what stands before an answer, as some models do."""

    @property
    def free(self) -> bool:
        return not self.tools and self.answer_schema is None

    @property
    def called(self) -> list[Tool]:
        """The tools that may be called."""
        return [tool for tool in self.tools if not self.forced or tool.name in self.forced]

    @property
    def further(self) -> bool:
        """Whether a call may be followed by others."""
        return bool(self.tools) and self.parallel


PATIENCE_S = 2.0
"""How long is looked for what does not compile in one schema."""
_KEPT = 4
"""Grammars kept compiled: an agent sends the same tools every time, its side requests others or none."""


_ANSWER = "output_config.format.schema"
"""What an answer's schema is called where the client has it."""


def _refuse_empty(read: Narrowed, dropped: tuple[str, ...], held: dict[str, Any]) -> None:
    """Raise ValueError for a schema of an answer that holds nothing, or refers to what it does not have: its author
    has no use for just any JSON."""
    nowhere = [place for place in read.malformed if "$ref" in place]
    nothing = () if held else read.malformed
    if nowhere or nothing or WHOLE in (*read.loose, *dropped):
        why = "; ".join([*nowhere, *nothing, *read.loose, *dropped])[:300]
        raise ValueError(f"{_ANSWER}: it cannot be enforced: {why}")


class TooComplex(ValueError):
    """What was asked for cannot be held by any grammar, however loose."""


@dataclass(eq=False)
class Guide:
    """The grammars of one answer; their matchers are to be copied."""

    first: LLMatcher
    """All up to the end of the first call, which it captures as "call"."""
    parallel: bool
    """Whether there may be further ones."""
    compile_further: Callable[[], LLMatcher]
    marker: int
    """Bytes of the further one that are not the call's yet."""
    looser: Callable[[], "Guide"]
    """For when they can be followed no longer. Raises TooComplex when nothing is left to loosen."""

    @cached_property
    def further(self) -> LLMatcher:
        """A further call, with what stands between it and the one before."""
        return self.compile_further()


_LEVELS = ("as it is", "without patterns, formats and lengths", "as any object")
"""What becomes of each schema, one after the other, when grammars turn out to be too complex."""


class Grammars:
    """Builds the grammars of one tokenizer."""

    def __init__(self, tokenizer: LLTokenizer, wrapper: TokenizerWrapper, calls: CallFormat, size: int) -> None:
        """`size`: of the vocabulary, as the model has it."""
        self.vocabulary = Vocabulary(tokenizer, size)
        self._tokenizer = tokenizer
        self._calls = calls
        self._think = thoughts_of(wrapper)
        self._special = special_of(wrapper)
        added = sorted((token.content for token in wrapper.added_tokens_decoder.values()), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, filter(None, added))) or r"(?!)")
        self._known: list[tuple[Shape, Guide]] = []
        self._said: set[str] = set()
        self._deadline = 0.0
        """When one tool's schema has taken too long."""

    def guide(self, shape: Shape) -> Guide:
        """The grammars for an answer. Raises ValueError, in words for the client, when there can be none."""
        for known, guide in self._known:
            if known == shape:
                return guide
        try:
            guide = self._guide(shape, 0)
        except ValueError:
            raise
        except BaseException as error:  # what llguidance's own language raises when it gives up is no Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ValueError(f"the schemas of tools and answer cannot be enforced: {error}") from error
        self._keep(shape, guide)
        return guide

    def _keep(self, shape: Shape, guide: Guide) -> None:
        others = [(known, other) for known, other in self._known if known != shape]
        self._known = [*others[-_KEPT + 1 :], (shape, guide)]

    def _guide(self, shape: Shape, level: int) -> Guide:
        """At this level or the first above it that compiles."""
        while level < len(_LEVELS):
            rules = self._rules(shape, level)
            first = self._matcher(rules)
            if not first.is_error():
                further = partial(self._matcher, {**rules, "start": f"{self._literal(self._marker)} call"})
                looser = partial(self._looser, shape, level + 1)
                return Guide(first, shape.further, further, len(self._marker.encode()), looser)
            problem = first.get_error()
            level += 1
            if level < len(_LEVELS):
                log.warning("schemas are taken %s, since together they do not compile: %s", _LEVELS[level], problem)
        raise TooComplex("its grammar is too complex")

    def _looser(self, shape: Shape, level: int) -> Guide:
        if level >= len(_LEVELS):
            raise TooComplex("its grammar is too complex")
        guide = self._guide(shape, level)
        names = ", ".join(tool.name for tool in shape.called) or "the answer"
        log.warning("%s: schemas are taken %s, since they are too complex to be followed", names, _LEVELS[level])
        self._keep(shape, guide)  # the next one begins so
        return guide

    @property
    def _marker(self) -> str:
        return self._calls.between + self._calls.start

    def _matcher(self, rules: dict[str, str]) -> LLMatcher:
        grammar = "\n".join(["%llguidance {}", *(f"{name}: {rule}" for name, rule in rules.items())])
        return LLMatcher(self._tokenizer, grammar, log_level=0)

    def _rules(self, shape: Shape, level: int) -> dict[str, str]:
        """In llguidance's Lark: a lazy terminal ends at the first marker, so text can never hold an unchecked call."""
        rules = {"start": f"{self._thoughts(shape)} answer".strip(), "TEXT": r"/(.|\n)*/", "SPACE": r"/[ \n]*/"}
        if self._think:
            rules |= self._until("thought", self._think.end)
        if shape.tools:
            rules |= self._call_rules(shape, level)
        rules["answer"] = self._answer(shape)
        if shape.answer_schema is not None:
            rules["value"] = f"%json {json.dumps(self._held(_ANSWER, shape.answer_schema, '', level))}"
        return rules

    def _thoughts(self, shape: Shape) -> str:
        if not self._think:
            return ""
        # Free text may begin with anything, a thought too; JSON and forced calls must leave room for it.
        strict = bool(shape.forced) or shape.answer_schema is not None
        after = self._literal(self._think.between) + (" SPACE" if strict and not self._think.answer else "")
        before = "" if shape.answer_open else self._literal(self._think.answer)
        if shape.thought_open:
            return f"thought {after} {before}"
        thought = f"({self._literal(self._think.begin)} thought {after})?" if shape.thinking else ""
        return f"{thought} {before}"

    def _answer(self, shape: Shape) -> str:
        call = f"{self._literal(self._calls.start)} call"
        if shape.forced:
            return call
        if shape.answer_schema is not None:
            return f"value | {call}" if shape.tools else "value"
        return "TEXT | opened call"

    def _call_rules(self, shape: Shape, level: int) -> dict[str, str]:
        tools = shape.called
        return {
            **self._until("opened", self._calls.start),
            "call[capture]": " | ".join(f"call_{index}" for index in range(len(tools))),
            **{f"call_{index}": self._call(tool, level) for index, tool in enumerate(tools)},
        }

    def _call(self, tool: Tool, level: int) -> str:
        head = self._literal(f"{self._calls.head}{tool.name}{self._calls.middle}")
        tail = self._literal(self._calls.tail + self._calls.end)
        return f"{head} %json {json.dumps(self._held(f'tool {tool.name}', tool.schema, 'object', level))} {tail}"

    def _until(self, name: str, marker: str) -> dict[str, str]:
        """Any text up to and with the marker, as a token of its own or spelled out; but the words of a special token
        are only words."""
        literal = self._literal(marker)
        if self._special.pattern.match(marker):
            return {name: f"TEXT {literal}"}
        if literal.startswith("<["):
            return {name: f"{name}_spelled | TEXT {literal}", f"{name}_spelled[lazy]": f"TEXT {json.dumps(marker)}"}
        return {f"{name}[lazy]": f"TEXT {literal}"}

    def _literal(self, text: str) -> str:
        """Fixed text for Lark, where tokens that llguidance takes for special ones match by their number only."""
        parts, position = [], 0
        for match in self._added.finditer(text):
            [*tokens] = self._tokenizer.tokenize_str(match[0])
            if len(tokens) == 1 and self._tokenizer.is_special_token(tokens[0]):
                parts += [json.dumps(text[position : match.start()]), f"<[{tokens[0]}]>"]
                position = match.end()
        parts.append(json.dumps(text[position:]))
        return " ".join(part for part in parts if part != '""')

    def _held(self, name: str, schema: dict[str, Any], kind: str, level: int) -> dict[str, Any]:
        """The schema as narrow as a grammar can hold it; what it cannot is said once."""
        if level == len(_LEVELS) - 1:
            return self._json({"type": kind} if kind else {})
        read = narrowed(schema, kind)
        self._deadline = time.monotonic() + PATIENCE_S
        narrow = without(read.schema, COSTLY) if level else read.schema
        held, dropped = compiling(narrow, self._problem)
        if name == _ANSWER:
            _refuse_empty(read, dropped, held)
        self._say(name, "read as absent, since it is malformed", read.malformed)
        self._say(name, "not held while it is written, and not checked", (*read.loose, *dropped))
        return self._json(held)

    def _say(self, name: str, what: str, places: tuple[str, ...]) -> None:
        line = f"{name}: {what}: {'; '.join(map(repr, places))}"
        if places and line not in self._said:
            self._said.add(line)
            log.warning("%s", line[:500])

    def _problem(self, schema: dict[str, Any]) -> str:
        if time.monotonic() > self._deadline:
            return "it takes too long"
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(self._json(schema)))
        return str(LLMatcher.validate_grammar(grammar, self._tokenizer))

    def _json(self, schema: dict[str, Any]) -> dict[str, Any]:
        # The format's own separators: what was sampled reads the same when it comes back as history.
        spelling = {
            "whitespace_flexible": False,
            "item_separator": self._calls.item_separator,
            "key_separator": self._calls.key_separator,
        }
        return {**schema, "x-guidance": spelling}
