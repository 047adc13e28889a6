"""A Messages API request: JSON becomes typed values, checked once, then the engine's neutral conversation.

The reference for every field is the official `anthropic` package's types. Unknown fields are ignored, as the
API's own servers do for betas they do not know. Pure: bytes in, values out.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from sidecar import frames
from sidecar.errors import InvalidRequest

_T = TypeVar("_T")

_BILLING = "x-anthropic-billing-header:"
"""Claude Code's first system block: it changes between sessions and would part every prefix at its first token."""
_TOKEN_REMINDER = re.compile(
    r"<system-reminder>\s*<total_tokens>[^<]*</total_tokens>\s*</system-reminder>\s*|<total_tokens>[^<]*</total_tokens>\s*"
)
"""Counts down from turn to turn: kept in history it would part the prefix at every turn."""


class TextBlock(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class TextSource(msgspec.Struct, frozen=True):
    type: str = ""
    data: str = ""
    content: Any = None


class Image(msgspec.Struct, frozen=True, tag_field="type", tag="image"):
    pass


class Document(msgspec.Struct, frozen=True, tag_field="type", tag="document"):
    source: TextSource
    title: str | None = None


class ToolReference(msgspec.Struct, frozen=True, tag_field="type", tag="tool_reference"):
    tool_name: str = ""


class ToolUse(msgspec.Struct, frozen=True, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolResult(msgspec.Struct, frozen=True, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | Image | Document | ToolReference] | None = None
    is_error: bool | None = None


class Thinking(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    thinking: str = ""


class RedactedThinking(msgspec.Struct, frozen=True, tag_field="type", tag="redacted_thinking"):
    pass


Block = TextBlock | Image | Document | ToolReference | ToolUse | ToolResult | Thinking | RedactedThinking


class Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolDefinition(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    description: str = ""
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class CountRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/messages/count_tokens`."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`."""

    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    stop_sequences: list[str] | None = None


def parse_messages(body: bytes) -> MessagesRequest:
    """Raises InvalidRequest that names the field."""
    return _parse(_messages_decoder, body)


def parse_count(body: bytes) -> CountRequest:
    """Raises InvalidRequest that names the field."""
    return _parse(_count_decoder, body)


_messages_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountRequest)


def _parse(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_in_api_words(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None


def _in_api_words(problem: str) -> str:
    """msgspec's "Expected `str`, got `int` - at `$.messages[0].content`" as "messages.0.content: Expected …"."""
    text, _, path = problem.partition(" - at `$")
    path = re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path.rstrip("`")).strip(".")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        path = f"{path}.{missing[1]}".strip(".")
        text = "Field required"
    return f"{path}: {text}" if path else text


def sampling(request: MessagesRequest) -> frames.Sampling:
    return frames.Sampling(request.temperature, request.top_p, request.top_k)


def stop_sequences(request: MessagesRequest) -> tuple[str, ...]:
    """Raises InvalidRequest for sequences that would match everywhere."""
    for index, sequence in enumerate(request.stop_sequences or ()):
        if not sequence.strip():
            raise InvalidRequest(f"stop_sequences.{index}: each stop sequence must contain non-whitespace")
    return tuple(request.stop_sequences or ())


def forced_tools(request: MessagesRequest) -> tuple[str, ...]:
    """The tools of which one must be called, by `tool_choice`; empty when the model may choose."""
    choice = request.tool_choice
    if choice is None or choice.type not in ("any", "tool"):
        return ()
    names = tuple(tool.name for tool in request.tools or () if choice.type == "any" or tool.name == choice.name)
    if not names:
        raise InvalidRequest(f"tool_choice: there is no tool {choice.name or ''}".rstrip())
    return names


def parallel_calls(request: MessagesRequest) -> bool:
    return not (request.tool_choice and request.tool_choice.disable_parallel_tool_use)


def conversation(request: CountRequest) -> frames.Conversation:
    """Normalise: equal conversations give equal values, however the client spelled them.

    System messages before the first assistant turn are stable and join the system prompt, so that the user's words
    come last; later ones are folded, marked as reminders, into the user turn beside them.
    """
    system = [text for text in _system_texts(request.system) if not text.startswith(_BILLING)]
    turns: list[tuple[Literal["user", "assistant"], list[frames.Block]]] = []
    for index, message in enumerate(request.messages):
        blocks = _blocks(message, f"messages.{index}")
        if message.role == "system" and not any(role == "assistant" for role, _ in turns):
            system += [block.text for block in blocks if isinstance(block, frames.Text)]
            continue
        if message.role == "system":
            blocks = [_reminder(block) if isinstance(block, frames.Text) else block for block in blocks]
        role: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    _check(turns)
    return frames.Conversation(
        system="\n\n".join(filter(None, map(_without_reminders, system))),
        messages=tuple(frames.Message(role, tuple(blocks)) for role, blocks in turns),
        tools=_tools(request),
    )


def _reminder(block: frames.Text) -> frames.Text:
    """Marked, so that the model does not take the words for the user's; the mark is Claude Code's own."""
    if block.text.lstrip().startswith("<system-reminder>"):
        return block
    return frames.Text(f"<system-reminder>\n{block.text.strip()}\n</system-reminder>")


def _check(turns: list[tuple[Literal["user", "assistant"], list[frames.Block]]]) -> None:
    if not turns or turns[0][0] != "user":
        raise InvalidRequest("messages: the first message must have the role user")
    known = {block.id for _, blocks in turns for block in blocks if isinstance(block, frames.Call)}
    for _, blocks in turns:
        for block in blocks:
            if isinstance(block, frames.Result) and block.call_id not in known:
                raise InvalidRequest(f"messages: the tool_result for {block.call_id!r} has no tool_use before it")
    last = turns[-1][1][-1] if turns[-1][1] else None
    if turns[-1][0] == "assistant" and isinstance(last, frames.Text) and last.text != last.text.rstrip():
        raise InvalidRequest("messages: final assistant content cannot end with trailing whitespace")


def _system_texts(system: str | list[TextBlock] | None) -> list[str]:
    if isinstance(system, str):
        return [system]
    return [block.text for block in system or ()]


def _tools(request: CountRequest) -> tuple[frames.Tool, ...]:
    if request.tool_choice and request.tool_choice.type == "none":
        return ()
    tools = []
    for index, tool in enumerate(request.tools or ()):
        if tool.input_schema is None:
            raise InvalidRequest(
                f"tools.{index}: {tool.type or tool.name!r} runs on the vendor's servers; "
                "a local model has only the client's own tools"
            )
        tools.append(frames.Tool(tool.name, tool.description, tool.input_schema))
    return tuple(tools)


def _blocks(message: Message, path: str) -> list[frames.Block]:
    if isinstance(message.content, str):
        return _text(message.content)
    blocks: list[frames.Block] = []
    for index, block in enumerate(message.content):
        blocks += _block(block, message.role, f"{path}.content.{index}")
    return blocks


def _block(block: Block, role: str, path: str) -> list[frames.Block]:
    match block:
        case TextBlock():
            return _text(block.text)
        case ToolUse() if role == "assistant":
            return [frames.Call(block.id, block.name, block.input)]
        case ToolResult() if role == "user":
            return [frames.Result(block.tool_use_id, _result_text(block, path), bool(block.is_error))]
        case Thinking() | RedactedThinking() if role == "assistant":
            return []  # chat templates drop earlier thinking; another model's would only mislead
        case Document():
            return _text(_document_text(block, path))
        case Image():
            raise InvalidRequest(f"{path}: this model reads text only, not images")
        case ToolReference():
            return []
    raise InvalidRequest(
        f"{path}: a {block.__struct_config__.tag} block cannot stand in a message with the role {role}"
    )


def _result_text(result: ToolResult, path: str) -> str:
    if isinstance(result.content, str):
        return _without_reminders(result.content)
    return "\n".join(_result_part(part, f"{path}.content.{index}") for index, part in enumerate(result.content or ()))


def _result_part(part: TextBlock | Image | Document | ToolReference, path: str) -> str:
    match part:
        case TextBlock():
            return _without_reminders(part.text)
        case Document():
            return _document_text(part, path)
        case ToolReference():
            return part.tool_name
        case _:
            # Refusing would end the conversation: the client sends its history again with every turn.
            return "[an image; this model reads text only]"


def _document_text(document: Document, path: str) -> str:
    if document.source.type == "text":
        return document.source.data
    if document.source.type == "content" and isinstance(document.source.content, str):
        return document.source.content
    raise InvalidRequest(
        f"{path}.source: this model reads text documents only, not {document.source.type or 'this one'}"
    )


def _text(text: str) -> list[frames.Block]:
    text = _without_reminders(text)
    return [frames.Text(text)] if text else []


def _without_reminders(text: str) -> str:
    return _TOKEN_REMINDER.sub("", text) if "<total_tokens>" in text else text
