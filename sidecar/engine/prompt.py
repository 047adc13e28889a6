"""A conversation becomes a prompt: the model's own chat template where it can, our words where it cannot.

Knows nothing of caches, scheduling or the public API. What a template supports is found by rendering
probes through it at load, not by model names.
"""

import json
import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.engine.tools import CALL_END, CALL_START, render_call
from sidecar.frames import Call, Conversation, Message, Result, Text, Tool

_PROBE = "XPROBEX"
"""A word that no template contains."""


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: list[int]
    boundaries: tuple[int, ...]
    """Token counts at which other prompts are likely to part from this one (end of system and tools, start of the last
    user message), ascending: where a cache that cannot be trimmed needs checkpoints."""
    opening: str
    """What the template already wrote of the answer, such as an opened thinking block."""


class PromptBuilder:
    """Renders conversations for one tokenizer."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._tokenizer = tokenizer
        special = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special and token.content.strip()
        ]
        self._special = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or r"(?!)")

    @cached_property
    def native_tools(self) -> bool:
        """Whether the template renders tool definitions and mlx-lm can parse the calls that follow from them."""
        tool = {"type": "function", "function": {"name": _PROBE, "description": "", "parameters": {"type": "object"}}}
        return bool(self._tokenizer.has_tool_calling) and _PROBE in self._probe([_user("x")], tools=[tool])

    @property
    def json_calls(self) -> bool:
        """Whether calls are written in the JSON format, which a grammar can enforce."""
        return not self.native_tools or self._tokenizer.tool_call_start == CALL_START

    @cached_property
    def _renders_system(self) -> bool:
        return _PROBE in self._probe([{"role": "system", "content": _PROBE}, _user("x")])

    def build(self, conversation: Conversation) -> Prompt:
        """Render and tokenise. Raises ValueError when the model's template refuses the conversation."""
        messages = self._messages(conversation)
        prefill = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        tools = [_definition(tool) for tool in conversation.tools] if self.native_tools else None
        head = self._render(messages, tools)
        encoding = self._tokenizer.backend_tokenizer.encode(head + prefill, add_special_tokens=False)
        starts = [start for start, _ in encoding.offsets]
        return Prompt(
            tokens=encoding.ids,
            boundaries=tuple(_tokens_before(starts, cut) for cut in self._cuts(conversation, tools, head)),
            opening=head[len(self._render(messages, tools, add_generation_prompt=False)) :] + prefill,
        )

    def _cuts(self, conversation: Conversation, tools: list[dict[str, Any]] | None, head: str) -> list[int]:
        """Positions in the text where a neighbour's prompt may part from this one, ascending.

        Found by rendering the conversation with other words: a template may write anything around a message.
        """
        last = max(index for index, message in enumerate(conversation.messages) if message.role == "user")
        cuts = []
        for kept in sorted({0, last}):
            messages = (*conversation.messages[:kept], Message("user", (Text(_PROBE),)))
            other = msgspec.structs.replace(conversation, messages=messages)
            cuts.append(_common_length(head, self._render(self._messages(other), tools)))
        return cuts

    def _messages(self, conversation: Conversation) -> list[dict[str, Any]]:
        system = self._clean(conversation.system)
        if conversation.tools and not self.native_tools:
            system = f"{system}\n\n{_describe(conversation.tools)}".strip()
        names = {
            block.id: block.name
            for message in conversation.messages
            for block in message.blocks
            if isinstance(block, Call)
        }
        turns = [turn for message in conversation.messages for turn in self._turns(message, names)]
        if system and self._renders_system:
            return [{"role": "system", "content": system}, *turns]
        if system:
            turns[0] = {**turns[0], "content": f"{system}\n\n{turns[0]['content']}"}
        return turns

    def _turns(self, message: Message, names: dict[str, str]) -> list[dict[str, Any]]:
        text = "\n\n".join(
            self._clean(block.text) for block in message.blocks if isinstance(block, Text) and block.text
        )
        if message.role == "assistant":
            return [self._assistant(text, [block for block in message.blocks if isinstance(block, Call)])]
        results = [block for block in message.blocks if isinstance(block, Result)]
        if not self.native_tools:
            parts = [f"<tool_response>\n{self._result(result)}\n</tool_response>" for result in results]
            return [_user("\n".join([*parts, text] if text or not parts else parts))]
        turns = [
            {
                "role": "tool",
                "tool_call_id": result.call_id,
                "name": names.get(result.call_id, ""),
                "content": self._result(result),
            }
            for result in results
        ]
        return [*turns, _user(text)] if text or not turns else turns

    def _assistant(self, text: str, calls: list[Call]) -> dict[str, Any]:
        if not self.native_tools:
            return {"role": "assistant", "content": "\n".join(filter(None, [text, *map(render_call, calls)]))}
        turn: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            turn["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in calls
            ]
        return turn

    def _result(self, result: Result) -> str:
        text = self._clean(result.text)
        return f"Error: {text}" if result.is_error and not text.startswith("Error") else text

    def _clean(self, text: str) -> str:
        """Break up special tokens in foreign text: a file that holds `<|end|>` must not end the user's turn."""
        return self._special.sub(lambda match: match[0][0] + "\u200b" + match[0][1:], text)

    def _render(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None, add_generation_prompt: bool = True
    ) -> str:
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=add_generation_prompt, tokenize=False
            )
        except Exception as error:  # Jinja raises what the template's author liked
            raise ValueError(f"this model's chat template refuses the conversation: {error}") from error
        return rendered

    def _probe(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
        try:
            return self._render(messages, tools)
        except ValueError:
            return ""


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _definition(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {"type": "function", "function": function}


def _describe(tools: tuple[Tool, ...]) -> str:
    """The tools in words, for templates that know none. The call format is the most widely trained one."""
    listed = "\n".join(json.dumps(_definition(tool)["function"], ensure_ascii=False) for tool in tools)
    return (
        "# Tools\nYou can call these functions; each line describes one, its parameters as JSON Schema:\n"
        f"{listed}\n\nTo call one, write exactly this, and nothing after the last call:\n"
        f'{CALL_START}\n{{"name": "function name", "arguments": {{"parameter": "value"}}}}\n{CALL_END}\n'
        "The result comes back between <tool_response> and </tool_response>. Never invent a result."
    )


def _common_length(a: str, b: str) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:  # bisection on slices: comparing two strings is a memcmp
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low


def _tokens_before(starts: list[int], cut: int) -> int:
    """How many tokens lie wholly before a text position, less one: the last of them may merge with what follows."""
    return max(0, bisect_left(starts, cut) - 1)
