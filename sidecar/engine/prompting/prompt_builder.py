"""A conversation becomes a prompt: rendered, tokenised, and cut where other prompts may part from it.

Knows nothing of caches, scheduling or the public API.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.conversation import Block, Conversation, Thinking
from sidecar.engine.prompting.chat_template import ChatTemplate, Header
from sidecar.engine.prompting.positions import common_length, token_at, tokens_before
from sidecar.engine.prompting.token_replay import Replay, digests
from sidecar.engine.prompting.turns import UNKNOWN_WORD, Turn, in_other_words, written_texts
from sidecar.engine.structured_output.answer_parser import said
from sidecar.engine.structured_output.call_format import CallFormat
from sidecar.engine.tokenizing.encode_cache import Encoder, Overlong, forever
from sidecar.engine.tokenizing.special_tokens import broken_up

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
        self._template = ChatTemplate(tokenizer)
        self.special = self._template.special
        self.thoughts = self._template.thoughts
        self._encoder = Encoder(tokenizer)
        self._replay = Replay()

    @property
    def native_calls(self) -> CallFormat | None:
        """The template's own format of calls; None when it renders no tools, or writes calls in a way that no grammar
        could hold to a schema."""
        return self._template.native_calls

    @property
    def calls(self) -> CallFormat:
        """How this model writes calls."""
        return self._template.calls

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
            conversation = broken_up(conversation, self.special, self._template.answered)
            messages = self._template.messages(conversation, {})
            prefill = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
            head = self._template.render(messages, self._template.tools(conversation), conversation.thinking)
            return self._encoder.count(head + prefill, check)

    def remember(self, prompt: Prompt, blocks: list[Block], sampled: list[int]) -> None:
        """Keep an answer as it was sampled (without the token that ended it), for when it comes back as history."""
        if prompt.answer_start is not None:
            blocks = [block for block in blocks if prompt.thinking or not isinstance(block, Thinking)]
            self._replay.add(said(blocks), prompt.asked, [*prompt.tokens[prompt.answer_start :], *sampled])

    def _replayed(self, conversation: Conversation) -> dict[int, list[int]]:
        """The messages that hold an answer of ours, by their index, as they were sampled."""
        if self._template.header(conversation.thinking) is None:
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
        conversation = broken_up(conversation, self.special, self._template.answered)
        messages = self._template.messages(conversation, replayed)
        prefill = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
        tools = self._template.tools(conversation)
        head = self._template.render(messages, tools, conversation.thinking)
        # Some templates end a prompt that asks for no answer with one more token: it is no part of what is asked.
        opened = self._template.common(
            self._template.render(messages, tools, conversation.thinking, open_answer=False), head
        )
        header = self._template.header(conversation.thinking)
        answer = opened if header is not None and head.startswith(header.text, opened) else None
        if prefill and header is not None and header.gap.strip():
            prefill = header.gap + prefill  # such as the channel's name, which else the model would write
        tokens, starts = self._tokenise(head, prefill, replayed, header or Header(), answer, most, check)
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

    def _tokenise(
        self,
        head: str,
        prefill: str,
        replayed: Mapping[int, list[int]],
        header: "Header",
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
            mark = self._template.mark(index)
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
            rendered = self._template.render(self._template.messages(other, replayed), tools, conversation.thinking)
            cuts.append(common_length(head, rendered))
        return cuts
