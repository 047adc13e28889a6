"""Which tools of a request a model gets, which it must call, and what is left out."""

import json
from typing import Any

import pytest

from sidecar.anthropic import request as api
from sidecar.anthropic.content import tools
from sidecar.conversation import Conversation, Result, Text
from sidecar.errors import InvalidRequest

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
BASH = {"name": "Bash", "input_schema": SCHEMA}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
TOMORROW = {"type": "xyz_20271231", "name": "xyz"}
SEES = {"type": "computer_20250124", "name": "computer"}
LOOKUP = {"name": "lookup", "input_schema": SCHEMA, "defer_loading": True}
FINDS = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}


def parse(*said: dict[str, Any], **fields: Any) -> api.MessagesRequest:
    messages = list(said) or [{"role": "user", "content": "go"}]
    return api.parse_messages(json.dumps({"model": "m", "max_tokens": 10, "messages": messages, **fields}).encode())


def names(request: api.MessagesRequest) -> list[str]:
    return [tool.name for tool in api.conversation(request).tools]


@pytest.mark.parametrize("kind", [SEARCH, TOMORROW, SEES, {"type": "mcp_toolset", "mcp_server_name": "x"}])
@pytest.mark.parametrize("choice", [None, {"type": "auto"}, {"type": "any"}, {"type": "tool", "name": "Bash"}])
def test_a_tool_that_nobody_here_can_run_is_left_out_where_others_remain(kind: Any, choice: Any) -> None:
    request = parse(tools=[kind, BASH], tool_choice=choice)
    assert names(request) == ["Bash"]
    assert tools.forced(request) == (("Bash",) if choice and choice["type"] != "auto" else ())
    [remark] = tools.left_out(request)
    assert kind["type"] in remark


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tools": [SEARCH]}, "tools.0: web_search_20250305 runs on the vendor's servers"),
        ({"tools": [FINDS, SEARCH]}, "tools.1: web_search_20250305 runs on the vendor's servers"),
        ({"tools": [TOMORROW]}, "tools.0: xyz_20271231 is a type that is not known here"),
        ({"tools": [SEES]}, "tools.0: computer_20250124 needs a model that sees"),
        ({"mcp_servers": [{"type": "url", "url": "http://x/", "name": "x"}]}, "mcp_servers: "),
        (
            {"tools": [SEARCH, BASH], "tool_choice": {"type": "tool", "name": "web_search"}},
            "tool_choice.tool.name: web_search_20250305 runs",
        ),
        ({"tools": [], "tool_choice": {"type": "any"}}, "tool_choice: tool_choice may only be specified while"),
        ({"tools": [FINDS], "tool_choice": {"type": "any"}}, "tool_choice: tool_choice may only be specified while"),
    ],
)
def test_it_is_refused_where_it_is_forced_or_nothing_else_is_left(fields: Any, says: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        request = parse(**fields)
        api.conversation(request)
        tools.forced(request)
    assert str(refusal.value).startswith(says)


def test_what_is_left_out_may_have_any_name_or_none() -> None:
    assert names(parse(tools=[{**SEARCH, "name": "Bash"}, {"type": "xyz"}, BASH])) == ["Bash"]


def test_servers_of_tools_are_left_out_where_other_tools_remain() -> None:
    request = parse(tools=[BASH], mcp_servers=[{"type": "url", "url": "http://x/", "name": "x"}])
    assert names(request) == ["Bash"] and "mcp_servers" in tools.left_out(request)[0]


def test_who_wants_no_tool_may_offer_what_nobody_can_run() -> None:
    assert names(parse(tools=[SEARCH], tool_choice={"type": "none"})) == []


def test_a_type_of_tomorrow_that_brings_its_schema_is_the_clients_own() -> None:
    request = parse(tools=[{**TOMORROW, "input_schema": SCHEMA}])
    assert names(request) == ["xyz"] and not tools.left_out(request)


def test_a_deferred_tool_that_is_forced_is_offered() -> None:
    """Whether it is the only one, or stands beside others, in whose prompt it is shown where it is asked for."""
    choice = {"type": "tool", "name": "lookup"}
    alone = parse(tools=[LOOKUP], tool_choice=choice)
    assert names(alone) == ["lookup"] and tools.forced(alone) == ("lookup",)
    assert api.conversation(alone).tools[0].listed
    beside = parse(tools=[LOOKUP, BASH], tool_choice=choice)
    asked = api.conversation(beside)
    assert [(tool.name, tool.listed) for tool in asked.tools] == [("lookup", False), ("Bash", True)]
    assert tools.forced(beside) == ("lookup",)
    assert '"parameters": {"type": "object"' in asked.messages[-1].blocks[-1].text  # type: ignore[union-attr]


def test_any_tool_means_one_of_those_that_are_shown() -> None:
    assert tools.forced(parse(tools=[LOOKUP, BASH], tool_choice={"type": "any"})) == ("Bash",)
    assert tools.forced(parse(tools=[LOOKUP], tool_choice={"type": "any"})) == ("lookup",)


def test_tools_that_are_all_deferred_are_shown_since_nothing_could_ever_find_them() -> None:
    assert names(parse(tools=[LOOKUP, {**LOOKUP, "name": "other"}])) == ["lookup", "other"]


# Changes in mid-conversation


def change(kind: str, **tool: Any) -> dict[str, Any]:
    return {"role": "system", "content": [{"type": kind, "tool": tool}]}


SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
END = {"role": "user", "content": "c"}
ADDED = change("tool_addition", type="tool_reference", name="lookup")
REMOVED = change("tool_removal", type="tool_reference", name="Bash")
BY_VALUE = change("tool_addition", type="tool_definition", definition={"name": "New", "input_schema": SCHEMA})


def callable_tools(asked: Conversation) -> list[str]:
    return [tool.name for tool in asked.tools if not tool.withdrawn]


@pytest.mark.parametrize(
    ("changes", "left", "told"),
    [
        ([], ["Bash"], None),
        ([ADDED], ["lookup", "Bash"], '"name": "lookup"'),
        ([REMOVED], [], "Bash cannot be called any more"),
        ([ADDED, REMOVED], ["lookup"], "Bash cannot"),
        ([BY_VALUE], ["Bash", "New"], '"name": "New"'),
        ([REMOVED, change("tool_addition", type="tool_reference", name="Bash")], ["Bash"], "from here on"),
        ([change("tool_addition", type="mcp_tool_reference", name="x", server_name="y")], ["Bash"], None),
        ([change("tool_addition", type="tool_definition", definition=SEARCH)], ["Bash"], None),
        ([change("tool_addition", type="tool_definition", definition={"name": 3})], ["Bash"], None),
        ([change("tool_removal", type="tool_reference", name="nobody")], ["Bash"], "nobody cannot"),
        ([{"role": "system", "content": [{"type": "tool_removal"}]}], ["Bash"], None),
    ],
)
def test_the_list_of_tools_changes_where_the_conversation_says_so(
    changes: list[Any], left: list[str], told: str | None
) -> None:
    asked = api.conversation(parse(*SAID, *changes, END, tools=[LOOKUP, BASH]))
    assert sorted(callable_tools(asked)) == sorted(left)
    assert [tool.name for tool in asked.tools if tool.listed] == ["Bash"], "the prompt's beginning stays"
    words = [block.text for block in asked.messages[-1].blocks if isinstance(block, Text | Result)]
    assert any(told in each for each in words[:-1]) if told else words == ["c"]


def test_a_tool_that_was_withdrawn_cannot_be_forced() -> None:
    request = parse(*SAID, REMOVED, END, tools=[BASH], tool_choice={"type": "tool", "name": "Bash"})
    with pytest.raises(InvalidRequest, match="Tool 'Bash' not found in provided tools"):
        tools.forced(request)
