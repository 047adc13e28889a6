"""A Messages API request: JSON becomes typed values, checked once, then the engine's neutral conversation.

Pure: bytes in, values out. The types, and what becomes of each field, are in `types`.
"""

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from sidecar import conversation as neutral
from sidecar.anthropic.content import tools
from sidecar.anthropic.content.blocks import CHARACTERS, Known, blocks_of, without_reminders
from sidecar.anthropic.content.local_context import settle
from sidecar.anthropic.content.mend import mended
from sidecar.anthropic.content.order import Turn, newest, pair
from sidecar.anthropic.content.remarks import Extract
from sidecar.anthropic.fields import rules, wording
from sidecar.anthropic.fields.types import REFUSED, CountRequest, MessagesRequest, OutputFormat, TextBlock, ToolResult
from sidecar.errors import InvalidRequest, ThreadUnsupported

_T = TypeVar("_T", bound=CountRequest)

_BILLING = "x-anthropic-billing-header:"
"""Claude Code's first system block: it changes between sessions and would part every prefix at its first token."""
_LONGEST_STOPS = 16_384
"""The machine that finds them takes a kilobyte for each character."""
_EFFORTS = {"low": 1024, "medium": 4096, "high": 16384}
"""Tokens of thought by `output_config.effort`; "high" is the API's default."""


def parse_messages(body: bytes, version: str = "") -> MessagesRequest:
    """`version`: the anthropic-version header. Raises InvalidRequest that names the field."""
    return _parse(_messages_decoder, body, version)


def parse_count(body: bytes, version: str = "") -> CountRequest:
    """Raises InvalidRequest that names the field."""
    return _parse(_count_decoder, body, version)


_messages_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountRequest)


def _parse(decoder: msgspec.json.Decoder[_T], body: bytes, version: str) -> _T:
    request = _decoded(decoder, body)
    if request.thread:
        raise ThreadUnsupported(f"thread: {REFUSED['request']['thread']}")
    rules.check(request, version)
    return request


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes, again: bool = True) -> _T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Most bodies are right, and nothing of them is looked at twice.
        if again and (other := mended(body)):
            return _decoded(decoder, other, again=False)
        if isinstance(error, msgspec.ValidationError):
            raise wording.invalid(error, body) from None
        raise wording.not_json(error) from None


def sampling(request: MessagesRequest) -> neutral.Sampling:
    """As asked, in any version of the API: the newest has no such fields, but programs on its SDK still send them."""
    return neutral.Sampling(request.temperature, request.top_p, request.top_k)


def stop_sequences(request: MessagesRequest) -> tuple[str, ...]:
    """Raises InvalidRequest for sequences that would match everywhere, or take long to look for."""
    if sum(map(len, request.stop_sequences or ())) > _LONGEST_STOPS:
        raise InvalidRequest(f"stop_sequences: at most {_LONGEST_STOPS:,} characters altogether are looked for")
    for index, sequence in enumerate(request.stop_sequences or ()):
        if not sequence.strip():
            raise InvalidRequest(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")
    return tuple(request.stop_sequences or ())


def parallel_calls(request: MessagesRequest) -> bool:
    return not (request.tool_choice and request.tool_choice.disable_parallel_tool_use)


def thinks(request: CountRequest) -> bool:
    """Whether a model that can choose thinks first. A forced call and a begun answer leave no room for it."""
    thinking, last = request.thinking, request.messages[-1]
    if thinking is None or tools.forces(request) or last.role == "assistant":
        return False
    if thinking.type == "enabled":
        return thinking.budget_tokens != 0
    if thinking.type == "between_tools":
        return any(isinstance(block, ToolResult) for block in last.content)
    return thinking.type != "disabled"


def thinking_budget(request: MessagesRequest) -> int:
    """In tokens; 0 where there is no thinking. Small models can think for ever: where the client names no number, its
    effort does. Half of max_tokens is left for the answer, unless the client's own number leaves less, but some."""
    if request.thinking is None or not thinks(request):
        return 0
    effort = request.output_config.effort if request.output_config else None
    own = request.thinking.budget_tokens
    if own and own < request.max_tokens:
        return own
    by_effort = _EFFORTS.get(effort or "high", request.max_tokens)
    return max(1, min(own or by_effort, request.max_tokens // 2))


def shows_thinking(request: MessagesRequest) -> Literal["whole", "omitted", "never"]:
    """What the client sees of the thoughts: it all, signatures only, or, when it did not ask, not even those."""
    if not thinks(request):
        return "never"
    return "omitted" if request.thinking and request.thinking.display == "omitted" else "whole"


def conversation(
    request: CountRequest, extracts: Mapping[str, Extract] | None = None, most: int = CHARACTERS
) -> neutral.Conversation:
    """Normalise: equal conversations give equal values, however the client spelled them.

    System messages before the first assistant turn are stable and describe the place, so that they become the
    environment; later ones are folded, marked as reminders, into the user turn beside them. `extracts`: what could be
    read of the PDF documents among `media(request)`, by their data; `most`: characters that are shown of each.
    """
    offered = tools.offered(request)
    known = Known(request.tools or (), extracts or {}, most)
    early: list[str] = []
    system = [text for text in _system_texts(request.system) if not text.startswith(_BILLING)]
    turns: list[Turn] = []
    new = newest(request.messages)
    for index, message in enumerate(request.messages):
        if not message.content and index >= new and message.role != "assistant":
            raise InvalidRequest(
                f"messages.{index}: all messages must have non-empty content except for the optional final assistant "
                "message"
            )
        blocks = blocks_of(message, f"messages.{index}", known, index >= new)
        if message.role == "system" and not any(turn.role == "assistant" for turn in turns):
            early += [block.text for block in blocks if isinstance(block, neutral.Text)]
            continue
        if message.role == "system":
            blocks = [
                neutral.Text(neutral.reminder(block.text)) if isinstance(block, neutral.Text) else block
                for block in blocks
            ]
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1].role == role:
            turns[-1].blocks.extend(blocks)
        else:
            turns.append(Turn(role, blocks, index))
    if turns and turns[0].role == "assistant":
        turns.insert(0, Turn("user", [], 0))  # templates insist on the user's being the first
    if hint := tools.forced_text(request):
        turns[-1].blocks.append(neutral.Text(neutral.reminder(hint)))
    _check(turns)
    pair(turns, request.messages)
    answer = _answer_format(request)
    if answer and turns[-1].role == "assistant":
        raise InvalidRequest("output_config.format: it cannot be combined with a begun answer")
    general, environment = settle([*map(without_reminders, system)], early)
    return neutral.Conversation(
        system=general,
        messages=tuple(neutral.Message(turn.role, tuple(turn.blocks)) for turn in turns),
        tools=() if request.tool_choice and request.tool_choice.type == "none" else offered,
        thinking=thinks(request),
        answer_schema=answer.schema if answer else None,
        environment=environment,
    )


def _answer_format(request: CountRequest) -> OutputFormat | None:
    return request.output_config.format if request.output_config else request.output_format


def _check(turns: list[Turn]) -> None:
    """The API's rules about the first and the last turn; templates rely on them."""
    if not turns:
        raise InvalidRequest("messages: at least one message of the user's is required")
    last = turns[-1].blocks[-1] if turns[-1].blocks else None
    if turns[-1].role == "assistant" and isinstance(last, neutral.Text) and last.text != last.text.rstrip():
        raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace")


def _system_texts(system: str | list[TextBlock] | None) -> list[str]:
    if isinstance(system, str):
        return [system]
    return [block.text for block in system or ()]
