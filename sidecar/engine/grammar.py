"""Grammars: what the model may write, so that calls and structured answers are valid by construction.

llguidance compiles them from JSON Schemas and says, token by token, what may come next.
"""

import dataclasses
import json
import logging
import re
from dataclasses import dataclass
from typing import Any

import msgspec
from llguidance import LLMatcher, LLTokenizer
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.engine.call import CallFormat
from sidecar.engine.schema import closed
from sidecar.frames import Tool

_LENIENT = {"lenient": True, "coerce_one_of": True}
"""llguidance's words for: leave out the keywords that you do not know."""

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

    @property
    def free(self) -> bool:
        return not self.tools and self.answer_schema is None


_KEPT = 4
"""Grammars kept compiled: an agent sends the same tools every time, its side requests others or none."""


class Grammars:
    """Builds the grammars of one tokenizer."""

    def __init__(self, tokenizer: LLTokenizer, wrapper: TokenizerWrapper, calls: CallFormat) -> None:
        self._tokenizer = tokenizer
        self._calls = calls
        self._think = (wrapper.think_start, wrapper.think_end) if wrapper.has_thinking else None
        added = sorted((token.content for token in wrapper.added_tokens_decoder.values()), key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, filter(None, added))) or r"(?!)")
        self._known: list[tuple[Shape, LLMatcher]] = []
        self._loosened: set[str] = set()

    def matcher(self, shape: Shape) -> LLMatcher:
        """A fresh matcher. Raises ValueError when the answer's schema does not compile."""
        for known, matcher in self._known:
            if known == shape:
                return matcher.deep_copy()
        matcher = self._compile(shape)
        self._known = [*self._known[-_KEPT + 1 :], (shape, matcher)]
        return matcher.deep_copy()

    def _compile(self, shape: Shape) -> LLMatcher:
        matcher = LLMatcher(self._tokenizer, self._grammar(shape))
        if not matcher.is_error():
            return matcher
        log.warning("the tools' schemas are loosened, since together they do not compile: %s", matcher.get_error())
        anything = tuple(msgspec.structs.replace(tool, schema={}) for tool in shape.tools)
        return LLMatcher(self._tokenizer, self._grammar(dataclasses.replace(shape, tools=anything)))

    def _grammar(self, shape: Shape) -> str:
        """In llguidance's Lark: a lazy terminal ends at the first marker, so text can never hold an unchecked call."""
        rules = {"start": f"{self._thoughts(shape)} answer".strip(), "TEXT": r"/(.|\n)*/", "SPACE": r"/[ \n]*/"}
        if self._think:
            rules |= self._until("thought", self._think[1])
        if shape.tools:
            rules |= self._call_rules(shape)
        rules["answer"] = self._answer(shape)
        if shape.answer_schema is not None:
            rules["value"] = f"%json {json.dumps(self._answer_schema(shape.answer_schema))}"
        return "\n".join(["%llguidance {}", *(f"{name}: {rule}" for name, rule in rules.items())])

    def _thoughts(self, shape: Shape) -> str:
        if not self._think:
            return ""
        # Free text may begin with anything, a thought too; JSON and forced calls must leave room for it.
        strict = bool(shape.forced) or shape.answer_schema is not None
        space = " SPACE" if strict else ""
        if shape.thought_open:
            return f"thought{space}"
        return "" if not shape.thinking else f"({self._literal(self._think[0])} thought{space})?"

    def _answer(self, shape: Shape) -> str:
        more = "more" if shape.parallel else ""
        calls = f"{self._literal(self._calls.start)} call {more}"
        if shape.forced:
            return calls
        if shape.answer_schema is not None:
            return f"value | {calls}" if shape.tools else "value"
        return f"TEXT | opened call {more}"

    def _call_rules(self, shape: Shape) -> dict[str, str]:
        tools = [tool for tool in shape.tools if not shape.forced or tool.name in shape.forced]
        return {
            **self._until("opened", self._calls.start),
            "more": f"({self._literal(self._calls.between + self._calls.start)} call)*",
            "call": " | ".join(f"call_{index}" for index in range(len(tools))),
            **{f"call_{index}": self._call(tool) for index, tool in enumerate(tools)},
        }

    def _call(self, tool: Tool) -> str:
        head = self._literal(f"{self._calls.head}{tool.name}{self._calls.middle}")
        tail = self._literal(self._calls.tail + self._calls.end)
        return f"{head} %json {json.dumps(self._arguments_schema(tool))} {tail}"

    def _until(self, name: str, marker: str) -> dict[str, str]:
        """Any text up to and with the marker, as a token of its own or spelled out."""
        literal = self._literal(marker)
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

    def _arguments_schema(self, tool: Tool) -> dict[str, Any]:
        """The tool's schema, loosened as little as makes it compile."""
        schema = {"type": "object", **closed(tool.schema)}
        if not (problem := self._problem(schema)):
            return self._json(schema)
        if tool.name not in self._loosened:
            log.warning("tool %s: its schema is loosened, since it does not compile: %s", tool.name, problem)
            self._loosened.add(tool.name)
        if not self._problem(schema, _LENIENT):
            return self._json(schema, _LENIENT)
        loose = {**schema, "properties": self._compiling_properties(schema)}
        if not self._problem(loose, _LENIENT):
            return self._json(loose, _LENIENT)
        return self._json({"type": "object"})

    def _compiling_properties(self, schema: dict[str, Any]) -> dict[str, Any]:
        shared: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return {}
        return {
            name: part if not self._problem({"type": "object", "properties": {name: part}, **shared}, _LENIENT) else {}
            for name, part in properties.items()
        }

    def _answer_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        schema = closed(schema)
        if problem := self._problem(schema):
            raise ValueError(f"output_config.format.schema: it cannot be enforced: {problem}")
        return self._json(schema)

    def _problem(self, schema: dict[str, Any], options: dict[str, Any] | None = None) -> str:
        grammar = LLMatcher.grammar_from_json_schema(self._json(schema, options))
        return str(LLMatcher.validate_grammar(grammar, self._tokenizer))

    def _json(self, schema: dict[str, Any], options: dict[str, Any] | None = None) -> dict[str, Any]:
        # The format's own separators: what was sampled reads the same when it comes back as history.
        spelling = {
            "whitespace_flexible": False,
            "item_separator": self._calls.item_separator,
            "key_separator": self._calls.key_separator,
        }
        return {**schema, "x-guidance": {**spelling, **(options or {})}}
