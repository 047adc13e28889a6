"""A Messages API request: JSON becomes typed values, checked once, then the engine's neutral conversation.

Pure: bytes in, values out. The types, and what becomes of each field, are in `types`.
"""

from typing import Literal, TypeVar

import msgspec

from sidecar import frames
from sidecar.anthropic import rules, tools, wording
from sidecar.anthropic.content import blocks_of, without_reminders
from sidecar.anthropic.environment import settle
from sidecar.anthropic.types import REFUSED, CountRequest, MessagesRequest, OutputFormat, TextBlock, ToolResult
from sidecar.errors import InvalidRequest, ThreadUnsupported

_T = TypeVar("_T", bound=CountRequest)
_Role = Literal["user", "assistant"]
_Turns = list[tuple[_Role, list[frames.Block]]]

_BILLING = "x-anthropic-billing-header:"
"""Claude Code's first system block: it changes between sessions and would part every prefix at its first token."""
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
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise wording.invalid(error, body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise wording.not_json(error) from None
    if request.thread:
        raise ThreadUnsupported(f"thread: {REFUSED['request']['thread']}")
    rules.check(request, version)
    return request


def sampling(request: MessagesRequest) -> frames.Sampling:
    """As asked, in any version of the API: the newest has no such fields, but programs on its SDK still send them."""
    return frames.Sampling(request.temperature, request.top_p, request.top_k)


def stop_sequences(request: MessagesRequest) -> tuple[str, ...]:
    """Raises InvalidRequest for sequences that would match everywhere."""
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


def conversation(request: CountRequest) -> frames.Conversation:
    """Normalise: equal conversations give equal values, however the client spelled them.

    System messages before the first assistant turn are stable and describe the place, so that they become the
    environment; later ones are folded, marked as reminders, into the user turn beside them.
    """
    offered = tools.offered(request)
    early: list[str] = []
    system = [text for text in _system_texts(request.system) if not text.startswith(_BILLING)]
    turns: _Turns = []
    for index, message in enumerate(request.messages):
        blocks = blocks_of(message, f"messages.{index}", request)
        if not message.content and not (message.role == "assistant" and index == len(request.messages) - 1):
            raise InvalidRequest(f"messages.{index}.content: it must not be empty")
        if message.role == "system" and not any(role == "assistant" for role, _ in turns):
            early += [block.text for block in blocks if isinstance(block, frames.Text)]
            continue
        if message.role == "system":
            blocks = [
                frames.Text(frames.reminder(block.text)) if isinstance(block, frames.Text) else block
                for block in blocks
            ]
        role: _Role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if turns and turns[0][0] == "assistant":
        turns.insert(0, ("user", []))  # templates insist on the user's being the first
    if hint := tools.forced_text(request):
        turns[-1][1].append(frames.Text(frames.reminder(hint)))
    _check(turns)
    answer = _answer_format(request)
    if answer and turns[-1][0] == "assistant":
        raise InvalidRequest("output_config.format: it cannot be combined with a begun answer")
    general, environment = settle([*map(without_reminders, system)], early)
    return frames.Conversation(
        system=general,
        messages=tuple(frames.Message(role, tuple(blocks)) for role, blocks in turns),
        tools=() if request.tool_choice and request.tool_choice.type == "none" else offered,
        thinking=thinks(request),
        answer_schema=answer.schema if answer else None,
        environment=environment,
    )


def _answer_format(request: CountRequest) -> OutputFormat | None:
    return request.output_config.format if request.output_config else request.output_format


def _check(turns: _Turns) -> None:
    """The API's rules about the order of things; templates rely on them."""
    if not turns:
        raise InvalidRequest("messages: at least one message of the user's is required")
    open_calls: list[str] = []
    known: set[str] = set()
    for _, blocks in turns:
        results = {block.call_id for block in blocks if isinstance(block, frames.Result)}
        if lost := [call for call in open_calls if call not in results]:
            raise InvalidRequest(
                f"messages: tool_use ids were found without tool_result blocks immediately after: {', '.join(lost)}"
            )
        if stray := results - known:
            raise InvalidRequest(f"messages: the tool_result for {min(stray)!r} has no tool_use before it")
        open_calls = [block.id for block in blocks if isinstance(block, frames.Call)]
        if known & {*open_calls} or len({*open_calls}) < len(open_calls):
            raise InvalidRequest("messages: tool_use ids must be unique")
        known |= {*open_calls}
    if open_calls:
        raise InvalidRequest(f"messages: the tool_use {open_calls[0]!r} has no tool_result after it")
    last = turns[-1][1][-1] if turns[-1][1] else None
    if turns[-1][0] == "assistant" and isinstance(last, frames.Text) and last.text != last.text.rstrip():
        raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace")


def _system_texts(system: str | list[TextBlock] | None) -> list[str]:
    if isinstance(system, str):
        return [system]
    return [block.text for block in system or ()]
