"""The model's own chat template where it can, our words where it cannot.

What a template supports is found by rendering probes through it at load, not by model names.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.conversation import Call, Conversation, Message, Result, Text, Thinking, reminder
from sidecar.engine.prompting.positions import common_length
from sidecar.engine.prompting.tool_prompt import definition, describe, describe_answer
from sidecar.engine.prompting.turns import UNKNOWN_WORD, CallIds, Turn, call_id, listed_tools, named_call, user_turn
from sidecar.engine.structured_output.answer_parser import is_ours
from sidecar.engine.structured_output.call_format import OURS, PROBE, CallFormat, learn
from sidecar.engine.tokenizing.special_tokens import Special, any_of, special_of
from sidecar.engine.tokenizing.thoughts import thoughts_of

_LONGEST_NAME = 128
"""Characters in the name of a special token, at most."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a template writes between the user's words and an answer."""

    text: str = ""
    """In a prompt and in history alike."""
    gap: str = ""
    """What only history has behind it: a blank, or the word that there was no thought."""

    def before(self, head: str, position: int, answer: int) -> int:
        """Where the header begins that stands before an answer, not before `position`; -1 when there is none."""
        whole = self.text + self.gap
        return (
            answer - len(whole) if head.endswith(whole, position, answer) else head.rfind(self.text, position, answer)
        )


class ChatTemplate:
    """Renders conversations for one tokenizer."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._tokenizer = tokenizer
        self.special = special_of(tokenizer)
        self.thoughts = thoughts_of(tokenizer)
        markers = (self.thoughts.begin, self.thoughts.end) if self.thoughts else ()
        self.answered = Special(self.special.words | {-1 - at: marker for at, marker in enumerate(markers)})
        self._added = any_of(token.content for token in tokenizer.added_tokens_decoder.values() if token.content)
        self._headers: dict[bool, Header | None] = {}
        self._nonce = secrets.token_hex(8)

    @cached_property
    def native_calls(self) -> CallFormat | None:
        """The template's own format of calls; None when it renders no tools, or writes calls in a way that no grammar
        could hold to a schema."""
        tool = {
            "type": "function",
            "function": {"name": UNKNOWN_WORD, "description": "", "parameters": {"type": "object"}},
        }
        if not self._tokenizer.has_tool_calling or UNKNOWN_WORD not in self._probe([user_turn("x")], tools=[tool]):
            return None
        calls = [{"id": call_id(index), "type": "function", "function": call} for index, call in enumerate(PROBE)]
        text = self._probe([user_turn("x"), {"role": "assistant", "content": "", "tool_calls": calls}], tools=[tool])
        return learn(text, self._tokenizer.tool_call_start, self._tokenizer.tool_call_end)

    @property
    def calls(self) -> CallFormat:
        """How this model writes calls."""
        return self.native_calls or OURS

    @cached_property
    def _renders_system(self) -> bool:
        return UNKNOWN_WORD in self._probe([{"role": "system", "content": UNKNOWN_WORD}, user_turn("x")])

    @cached_property
    def _talks_after_results(self) -> bool:
        """Whether the user may say something right after a tool's result; some templates insist on an answer first."""
        call = {"id": call_id(0), "type": "function", "function": named_call("x", {})}
        called = {"role": "assistant", "content": "", "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": call_id(0), "name": "x", "content": "x"}
        return UNKNOWN_WORD in self._probe([user_turn("x"), called, result, user_turn(UNKNOWN_WORD)])

    def header(self, thinking: bool) -> "Header | None":
        """What stands before an answer, in a prompt for it and in history; None when the two do not agree.

        With and without thinking, since a template may write "no thought" where it asks for none.
        """
        if thinking not in self._headers:
            self._headers[thinking] = self._probe_header(thinking)
        return self._headers[thinking]

    def _probe_header(self, thinking: bool) -> "Header | None":
        asked = [user_turn("x")]
        closed, prompt = (self._probe(asked, open_answer=opened, thinking=thinking) for opened in (False, True))
        history = self._probe(
            [*asked, {"role": "assistant", "content": UNKNOWN_WORD}, user_turn("y")], thinking=thinking
        )
        start = self.common(closed, prompt)
        if UNKNOWN_WORD not in history or not history.startswith(prompt[:start]):
            return None
        before = history[: history.index(UNKNOWN_WORD)]
        end = self.common(prompt, before)
        header, gap = prompt[start:end], before[end:]
        return Header(header, gap) if header or not gap.strip() else None

    def common(self, a: str, b: str) -> int:
        """How far two texts agree, in whole tokens of those that have a name: `<|end|>` and `<|else|>` share none."""
        cut = common_length(a, b)
        cuts = (
            match.start()
            for match in self._added.finditer(b, max(0, cut - _LONGEST_NAME), cut + _LONGEST_NAME)
            if match.start() < cut < match.end()
        )
        return next(cuts, cut)

    def tools(self, conversation: Conversation) -> list[Turn] | None:
        return [definition(tool) for tool in listed_tools(conversation)] if self.native_calls else None

    def messages(self, conversation: Conversation, replayed: Mapping[int, list[int]]) -> list[Turn]:
        system = conversation.system
        if (listed := listed_tools(conversation)) and not self.native_calls:
            system = f"{system}\n\n{describe(listed)}".strip()
        if conversation.answer_schema is not None:
            system = f"{system}\n\n{describe_answer(conversation.answer_schema)}".strip()
        place = "\n\n".join(conversation.environment)
        if place and not (listed and self.native_calls):
            system, place = f"{system}\n\n{place}".strip(), ""
        ids = CallIds(conversation)
        turns: list[Turn] = []
        for index, message in enumerate(conversation.messages):
            if index in replayed:
                turns.append({"role": "assistant", "content": self.mark(index)})
            else:
                turns += self._turns(message, ids)
        if place:  # such a template writes its tools behind the system prompt
            turns[0] = {**turns[0], "content": f"{reminder(place)}\n\n{turns[0]['content']}".strip()}
        if system and self._renders_system:
            return [{"role": "system", "content": system}, *turns]
        if system:
            turns[0] = {**turns[0], "content": f"{system}\n\n{turns[0]['content']}"}
        return turns

    def _turns(self, message: Message, ids: "CallIds") -> list[Turn]:
        text = "\n\n".join(block.text for block in message.blocks if isinstance(block, Text) and block.text)
        if message.role == "assistant":
            return [self._assistant(text, message, ids)]
        results = [block for block in message.blocks if isinstance(block, Result)]
        if not self.native_calls:
            parts = [f"<tool_response>\n{self._result(result)}\n</tool_response>" for result in results]
            return [user_turn("\n".join([*parts, text] if text or not parts else parts))]
        turns = [
            {
                "role": "tool",
                "tool_call_id": ids.short[result.call_id],
                "name": ids.names[result.call_id],
                "content": self._result(result),
            }
            for result in results
        ]
        if text and turns and not self._talks_after_results:
            turns[-1]["content"] += f"\n\n{text}"
            return turns
        return [*turns, user_turn(text)] if text or not turns else turns

    def _assistant(self, text: str, message: Message, ids: "CallIds") -> Turn:
        calls = [block for block in message.blocks if isinstance(block, Call)]
        if not self.native_calls:
            return {"role": "assistant", "content": "\n".join(filter(None, [text, *map(self.calls.render, calls)]))}
        turn: Turn = {"role": "assistant", "content": text}
        thoughts = [block.text for block in message.blocks if isinstance(block, Thinking) and is_ours(block.signature)]
        if thoughts := list(filter(None, map(str.strip, thoughts))):
            turn["reasoning_content"] = "\n".join(thoughts)  # shown where the template's author wants it shown
        if calls:
            turn["tool_calls"] = [
                {"id": ids.short[call.id], "type": "function", "function": named_call(call.name, call.arguments)}
                for call in calls
            ]
        return turn

    def _result(self, result: Result) -> str:
        return f"Error: {result.text}" if result.is_error and not result.text.startswith("Error") else result.text

    def mark(self, index: int) -> str:
        """A word that stands in the text for a replayed answer."""
        return f"X{self._nonce}X{index}X"

    def render(
        self, messages: list[Turn], tools: list[Turn] | None, thinking: bool = False, open_answer: bool = True
    ) -> str:
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                messages, tools=tools, add_generation_prompt=open_answer, tokenize=False, enable_thinking=thinking
            )
        except Exception as error:  # Jinja raises what the template's author liked
            raise ValueError(f"this model's chat template refuses the conversation: {error}") from error
        return rendered

    def _probe(
        self,
        messages: list[Turn],
        tools: list[Turn] | None = None,
        open_answer: bool = True,
        thinking: bool = False,
    ) -> str:
        try:
            return self.render(messages, tools, thinking, open_answer)
        except ValueError:
            return ""
