"""A Messages API request: JSON becomes typed values, checked once, then the engine's neutral conversation.

Pure: bytes in, values out. The types, and what becomes of each field, are in `types`.
"""

import re
from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from sidecar import frames
from sidecar.anthropic.builtin import built_in
from sidecar.anthropic.content import blocks_of, without_reminders
from sidecar.anthropic.environment import settle
from sidecar.anthropic.types import (
    DROPPED_TOOLS,
    REFUSED,
    CountRequest,
    MessagesRequest,
    OutputFormat,
    TextBlock,
    ToolDefinition,
    ToolReference,
    ToolResult,
)
from sidecar.errors import InvalidRequest, ThreadUnsupported

_T = TypeVar("_T", bound=CountRequest)
_Role = Literal["user", "assistant"]
_Turns = list[tuple[_Role, list[frames.Block]]]

SESSION_HEADER = "x-claude-code-session-id"
_BILLING = "x-anthropic-billing-header:"
"""Claude Code's first system block: it changes between sessions and would part every prefix at its first token."""
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_LEAST_BUDGET = 1024
_EFFORTS = {"low": 1024, "medium": 4096, "high": 16384}
"""Tokens of thought by `output_config.effort`; "high" is the API's default."""


def parse_messages(body: bytes) -> MessagesRequest:
    """Raises InvalidRequest that names the field."""
    request = _parse(_messages_decoder, body)
    budget = request.thinking.budget_tokens if request.thinking else None
    if budget is not None and request.thinking and request.thinking.type == "enabled" and budget >= request.max_tokens:
        raise InvalidRequest("max_tokens: must be greater than thinking.budget_tokens")
    return request


def parse_count(body: bytes) -> CountRequest:
    """Raises InvalidRequest that names the field."""
    return _parse(_count_decoder, body)


_messages_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountRequest)


def _parse(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        request = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_in_api_words(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    for name, why in REFUSED["request"].items():
        if getattr(request, name):
            raise (ThreadUnsupported if name == "thread" else InvalidRequest)(f"{name}: {why}")
    thinking = request.thinking
    if thinking and thinking.type == "enabled" and (thinking.budget_tokens or 0) < _LEAST_BUDGET:
        raise InvalidRequest(f"thinking.enabled.budget_tokens: a number of at least {_LEAST_BUDGET} is required")
    return request


def _in_api_words(problem: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.messages[0].content`" as "messages.0.content: Expected …"."""
    text, _, path = problem.partition(" - at `$")
    path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`")).strip(".")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        path = f"{path}.{missing[1]}".strip(".")
        text = "Field required"
    return f"{path}: {text}" if path else text


def priority(request: MessagesRequest, headers: Mapping[str, str]) -> frames.Priority:
    """Whose request it is, as Claude Code shows it (2.1.330): subagents have an id of their own; a title or a summary
    is asked without tools and without a word about thinking, which a conversation always has. Other clients'
    requests are all their main business. `headers`: names in lower case."""
    if "x-claude-code-agent-id" in headers:
        return frames.Priority.SUBAGENT
    if SESSION_HEADER in headers and not request.tools and request.thinking is None:
        return frames.Priority.SIDE
    return frames.Priority.MAIN


def sampling(request: MessagesRequest) -> frames.Sampling:
    """As asked, in any version of the API: the newest has no such fields, but programs on its SDK still send them."""
    return frames.Sampling(request.temperature, request.top_p, request.top_k)


def stop_sequences(request: MessagesRequest) -> tuple[str, ...]:
    """Raises InvalidRequest for sequences that would match everywhere."""
    for index, sequence in enumerate(request.stop_sequences or ()):
        if not sequence.strip():
            raise InvalidRequest(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")
    return tuple(request.stop_sequences or ())


def forced_tools(request: CountRequest) -> tuple[str, ...]:
    """The tools of which one must be called, by `tool_choice`; empty when the model may choose."""
    choice = request.tool_choice
    if choice is None or choice.type not in ("any", "tool"):
        return ()
    if choice.type == "tool" and choice.name is None:
        raise InvalidRequest("tool_choice.tool.name: Field required")
    names = tuple(
        tool.name
        for tool in request.tools or ()
        if not _is_dropped(tool) and (choice.type == "any" or tool.name == choice.name)
    )
    if not names:
        raise InvalidRequest(f"tool_choice: there is no tool {choice.name or ''}".rstrip())
    return names


def parallel_calls(request: MessagesRequest) -> bool:
    return not (request.tool_choice and request.tool_choice.disable_parallel_tool_use)


def thinks(request: CountRequest) -> bool:
    """Whether a model that can choose thinks first. A forced call and a begun answer leave no room for it."""
    thinking, last = request.thinking, request.messages[-1]
    if thinking is None or forced_tools(request) or last.role == "assistant":
        return False
    if thinking.type == "between_tools":
        return any(isinstance(block, ToolResult) for block in last.content)
    return thinking.type != "disabled"


def thinking_budget(request: MessagesRequest) -> int:
    """In tokens; 0 where there is no thinking. Small models can think for ever: where the client names no number, its
    effort does, and half of max_tokens is left for the answer."""
    if request.thinking is None or not thinks(request):
        return 0
    effort = request.output_config.effort if request.output_config else None
    by_effort = min(_EFFORTS.get(effort or "high", request.max_tokens), request.max_tokens // 2)
    return request.thinking.budget_tokens or max(1, by_effort)


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
    tools = _tools(request)
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
    _check(turns)
    answer = _answer_format(request)
    if answer and turns[-1][0] == "assistant":
        raise InvalidRequest("output_config.format: it cannot be combined with a begun answer")
    general, environment = settle([*map(without_reminders, system)], early)
    return frames.Conversation(
        system=general,
        messages=tuple(frames.Message(role, tuple(blocks)) for role, blocks in turns),
        tools=() if request.tool_choice and request.tool_choice.type == "none" else tools,
        thinking=thinks(request),
        answer_schema=answer.schema if answer else None,
        environment=environment,
    )


def _answer_format(request: CountRequest) -> OutputFormat | None:
    return request.output_config.format if request.output_config else request.output_format


def _reminder(block: frames.Text) -> frames.Text:
    return frames.Text(frames.reminder(block.text))


def _check(turns: _Turns) -> None:
    """The API's rules about the order of things; templates rely on them."""
    if not turns or turns[0][0] != "user":
        raise InvalidRequest("messages: the first message must have the role user")
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


# Tools


def _tools(request: CountRequest) -> tuple[frames.Tool, ...]:
    """The tools that the model may call; deferred ones from where a tool_reference has shown them."""
    definitions = request.tools or []
    shown = _referenced(request)
    searched = any(_is_dropped(tool) for tool in definitions)
    tools: dict[str, frames.Tool] = {}
    for index, definition in enumerate(definitions):
        if _is_dropped(definition):
            continue
        tool = _tool(definition, f"tools.{index}")
        if tool.name in tools:
            raise InvalidRequest(f"tools.{index}.name: tool names must be unique")
        deferred = bool(definition.defer_loading) and not searched
        if not deferred or tool.name in shown:
            tools[tool.name] = msgspec.structs.replace(tool, listed=not deferred)
    return tuple(tools.values())


def _is_dropped(tool: ToolDefinition) -> bool:
    return (tool.type or "").startswith(DROPPED_TOOLS)


def _tool(definition: ToolDefinition, path: str) -> frames.Tool:
    if definition.type not in (None, "custom"):
        tool = built_in(definition.type or "", definition.name)
        if tool is None:
            raise InvalidRequest(
                f"{path}: {definition.type} runs on the vendor's servers; a local model has the client's own tools only"
            )
    elif definition.input_schema is None:
        raise InvalidRequest(f"{path}.input_schema: Field required")
    elif definition.input_schema.get("type", "object") != "object":
        raise InvalidRequest(f"{path}.input_schema.type: it must be 'object'")
    else:
        tool = frames.Tool(definition.name, definition.description, definition.input_schema)
    if not _TOOL_NAME.fullmatch(tool.name):
        raise InvalidRequest(f"{path}.name: it must match ^{_TOOL_NAME.pattern}$")
    return tool


def _referenced(request: CountRequest) -> set[str]:
    """The names of all tools that a result in the history refers to."""
    contents = [message.content for message in request.messages if not isinstance(message.content, str)]
    blocks = [block for content in contents for block in content]
    for block in list(blocks):
        if isinstance(block, ToolResult) and isinstance(block.content, list):
            blocks += block.content
    return {block.tool_name for block in blocks if isinstance(block, ToolReference)}
