"""The tools of a request: which the model may call, which of them it must, and which cannot exist here. Pure."""

import json
import re
from collections.abc import Iterable, Iterator

import msgspec

from sidecar import conversation
from sidecar.anthropic.content.builtin_tools import built_in
from sidecar.anthropic.fields.types import (
    DROPPED_TOOLS,
    REMOTE_TOOLS,
    SEEING_TOOLS,
    AnyBlock,
    CountRequest,
    ToolAddition,
    ToolDefinition,
    ToolReference,
    ToolRemoval,
    ToolResult,
)
from sidecar.errors import InvalidRequest

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def offered(request: CountRequest) -> tuple[conversation.Tool, ...]:
    """The tools that the prompt lists or has shown; deferred ones from where something has shown them.

    Raises InvalidRequest for one that is not made right, and where not one is left of those that were asked for.
    """
    definitions = request.tools or []
    kept = [(index, definition) for index, definition in enumerate(definitions) if not _is_elsewhere(definition)]
    if not kept and not _may_do_without(request):
        raise InvalidRequest(_why_none(request))
    shown = _shown(request)
    hides = _something_shows(request)
    tools: dict[str, conversation.Tool] = {}
    for index, definition in kept:
        tool = _tool(definition, f"tools.{index}.custom")
        if tool.name in tools:
            raise InvalidRequest(f"tools.{index}.custom.name: Tool names must be unique.")
        deferred = bool(definition.defer_loading) and hides
        if not deferred or tool.name in shown:
            tools[tool.name] = msgspec.structs.replace(tool, listed=not deferred)
    return tuple(_changed(tools, request).values())


def forced(request: CountRequest) -> tuple[str, ...]:
    """The tools of which one must be called, by `tool_choice`; empty when the model may choose."""
    choice = request.tool_choice
    if choice is None or not forces(request):
        return ()
    names = tuple(tool.name for tool in offered(request) if not tool.withdrawn)
    if choice.type == "any":
        if not names:
            raise InvalidRequest("tool_choice: tool_choice may only be specified while providing tools.")
        return names
    if choice.name is None:
        raise InvalidRequest("tool_choice.tool.name: Field required")
    if choice.name not in names:
        raise InvalidRequest(f"tool_choice.tool.name: {_why_not(request, choice.name)}")
    return (choice.name,)


def forces(request: CountRequest) -> bool:
    return request.tool_choice is not None and request.tool_choice.type in ("any", "tool")


def left_out(request: CountRequest) -> tuple[str, ...]:
    """What was offered and is not there for the model, each in words for the log."""
    kinds = {definition.type or "" for definition in request.tools or () if _is_elsewhere(definition)}
    kinds = {kind for kind in kinds if not kind.startswith(DROPPED_TOOLS)}
    said = [f"a tool is left out: {_why_elsewhere(kind)}" for kind in sorted(kinds)]
    if request.mcp_servers:
        said.append("mcp_servers are left out: the vendor's servers call them")
    return tuple(said)


def definition_text(name: str, tools: Iterable[ToolDefinition]) -> str:
    """A deferred tool as the prompt lists tools: shown where it was found, so that the prompt's beginning stays."""
    for tool in tools:
        if tool.name == name and tool.defer_loading:
            return _in_words(tool)
    return name


def change_text(change: ToolAddition | ToolRemoval, tools: Iterable[ToolDefinition]) -> str:
    """What the model is told where the list of tools changes; empty for tools that are not there anyway."""
    name = _name_of(change)
    if not name:
        return ""
    if isinstance(change, ToolRemoval):
        return f"The tool {name} cannot be called any more."
    inline = _inline(change)
    return f"This tool can be called from here on:\n{_in_words(inline) if inline else definition_text(name, tools)}"


def forced_text(request: CountRequest) -> str:
    """A deferred tool that is forced before anything has shown it; empty when there is none."""
    choice = request.tool_choice
    if choice is None or choice.type != "tool" or choice.name is None or not _something_shows(request):
        return ""
    text = definition_text(choice.name, request.tools or ())
    return f"Call this tool:\n{text}" if text != choice.name and choice.name not in _found(request) else ""


def _tool(definition: ToolDefinition, path: str) -> conversation.Tool:
    tool = built_in(definition.type or "", definition.name)
    if tool is None:
        schema = definition.input_schema
        if schema is None:
            raise InvalidRequest(f"{path}.input_schema: Field required")
        if schema.get("type", "object") != "object":
            raise InvalidRequest(f"{path}.input_schema.type: Input should be 'object'")
        tool = conversation.Tool(definition.name, definition.description, schema)
    if not _NAME.fullmatch(tool.name):
        raise InvalidRequest(f"{path}.name: String should match pattern '^{_NAME.pattern}$'")
    return tool


# What runs elsewhere


def _is_elsewhere(definition: ToolDefinition) -> bool:
    """Whether nobody here could run it. A type that nobody knows yet is the client's own if it brings its schema."""
    kind = definition.type or "custom"
    if kind == "custom" or built_in(kind, definition.name):
        return False
    return kind.startswith((*DROPPED_TOOLS, *REMOTE_TOOLS)) or definition.input_schema is None


def _may_do_without(request: CountRequest) -> bool:
    """Whether no tool at all will do: none is wanted, or what was offered only searches among the others."""
    wanted = [tool for tool in request.tools or () if not (tool.type or "").startswith(DROPPED_TOOLS)]
    none = request.tool_choice is not None and request.tool_choice.type == "none"
    return none or not (wanted or request.mcp_servers)


def _why_none(request: CountRequest) -> str:
    for index, definition in enumerate(request.tools or ()):
        if not (definition.type or "").startswith(DROPPED_TOOLS):
            return f"tools.{index}: {_why_elsewhere(definition.type or '')}"
    return "mcp_servers: they are called by the vendor's servers; a local client calls its own"


def _why_not(request: CountRequest, name: str) -> str:
    for definition in request.tools or ():
        if definition.name == name and _is_elsewhere(definition):
            return _why_elsewhere(definition.type or "")
    return f"Tool '{name}' not found in provided tools"


def _why_elsewhere(kind: str) -> str:
    if kind.startswith(SEEING_TOOLS):
        return f"{kind[:64]} needs a model that sees, and this one reads text only"
    if kind.startswith(REMOTE_TOOLS):
        return f"{kind[:64]} runs on the vendor's servers; a local model has the client's own tools only"
    return f"{kind[:64]} is a type that is not known here, and brings no input_schema"


# Deferred tools, and changes of the list


def _something_shows(request: CountRequest) -> bool:
    """Whether a deferred tool can be found later: by a tool of the client's that is there from the start. The vendor's
    own search cannot search here."""
    tools = request.tools or []
    searched = any((tool.type or "").startswith(DROPPED_TOOLS) for tool in tools)
    return not searched and any(not (tool.defer_loading or _is_elsewhere(tool)) for tool in tools)


def _shown(request: CountRequest) -> set[str]:
    """The names of the deferred tools that the model may call."""
    choice = request.tool_choice
    asked = {choice.name} if choice and choice.type == "tool" and choice.name else set()
    return asked | _found(request)


def _found(request: CountRequest) -> set[str]:
    """The names of all tools that something in the history refers to."""
    blocks = [*_blocks(request)]
    for block in list(blocks):
        if isinstance(block, ToolResult) and isinstance(block.content, list):
            blocks += block.content
    named = {block.tool_name for block in blocks if isinstance(block, ToolReference)}
    return named | {_name_of(block) for block in blocks if isinstance(block, ToolAddition)}


def _changed(tools: dict[str, conversation.Tool], request: CountRequest) -> dict[str, conversation.Tool]:
    """The tools after all changes. The prompt goes on listing what is gone, so that its beginning stays."""
    for block in _blocks(request):
        if not isinstance(block, ToolAddition | ToolRemoval):
            continue
        name = _name_of(block)
        if name in tools:
            tools[name] = msgspec.structs.replace(tools[name], withdrawn=isinstance(block, ToolRemoval))
        elif isinstance(block, ToolAddition) and (inline := _inline(block)):
            tools[name] = msgspec.structs.replace(_tool(inline, "tool_addition.tool.definition"), listed=False)
    return tools


def _inline(change: ToolAddition | ToolRemoval) -> ToolDefinition | None:
    """The definition that a change brings along, if it is one of a tool that the client runs."""
    try:
        definition = msgspec.convert((change.tool or {}).get("definition"), ToolDefinition)
        _tool(definition, "")
    except (msgspec.ValidationError, InvalidRequest):
        return None  # it stands in the history, where nothing is refused
    return None if _is_elsewhere(definition) else definition


def _name_of(change: ToolAddition | ToolRemoval) -> str:
    """Of the tool that a change is about; empty for one on the vendor's servers."""
    tool = change.tool or {}
    if tool.get("type") == "tool_definition":
        inline = _inline(change)
        return inline.name if inline else ""
    name = tool.get("name") if tool.get("type") == "tool_reference" else None
    return name if isinstance(name, str) else ""


def _in_words(tool: ToolDefinition) -> str:
    shown = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    return json.dumps(shown, ensure_ascii=False)


def _blocks(request: CountRequest) -> Iterator[AnyBlock]:
    for message in request.messages:
        if not isinstance(message.content, str):
            yield from message.content
