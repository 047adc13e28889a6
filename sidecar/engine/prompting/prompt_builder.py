"""A conversation becomes a prompt: the model's own chat template where it can, our words where it cannot.

Knows nothing of caches, scheduling or the public API. What a template supports is found by rendering
probes through it at load, not by model names.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.conversation import Block, Call, Conversation, Message, Result, Text, Thinking, reminder
from sidecar.engine.prompting.positions import common_length, token_at, tokens_before
from sidecar.engine.prompting.token_replay import Replay, digests
from sidecar.engine.prompting.tool_prompt import definition, describe, describe_answer
from sidecar.engine.prompting.turns import (
    UNKNOWN_WORD,
    CallIds,
    Turn,
    call_id,
    in_other_words,
    listed_tools,
    named_call,
    user_turn,
    written_texts,
)
from sidecar.engine.structured_output.answer_parser import is_ours, said
from sidecar.engine.structured_output.call_format import OURS, PROBE, CallFormat, learn
from sidecar.engine.tokenizing.encode_cache import Encoder, Overlong, forever
from sidecar.engine.tokenizing.special_tokens import Special, any_of, broken_up, special_of
from sidecar.engine.tokenizing.thoughts import thoughts_of

_LONGEST_NAME = 128
"""Characters in the name of a special token, at most."""
EXACT = 5 / 4
"""Prompts of up to so many times the window are counted to the last token, longer ones from what was counted until
then."""
COUNTED = 1 << 18
"""Tokens up to which a count goes the way of a prompt, and leaves what it has encoded behind for it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: list[int]
    boundaries: tuple[int, ...]
    """Token counts at which other prompts are likely to part from this one (end of system and tools, of each part
    of the environment, start of the last user message), ascending: where a cache that cannot be trimmed needs
    checkpoints."""
    stable: int
    """Token count of what the first message begins with: system, tools and environment, as in the next session."""
    opening: str
    """What the template already wrote of the answer, such as an opened thinking block, and what the client did; its
    special tokens are broken up."""
    answer_start: int | None
    """Index of the token with which the answer's turn begins; None where that is not the start of a token."""
    asked: bytes
    """The digest of the conversation."""
    thinking: bool = False
    """Whether thoughts were asked for; else nobody gets to see them."""


class PromptBuilder:
    """Renders conversations for one tokenizer."""

    def __init__(self, tokenizer: TokenizerWrapper) -> None:
        self._tokenizer = tokenizer
        self.special = special_of(tokenizer)
        self.thoughts = thoughts_of(tokenizer)
        markers = (self.thoughts.begin, self.thoughts.end) if self.thoughts else ()
        self._answered = Special(self.special.words | {-1 - at: marker for at, marker in enumerate(markers)})
        self._added = any_of(token.content for token in tokenizer.added_tokens_decoder.values() if token.content)
        self._headers: dict[bool, _Header | None] = {}
        self._encoder = Encoder(tokenizer)
        self._replay = Replay()
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

    def _header(self, thinking: bool) -> "_Header | None":
        """What stands before an answer, in a prompt for it and in history; None when the two do not agree.

        With and without thinking, since a template may write "no thought" where it asks for none.
        """
        if thinking not in self._headers:
            self._headers[thinking] = self._probe_header(thinking)
        return self._headers[thinking]

    def _probe_header(self, thinking: bool) -> "_Header | None":
        asked = [user_turn("x")]
        closed, prompt = (self._probe(asked, open_answer=opened, thinking=thinking) for opened in (False, True))
        history = self._probe(
            [*asked, {"role": "assistant", "content": UNKNOWN_WORD}, user_turn("y")], thinking=thinking
        )
        start = self._common(closed, prompt)
        if UNKNOWN_WORD not in history or not history.startswith(prompt[:start]):
            return None
        before = history[: history.index(UNKNOWN_WORD)]
        end = self._common(prompt, before)
        header, gap = prompt[start:end], before[end:]
        return _Header(header, gap) if header or not gap.strip() else None

    def _common(self, a: str, b: str) -> int:
        """How far two texts agree, in whole tokens of those that have a name: `<|end|>` and `<|else|>` share none."""
        cut = common_length(a, b)
        cuts = (
            match.start()
            for match in self._added.finditer(b, max(0, cut - _LONGEST_NAME), cut + _LONGEST_NAME)
            if match.start() < cut < match.end()
        )
        return next(cuts, cut)

    def build(self, conversation: Conversation, most: int | None = None, check: Callable[[], None] = forever) -> Prompt:
        """Render and tokenise. Raises ValueError when the model's template refuses the conversation, Overlong when it
        has far more than `most` tokens (as far as EXACT times they are counted), and what `check` raises, which is
        called now and then."""
        if most is not None:
            for text in written_texts(conversation):
                self._encoder.refuse(text, most)
        if replayed := self._replayed(conversation):
            try:
                return self._build(conversation, replayed, most, check)
            except ValueError:
                pass  # this template wants to see the calls themselves
        return self._build(conversation, {}, most, check)

    def count(self, conversation: Conversation, check: Callable[[], None] = forever) -> int:
        """How many tokens `build` would come to, also where they are far more than could ever be read."""
        try:
            return len(self.build(conversation, COUNTED, check).tokens)
        except Overlong:
            conversation = broken_up(conversation, self.special, self._answered)
            messages = self._messages(conversation, {})
            prefill = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
            head = self._render(messages, self._tools(conversation), conversation.thinking)
            return self._encoder.count(head + prefill, check)

    def remember(self, prompt: Prompt, blocks: list[Block], sampled: list[int]) -> None:
        """Keep an answer as it was sampled (without the token that ended it), for when it comes back as history."""
        if prompt.answer_start is not None:
            blocks = [block for block in blocks if prompt.thinking or not isinstance(block, Thinking)]
            self._replay.add(said(blocks), prompt.asked, [*prompt.tokens[prompt.answer_start :], *sampled])

    def _replayed(self, conversation: Conversation) -> dict[int, list[int]]:
        """The messages that hold an answer of ours, by their index, as they were sampled."""
        if self._header(conversation.thinking) is None:
            return {}
        answers = {
            index: self._replay.find(said(list(message.blocks)), asked)
            for index, (message, asked) in enumerate(
                zip(conversation.messages[:-1], digests(conversation.messages), strict=False)
            )
            if message.role == "assistant"
        }
        return {index: tokens for index, tokens in answers.items() if tokens}

    def _build(
        self,
        conversation: Conversation,
        replayed: Mapping[int, list[int]],
        most: int | None,
        check: Callable[[], None],
    ) -> Prompt:
        asked = [*digests(conversation.messages)][-1]
        conversation = broken_up(conversation, self.special, self._answered)
        messages = self._messages(conversation, replayed)
        prefill = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        tools = self._tools(conversation)
        head = self._render(messages, tools, conversation.thinking)
        # Some templates end a prompt that asks for no answer with one more token: it is no part of what is asked.
        opened = self._common(self._render(messages, tools, conversation.thinking, open_answer=False), head)
        header = self._header(conversation.thinking)
        answer = opened if header is not None and head.startswith(header.text, opened) else None
        if prefill and header is not None and header.gap.strip():
            prefill = header.gap + prefill  # such as the channel's name, which else the model would write
        tokens, starts = self._tokenise(head, prefill, replayed, header or _Header(), answer, most, check)
        cuts = [tokens_before(starts, cut) for cut in self._cuts(conversation, tools, head, replayed, check)]
        return Prompt(
            tokens=tokens,
            boundaries=tuple(sorted(set(cuts))),
            stable=cuts[len(conversation.environment)],
            opening=head[opened:] + prefill,
            answer_start=token_at(starts, answer, len(head)) if answer is not None and not prefill else None,
            asked=asked,
            thinking=conversation.thinking,
        )

    def _tools(self, conversation: Conversation) -> list[Turn] | None:
        return [definition(tool) for tool in listed_tools(conversation)] if self.native_calls else None

    def _tokenise(
        self,
        head: str,
        prefill: str,
        replayed: Mapping[int, list[int]],
        header: "_Header",
        opened: int | None,
        most: int | None,
        check: Callable[[], None],
    ) -> tuple[list[int], list[int]]:
        """Tokens, and where each begins in the text; those of a replayed answer all begin with its header.

        `opened`: where the header of the answer that is asked for begins, if it is there.
        """
        if most is not None:
            self._encoder.refuse(head, most)
        tokens: list[int] = []
        starts: list[int] = []

        def encode(text: str, offset: int) -> None:
            check()
            try:
                ids, begins = self._encoder.encode(
                    text, None if most is None else int(EXACT * most) - len(tokens), check
                )
            except Overlong as error:
                rest = len(head) + len(prefill) - offset - len(text)
                raise Overlong(len(tokens) + error.tokens * (len(text) + rest) // len(text)) from None
            tokens.extend(ids.tolist())
            starts.extend((begins + offset).tolist())

        position = 0
        for index, answer in replayed.items():
            mark = self._mark(index)
            at = head.find(mark, position)
            cut = header.before(head, position, at) if at >= 0 else -1
            if cut < 0:
                raise ValueError("the template rewrites what stands in an answer's place")
            encode(head[position:cut], position)
            tokens += answer
            starts += [cut] * len(answer)
            position = at + len(mark)
        # Cut as it will be once there is an answer, so that what stands before it is encoded once.
        if opened is not None and self.special.pattern.match(header.text):
            encode(head[position:opened], position)
            position = opened
        encode(head[position:] + prefill, position)
        return tokens, starts

    def _cuts(
        self,
        conversation: Conversation,
        tools: list[Turn] | None,
        head: str,
        replayed: Mapping[int, list[int]],
        check: Callable[[], None],
    ) -> list[int]:
        """Positions in the text where a neighbour's prompt may part from this one: at each part of the environment, at
        the first message, at the last of the user's.

        Found by rendering the conversation with other words: a template may write anything around a message.
        """
        last = max(index for index, message in enumerate(conversation.messages) if message.role == "user")
        # A part of the environment differs together with all that follows it, so that no later part can hide it.
        others = [
            msgspec.structs.replace(
                conversation,
                environment=(*conversation.environment[:kept], UNKNOWN_WORD),
                messages=(in_other_words(conversation.messages[0]),),
            )
            for kept in range(len(conversation.environment))
        ]
        for kept in sorted({0, last}):
            messages = (*conversation.messages[:kept], in_other_words(conversation.messages[kept]))
            others.append(msgspec.structs.replace(conversation, messages=messages))
        cuts = []
        for other in others:
            check()
            rendered = self._render(self._messages(other, replayed), tools, conversation.thinking)
            cuts.append(common_length(head, rendered))
        return cuts

    def _messages(self, conversation: Conversation, replayed: Mapping[int, list[int]]) -> list[Turn]:
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
                turns.append({"role": "assistant", "content": self._mark(index)})
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

    def _mark(self, index: int) -> str:
        """A word that stands in the text for a replayed answer."""
        return f"X{self._nonce}X{index}X"

    def _render(
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
            return self._render(messages, tools, thinking, open_answer)
        except ValueError:
            return ""


@dataclass(frozen=True, slots=True)
class _Header:
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
