"""The Messages API's request types, and the fate of every field.

A field of a type below is used. All other fields that the official `anthropic` package knows stand in IGNORED or
REFUSED; a test holds the three against that package, and `python -m sidecar.anthropic.fields.table` prints them. Fields
that nobody knows are ignored, as the API's own servers do for betas they do not know.
"""

from typing import Annotated, Any, Literal

import msgspec


class Block(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Base of the content blocks."""

    cache_control: Any = None


class TextBlock(Block, frozen=True, tag="text"):
    text: str
    citations: Any = None


class ImageSource(msgspec.Struct, frozen=True):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    file_id: str = ""


class Image(Block, frozen=True, tag="image"):
    source: ImageSource


class DocumentSource(msgspec.Struct, frozen=True):
    type: str
    media_type: str = ""
    data: str = ""
    content: str | list["TextBlock | Image"] = ""
    url: str = ""
    file_id: str = ""


class Document(Block, frozen=True, tag="document"):
    source: DocumentSource
    title: str | None = None
    context: str | None = None


class SearchResult(Block, frozen=True, tag="search_result"):
    content: list[TextBlock]
    source: str
    title: str


class ToolReference(Block, frozen=True, tag="tool_reference"):
    tool_name: str


class BrowserState(Block, frozen=True, tag="browser_state"):
    pass


class ToolUse(Block, frozen=True, tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")
    """As it was written: a number in it may be larger than any of Python's."""


class ToolResult(Block, frozen=True, tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | Image | Document | SearchResult | ToolReference | BrowserState] | None = None
    is_error: bool | None = None


class Thinking(Block, frozen=True, tag="thinking"):
    thinking: str = ""
    signature: str = ""


class RedactedThinking(Block, frozen=True, tag="redacted_thinking"):
    pass


class Compaction(Block, frozen=True, tag="compaction"):
    content: str | None = None


class ContainerUpload(Block, frozen=True, tag="container_upload"):
    file_id: str = ""


class Remote(Block, frozen=True):
    """Base of what the vendor's own tools left in a conversation that goes on here."""


class ServerToolUse(Remote, frozen=True, tag="server_tool_use"):
    pass


class WebSearchResult(Remote, frozen=True, tag="web_search_tool_result"):
    pass


class WebFetchResult(Remote, frozen=True, tag="web_fetch_tool_result"):
    pass


class CodeExecutionResult(Remote, frozen=True, tag="code_execution_tool_result"):
    pass


class BashCodeExecutionResult(Remote, frozen=True, tag="bash_code_execution_tool_result"):
    pass


class TextEditorCodeExecutionResult(Remote, frozen=True, tag="text_editor_code_execution_tool_result"):
    pass


class ToolSearchResult(Remote, frozen=True, tag="tool_search_tool_result"):
    pass


class McpToolUse(Remote, frozen=True, tag="mcp_tool_use"):
    pass


class McpToolResult(Remote, frozen=True, tag="mcp_tool_result"):
    pass


class McpToolListing(Remote, frozen=True, tag="mcp_tool_listing"):
    pass


class AdvisorResult(Remote, frozen=True, tag="advisor_tool_result"):
    pass


class Fallback(Remote, frozen=True, tag="fallback"):
    pass


class ToolAddition(Block, frozen=True, tag="tool_addition"):
    """From here on a tool may be called: one of the request's, or one that is defined here."""

    tool: dict[str, Any] | None = None


class ToolRemoval(Block, frozen=True, tag="tool_removal"):
    """From here on a tool may not be called any more."""

    tool: dict[str, Any] | None = None


AnyBlock = (
    TextBlock
    | Image
    | Document
    | SearchResult
    | ToolReference
    | BrowserState
    | ToolUse
    | ToolResult
    | Thinking
    | RedactedThinking
    | Compaction
    | ContainerUpload
    | ServerToolUse
    | WebSearchResult
    | WebFetchResult
    | CodeExecutionResult
    | BashCodeExecutionResult
    | TextEditorCodeExecutionResult
    | ToolSearchResult
    | McpToolUse
    | McpToolResult
    | McpToolListing
    | AdvisorResult
    | Fallback
    | ToolAddition
    | ToolRemoval
)


class Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant", "system"]
    content: str | list[AnyBlock]


class ToolDefinition(msgspec.Struct, frozen=True):
    name: str = ""
    description: str = ""
    input_schema: dict[str, Any] | None = None
    type: str | None = None
    defer_loading: bool | None = None
    cache_control: Any = None


class ToolChoice(msgspec.Struct, frozen=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class ThinkingConfig(msgspec.Struct, frozen=True):
    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    display: str | None = None


class OutputFormat(msgspec.Struct, frozen=True):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    effort: str | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct, frozen=True):
    user_id: str | None = None


class CountRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/messages/count_tokens`."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]
    messages: Annotated[list[Message], msgspec.Meta(min_length=1, max_length=100_000)]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    mcp_servers: list[Any] | None = None
    thread: Any = None
    cache_control: Any = None
    context_management: dict[str, Any] | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`."""

    max_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31)]
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=2**31)] | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    prompt_cache_key: Any = None
    """No field of the Messages API, but what some agents name their session with."""


_CACHED = "everything that is read is cached"
_VENDOR = "it concerns the vendor's servers"

IGNORED: dict[str, dict[str, str]] = {
    "request": {
        "cache_control": _CACHED,
        "service_tier": _VENDOR,
        "speed": _VENDOR,
        "inference_geo": "it is this machine",
        "container": "it matters to tools on the vendor's servers only",
        "context_management": "the client manages its context; the answer says that nothing was edited",
        "compaction": "the client manages its context",
        "diagnostics": "the log says what was cached",
        "billing_policy": _VENDOR,
        "fallbacks": "one model is in memory",
        "fallback_credit_token": _VENDOR,
        "user_profile_id": _VENDOR,
        "workspace_id": _VENDOR,
        "betas": "what is known works without",
    },
    "text": {"cache_control": _CACHED, "citations": "local models give none"},
    "document": {"cache_control": _CACHED, "citations": "local models give none"},
    "search_result": {"cache_control": _CACHED, "citations": "local models give none"},
    "tool_reference": {"cache_control": _CACHED},
    "tool_addition": {"cache_control": _CACHED},
    "tool_removal": {"cache_control": _CACHED},
    "tool_use": {"cache_control": _CACHED, "caller": "it is the model", "toolset_name": _VENDOR},
    "tool_result": {"cache_control": _CACHED, "toolset_name": _VENDOR},
    "image": {"cache_control": _CACHED, "transformations": "there is no image to transform"},
    "container_upload": {"cache_control": _CACHED},
    "redacted_thinking": {"data": "only the vendor can read it"},
    "compaction": {
        "cache_control": _CACHED,
        "encrypted_content": "only the vendor can read it",
        "signature": _VENDOR,
        "tool_changes": _VENDOR,
    },
    "browser_state": {"tabs": _VENDOR, "state_changes": _VENDOR, "cache_control": _CACHED},
    "tool": {
        "cache_control": _CACHED,
        "strict": "every tool is strict",
        "input_examples": "the schema is enforced",
        "eager_input_streaming": "arguments always stream as they are written",
        "allowed_callers": "the model is the only caller",
        "max_characters": "the client decides what it returns",
    },
    "output_config": {"task_budget": "local models know none"},
}
"""Fields that are accepted and have no effect, by the block or object they stand in, and why."""

REFUSED: dict[str, dict[str, str]] = {
    "request": {
        "mcp_servers": "where no other tool is offered: they are called by the vendor's servers",
        "thread": "it is kept on the vendor's servers; send the messages themselves",
    },
}
"""Fields that are answered with 400, by the block or object they stand in, and why."""

BUILT_IN_TOOLS = ("bash_", "text_editor_", "memory_")
"""Type prefixes of tools that the vendor defines and the client runs: their schemas are known here."""
DROPPED_TOOLS = ("tool_search_tool_",)
"""Type prefixes of tools that do nothing here: all tools are shown from the start instead."""
SEEING_TOOLS = ("computer_", "browser_")
"""Type prefixes of tools that need a model that sees."""
REMOTE_TOOLS = ("web_search_", "web_fetch_", "code_execution_", "mcp_toolset", *SEEING_TOOLS)
"""Type prefixes of tools that nobody here can run. They are left out, as are those of types that nobody knows yet, and
refused only where they are forced or nothing else is offered."""
