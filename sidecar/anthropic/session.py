"""Which session a request belongs to, and whether it is what somebody waits for in it. Pure."""

from collections.abc import Mapping

from sidecar.anthropic.fields.types import MessagesRequest
from sidecar.conversation import Priority

CLAUDE_CODE = "x-claude-code-session-id"
PARENT = "x-parent-session-id"
HEADERS = (CLAUDE_CODE, PARENT, "x-session-id", "session-id")
"""As Claude Code, opencode and its relatives, and pi name their sessions, in this order: a subagent of opencode's has a
session of its own, and belongs to its parent's."""
NAMELESS = ("QwenCode/", "claude-cli/")
"""How agents begin to present themselves that name no session: qwen, also in the guise that it takes on for addresses
which are not the vendor's. Claude Code itself names its own."""
LONGEST_NAME = 256
"""Characters of a name; a longer one is none."""
SHORT = 4
"""A request is short that is so many times smaller than the conversation beside it: a title of opencode's has 2.5 KB
beside 31, while a conversation that is to be summarised comes whole."""
PATIENCE = 4
"""Requests in a row, all smaller than the conversation that is known, after which the conversation has become another:
in a mode with fewer tools, say."""


class Conversation:
    """What is known of a session's main conversation."""

    def __init__(self) -> None:
        self._size = self._tools = self._others = 0

    def place(self, size: int, tools: int) -> Priority:
        """Where a request of `size` bytes that offers so many tools stands beside the conversation, of which it may be
        the next turn: titles and summaries are short and offer none, other agents' work offers fewer."""
        side = Priority.MAIN
        if not tools and size * SHORT <= self._size:
            side = Priority.SIDE
        elif 0 < tools < self._tools and size < self._size:
            side = Priority.SUBAGENT
        self._others = self._others + 1 if side is not Priority.MAIN else 0
        if self._others > PATIENCE or (side is Priority.MAIN and tools >= self._tools):
            self._size, self._tools, self._others = size, tools, 0
            return Priority.MAIN
        return side


def name_of(request: MessagesRequest, headers: Mapping[str, str]) -> str:
    """What the client calls the conversation; empty when it says nothing. `headers`: names in lower case."""
    return _first(*map(headers.get, HEADERS), request.prompt_cache_key)


def agent_of(request: MessagesRequest, headers: Mapping[str, str]) -> str:
    """By what the requests of one conversation can be told from a terminal's others: its name, the user's, or, of an
    agent that says neither, its own; empty for programs of which nothing is known."""
    agent = headers.get("user-agent", "")
    user = request.metadata.user_id if request.metadata else None
    return _first(name_of(request, headers), user, agent if agent.startswith(NAMELESS) else "")


def _first(*names: object) -> str:
    return next((name for name in names if isinstance(name, str) and 0 < len(name) <= LONGEST_NAME), "")


def marked(request: MessagesRequest, headers: Mapping[str, str]) -> Priority | None:
    """Whose request it is, where the client shows it, as Claude Code does (2.1.330): subagents have an id of their own;
    a title or a summary is asked without tools and without a word about thinking, which a conversation always has."""
    if "x-claude-code-agent-id" in headers or PARENT in headers:
        return Priority.SUBAGENT
    if CLAUDE_CODE in headers:
        return Priority.SIDE if not request.tools and request.thinking is None else Priority.MAIN
    return None
