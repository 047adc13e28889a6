"""Special tokens, and the same words in foreign text: what a template writes is the token, what a file holds is text.

In a prompt the words of others are broken up before the template sees them, and put together again by the encoder. In
an answer it is the tokens that are marked: what a model spells out of ordinary ones is text as well.
"""

import re
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec
from mlx_lm.tokenizer_utils import TokenizerWrapper

from sidecar.conversation import Block, Call, Conversation, Message, Result, Tool

BREAK = f"Y{secrets.token_hex(8)}Y"
"""Stands behind the first character of a special token's words in foreign text. Letters and digits only: templates
trim, quote and escape everything else. Nobody can guess it."""
MARK = f"\ufdd0{secrets.token_hex(8)}"
"""Stands before a special token in an answer."""


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Matches the longest of these words; nothing where there are none."""
    return re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))) or r"(?!)")


class Special:
    """The special tokens of one tokenizer."""

    def __init__(self, words: dict[int, str]) -> None:
        """`words`: how they are written, by their numbers."""
        self.words = words
        self.pattern = any_of(words.values())
        # One character cannot be broken up.
        self._breakable = any_of(word for word in words.values() if len(word) > 1)
        self._marked = re.compile(f"{MARK}({self.pattern.pattern})")

    def broken(self, text: str) -> str:
        """Foreign text without any special token in it."""
        while (less := self._breakable.sub(lambda found: found[0][0] + BREAK + found[0][1:], text)) != text:
            text = less  # what is left of one may hold another
        return text

    def marked(self, text: str) -> str:
        """How an answer has it: each special token with its mark."""
        return self.pattern.sub(lambda found: MARK + found[0], text)

    def without(self, text: str, known: frozenset[str] = frozenset()) -> str:
        """An answer's text without the tokens that mean nothing to a reader: all but `known`."""
        if MARK not in text:
            return text
        return self._marked.sub(lambda found: found[0] if found[1] in known else "", text)


def special_of(tokenizer: TokenizerWrapper) -> Special:
    """Those that the tokenizer calls special, but for blanks."""
    added = tokenizer.added_tokens_decoder.items()
    return Special({number: token.content for number, token in added if token.special and token.content.strip()})


def broken_up(conversation: Conversation, special: Special, answered: Special) -> Conversation:
    """The conversation with all that others wrote broken up: words, names and schemas alike. `answered`: what is broken
    up in earlier answers, where a template may look for more, such as the end of a thought."""
    text, last = special.broken, conversation.messages[-1]
    return msgspec.structs.replace(
        conversation,
        system=text(conversation.system),
        environment=tuple(map(text, conversation.environment)),
        messages=tuple(
            _message(message, answered if message.role == "assistant" and message is not last else special)
            for message in conversation.messages
        ),
        tools=tuple(_tool(tool, special) for tool in conversation.tools if tool.listed),
        answer_schema=_value(conversation.answer_schema, special),
    )


def _message(message: Message, special: Special) -> Message:
    return Message(message.role, tuple(_block(block, special) for block in message.blocks))


def _block(block: Block, special: Special) -> Block:
    if isinstance(block, Call):
        return msgspec.structs.replace(block, arguments=_value(block.arguments, special))
    text = special.broken(block.text)
    if isinstance(block, Result):
        return block if text is block.text else Result(block.call_id, text, block.is_error)
    return block if text is block.text else msgspec.structs.replace(block, text=text)


def _tool(tool: Tool, special: Special) -> Tool:
    description, schema = special.broken(tool.description), _value(tool.schema, special)
    return msgspec.structs.replace(tool, description=description, schema=schema)


def _value(value: Any, special: Special) -> Any:
    if isinstance(value, str):
        return special.broken(value)
    if isinstance(value, list):
        return [_value(each, special) for each in value]
    if isinstance(value, dict):
        return {special.broken(key): _value(each, special) for key, each in value.items()}
    return value
