"""Which requests somebody waits for, and which are a client's own side business."""

import json
from typing import Any

import pytest

from sidecar.anthropic import request as api
from sidecar.anthropic import session
from sidecar.anthropic.session import PATIENCE, agent_of, marked, name_of
from sidecar.conversation import Priority
from sidecar.requests.sessions import KEPT, Sessions

MAIN, SUBAGENT, SIDE = Priority.MAIN, Priority.SUBAGENT, Priority.SIDE
TOOLS = [{"name": "a", "input_schema": {"type": "object"}}]
SESSION = {session.CLAUDE_CODE: "s"}
AGENT = {**SESSION, "x-claude-code-agent-id": "a"}


def parse(**fields: Any) -> api.MessagesRequest:
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}], **fields}
    return api.parse_messages(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("fields", "headers", "expected"),
    [
        ({"tools": TOOLS, "thinking": {"type": "adaptive"}}, SESSION, MAIN),
        ({"tools": [], "thinking": {"type": "adaptive"}}, SESSION, MAIN),  # a conversation without tools
        ({"tools": TOOLS}, SESSION, MAIN),  # one without thinking
        ({"tools": TOOLS, "thinking": {"type": "adaptive"}}, AGENT, SUBAGENT),
        ({"tools": []}, AGENT, SUBAGENT),
        ({"tools": []}, SESSION, SIDE),  # a title
        ({}, SESSION, SIDE),
        ({"tools": TOOLS}, {"x-session-id": "b", "x-parent-session-id": "a"}, SUBAGENT),  # opencode's
        ({}, {}, None),  # nothing shows it
    ],
)
def test_the_main_conversation_is_told_from_subagents_and_side_requests(
    fields: dict[str, Any], headers: dict[str, str], expected: Priority | None
) -> None:
    assert marked(parse(**fields), headers) is expected


@pytest.mark.parametrize(
    ("fields", "headers", "name", "agent"),
    [
        ({}, {}, "", ""),
        ({}, SESSION, "s", "s"),
        ({}, {"x-session-id": "o"}, "o", "o"),
        ({}, {"session-id": "p"}, "p", "p"),
        ({}, {"x-session-id": "child", "x-parent-session-id": "o"}, "o", "o"),
        ({"prompt_cache_key": "k"}, {}, "k", "k"),
        ({"prompt_cache_key": 3}, {}, "", ""),
        ({"prompt_cache_key": "k"}, {"session-id": "p"}, "p", "p"),
        ({"metadata": {"user_id": "u"}}, {}, "", "u"),  # names a person, who may have several conversations
        ({"metadata": {"user_id": "u" * 1000}}, {}, "", ""),
        ({}, {"user-agent": "QwenCode/0.24 (linux; x64)"}, "", "QwenCode/0.24 (linux; x64)"),
        ({}, {"user-agent": "Anthropic/Python 2.12.0"}, "", ""),
    ],
)
def test_a_session_has_the_name_that_its_client_gives_it(
    fields: dict[str, Any], headers: dict[str, str], name: str, agent: str
) -> None:
    assert (name_of(parse(**fields), headers), agent_of(parse(**fields), headers)) == (name, agent)


OPENCODE = [(2_500, 0, MAIN), (31_000, 10, MAIN), (2_500, 0, SIDE), (33_000, 10, MAIN), (2_500, 0, SIDE)]
QWEN = [(78_000, 20, MAIN), (47_000, 6, SUBAGENT), (80_000, 20, MAIN), (48_000, 6, SUBAGENT), (81_000, 20, MAIN)]
COMPACTED = [(90_000, 10, MAIN), (88_000, 0, MAIN), (35_000, 10, MAIN), (2_500, 0, SIDE), (36_000, 10, MAIN)]
TALK = [(1_000, 0, MAIN), (9_000, 0, MAIN), (12_000, 0, MAIN), (1_000, 0, SIDE)]
FEWER_TOOLS = [(60_000, 20, MAIN), *[(50_000, 5, SUBAGENT)] * PATIENCE, *[(50_000, 5, MAIN)] * 3]


@pytest.mark.parametrize("asked", [OPENCODE, QWEN, COMPACTED, TALK, FEWER_TOOLS])
def test_what_is_small_beside_a_sessions_conversation_goes_later(asked: list[tuple[int, int, Priority]]) -> None:
    """Bytes of each request, its tools, and where it stands."""
    sessions = Sessions()
    assert [sessions.place("terminal", "s", size, tools) for size, tools, _ in asked] == [each for *_, each in asked]


def test_sessions_of_other_names_and_terminals_have_nothing_to_do_with_each_other() -> None:
    sessions = Sessions()
    sessions.place("one", "s", 50_000, 10)
    assert sessions.place("two", "s", 1_000, 0) is MAIN
    assert sessions.place("one", "t", 1_000, 0) is MAIN
    assert sessions.place("one", "s", 1_000, 0) is SIDE


def test_of_a_program_that_says_nothing_every_request_is_its_main_business() -> None:
    sessions = Sessions()
    assert [sessions.place("one", "", size, tools) for size, tools in ((50_000, 10), (1_000, 0))] == [MAIN, MAIN]


def test_nothing_grows_with_the_number_of_sessions() -> None:
    sessions = Sessions()
    for number in range(3 * KEPT):
        sessions.place("one", str(number), 50_000, 10)
    assert len(sessions._known) == KEPT
    assert sessions.place("one", str(3 * KEPT - 1), 1_000, 0) is SIDE
    assert sessions.place("one", "0", 1_000, 0) is MAIN
