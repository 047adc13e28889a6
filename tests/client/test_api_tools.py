"""Tools: which kinds a model may call, who chooses, and how the calls come."""

import json
from typing import Any

import jsonschema
import pytest

from sidecar.anthropic.fields.types import IGNORED
from tests.client.api import Case, Refused, Terminal, check, check_refused

COMMAND = {"command": {"type": "string", "maxLength": 12}}
RUN: Any = {
    "name": "Bash",
    "description": "Run a command",
    "input_schema": {"type": "object", "properties": COMMAND, "required": ["command"]},
}
READ: Any = {
    "name": "read_file",
    "description": "Read a file",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}
POINT: Any = {
    "name": "move",
    "description": "Move",
    "input_schema": {
        "type": "object",
        "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}, "way": {"enum": ["up", "down"]}},
        "required": ["x", "way"],
    },
}
NOTHING: Any = {"name": "noop", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}}
RUN_LS: Any = {"messages": [{"role": "user", "content": "run ls"}]}
SEARCH = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}


def offered(*tools: Any, **more: Any) -> dict[str, Any]:
    return {**RUN_LS, "tools": list(tools), **more}


def chosen(kind: str, *tools: Any, **choice: Any) -> dict[str, Any]:
    """With tokens enough for the call."""
    return offered(*(tools or (RUN, POINT)), max_tokens=100, tool_choice={"type": kind, **choice})


def typed(kind: str, name: str) -> dict[str, Any]:
    return {"type": kind, "name": name}


ONE = {"disable_parallel_tool_use": True}
CLIENTS_OWN = [
    ("bash_20241022", "bash"),
    ("bash_20250124", "bash"),
    ("text_editor_20241022", "str_replace_editor"),
    ("text_editor_20250124", "str_replace_editor"),
    ("text_editor_20250429", "str_replace_based_edit_tool"),
    ("text_editor_20250728", "str_replace_based_edit_tool"),
    ("memory_20250818", "memory"),
]
"""The tools that the vendor defines by a type alone and the client runs."""

REMOTE = [
    "web_search_20250305",
    "web_search_20260318",
    "web_fetch_20250910",
    "web_fetch_20260318",
    "code_execution_20250522",
    "code_execution_20260521",
    "computer_20250124",
    "computer_toolset_20260801",
    "browser_toolset_20260801",
    "mcp_toolset",
    "something_new_20300101",
]
"""What nobody here can run."""

OFFERED = [
    Case("no tools", offered(), like=RUN_LS),
    Case("a tool", offered(RUN), unlike=RUN_LS),
    Case("a tool of the custom type", offered({**RUN, "type": "custom"}), like=offered(RUN)),
    Case("a tool without a description", offered({name: RUN[name] for name in ("name", "input_schema")})),
    Case("a tool without parameters", offered(NOTHING)),
    Case("a tool with a bare schema", offered({"name": "x", "input_schema": {}})),
    Case("a long name", offered({**RUN, "name": "mcp__server-1__" + "a" * 113})),
    Case("many tools", offered(*({**RUN, "name": f"run_{index}"} for index in range(20)))),
    Case(
        "a schema with references",
        offered(
            {
                **POINT,
                "input_schema": {
                    "type": "object",
                    "properties": {"a": {"$ref": "#/$defs/a"}},
                    "$defs": {"a": {"type": "integer"}},
                },
            }
        ),
    ),
    Case(
        "a schema with keywords nobody knows",
        offered(
            {
                **POINT,
                "input_schema": {
                    **POINT["input_schema"],
                    "$schema": "http://json-schema.org/draft-07/schema#",
                    "x-order": 1,
                },
            }
        ),
    ),
    Case("a model that may choose", chosen("auto"), like=offered(RUN, POINT)),
    Case("no choice but words", chosen("none"), like=RUN_LS, kinds="(text)?"),
    Case("a deferred tool that nothing refers to", offered(RUN, {**POINT, "defer_loading": True}), like=offered(RUN)),
    Case("a tool that is not deferred after all", offered({**RUN, "defer_loading": False}), like=offered(RUN)),
    Case(
        "the vendor's search, with a deferred tool", offered(SEARCH, {**RUN, "defer_loading": True}), like=offered(RUN)
    ),
    Case("the vendor's search alone", offered(SEARCH), like=RUN_LS),
    *(Case(f"the vendor's {kind} beside others", offered(RUN, typed(kind, "x")), like=offered(RUN)) for kind in REMOTE),
    Case(
        "servers of tools beside others",
        offered(RUN, mcp_servers=[{"type": "url", "url": "http://x/", "name": "x"}]),
        like=offered(RUN),
    ),
    *(Case(f"the client's own {kind}", offered(typed(kind, name)), unlike=RUN_LS) for kind, name in CLIENTS_OWN),
]

DEFERRED: Any = {**POINT, "defer_loading": True}
FORCED = [
    Case("a deferred tool", chosen("tool", DEFERRED, name="move", **ONE), stop="tool_use", kinds="tool_use"),
    Case(
        "a deferred tool beside another",
        chosen("tool", DEFERRED, RUN, name="move", **ONE),
        stop="tool_use",
        kinds="tool_use",
    ),
    Case("any tool", chosen("any"), kinds="tool_use( tool_use)*"),
    Case("this tool", chosen("tool", name="move", **ONE), stop="tool_use", kinds="tool_use"),
    Case("one of any", chosen("any", **ONE), stop="tool_use", kinds="tool_use"),
    Case(
        "a tool without parameters by force",
        chosen("tool", NOTHING, name="noop", **ONE),
        stop="tool_use",
        kinds="tool_use",
    ),
]

SAMPLES: dict[str, Any] = {
    "cache_control": {"type": "ephemeral"},
    "strict": True,
    "input_examples": [{"command": "ls"}],
    "eager_input_streaming": True,
    "allowed_callers": ["direct"],
    "max_characters": 1000,
}
IGNORED_FIELDS = [
    Case(f"a tool with {name}", offered({**RUN, name: SAMPLES[name]}), like=offered(RUN)) for name in IGNORED["tool"]
]

REFUSED = [
    *(Refused(f"the vendor's {kind} alone", offered(typed(kind, "x")), rf"tools\.0: {kind} ") for kind in REMOTE),
    *(
        Refused(
            f"the vendor's {kind} by force",
            chosen("tool", RUN, typed(kind, "x"), name="x"),
            rf"tool_choice\.tool\.name: {kind} ",
        )
        for kind in REMOTE
    ),
    Refused("a tool without a name", offered({"input_schema": {"type": "object"}}), r"tools\.0\.custom\.name: "),
    Refused("a name with a blank", offered({**RUN, "name": "a b"}), r"tools\.0\.custom\.name: "),
    Refused("an empty name", offered({**RUN, "name": ""}), r"tools\.0\.custom\.name: "),
    Refused("a name that is too long", offered({**RUN, "name": "a" * 129}), r"tools\.0\.custom\.name: "),
    Refused("the same name twice", offered(RUN, RUN), r"tools\.1\.custom\.name: .*unique"),
    Refused("a tool without a schema", offered({"name": "a"}), r"tools\.0\.custom\.input_schema: Field required"),
    Refused(
        "a schema of a list",
        offered({"name": "a", "input_schema": {"type": "array"}}),
        r"tools\.0\.custom\.input_schema\.type: ",
    ),
    Refused(
        "a schema that is a string",
        offered({"name": "a", "input_schema": "object"}),
        r"tools\.0\.custom\.input_schema: ",
    ),
    Refused("tools that are no list", {**RUN_LS, "tools": {"a": 1}}, "tools: "),
    Refused("a choice of nothing", {**RUN_LS, "tool_choice": {"type": "any"}}, "tool_choice: "),
    Refused("a choice of a tool that is not there", chosen("tool", name="other"), r"tool_choice\.tool\.name: .*other"),
    Refused("a choice without a name", chosen("tool"), r"tool_choice\.tool\.name: "),
    Refused("an unknown choice", chosen("perhaps"), "tool_choice: "),
    Refused(
        "servers to call",
        {**RUN_LS, "mcp_servers": [{"type": "url", "url": "http://x/", "name": "x"}]},
        "mcp_servers: ",
    ),
]


@pytest.mark.parametrize("case", OFFERED, ids=str)
def test_tools_are_offered(either: Terminal, case: Case) -> None:
    check(either, case)


@pytest.mark.parametrize("case", FORCED, ids=str)
def test_a_call_is_forced(either: Terminal, case: Case) -> None:
    check(either, case)


@pytest.mark.parametrize("case", IGNORED_FIELDS, ids=str)
def test_a_field_without_effect_has_none(demo: Terminal, case: Case) -> None:
    check(demo, case)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_cannot_be_called_is_refused_by_its_place(demo: Terminal, case: Refused) -> None:
    check_refused(demo, case)


@pytest.mark.parametrize(("kind", "name"), CLIENTS_OWN)
def test_a_tool_of_the_clients_own_is_called(demo: Terminal, kind: str, name: str) -> None:
    body = {**chosen("tool", typed(kind, name), name=name, **ONE), "max_tokens": 50}
    _, events = demo.streamed(body)
    assert events[1].content_block.type == "tool_use" and events[1].content_block.name == name


def test_a_call_comes_in_pieces_that_make_its_arguments(either: Terminal) -> None:
    text = {"enum": ["a text that takes longer to write than words wait for more of them, " * 12]}
    schema = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    body = {**chosen("tool", {"name": "tell", "input_schema": schema}, name="tell", **ONE), "max_tokens": 1000}
    message, events = either.streamed(body)
    pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
    assert len(pieces) > 1 and all(pieces)
    [call] = message.content
    assert json.loads("".join(pieces)) == call.input
    jsonschema.validate(call.input, schema)


def test_a_call_that_is_cut_off_is_no_call(either: Terminal) -> None:
    """Half of its arguments came; a client that ran it would run something else."""
    body = {**chosen("tool", name="Bash", **ONE), "max_tokens": 12}
    message = either.whole(body)
    assert (message.stop_reason, message.content) == ("max_tokens", [])
    streamed, _ = either.streamed(body)
    assert streamed.stop_reason == "max_tokens"


def test_several_calls_of_one_answer_have_blocks_of_their_own(demo: Terminal) -> None:
    said = [{"role": "user", "content": "Read a.txt and b.txt"}]
    message, events = demo.streamed(offered(READ, max_tokens=200, messages=said))
    starts = [event.content_block for event in events if event.type == "content_block_start"]
    calls = [start for start in starts if start.type == "tool_use"]
    assert message.stop_reason == "tool_use"
    assert len({call.id for call in calls}) == len(calls) == 2
    assert all(call.name == READ["name"] and call.input == {} for call in calls)
    read = [next(iter(block.input.values())) for block in message.content if block.type == "tool_use"]  # type: ignore[union-attr]
    assert read == ["a.txt", "b.txt"]


def test_a_round_trip_with_a_tool(demo: Terminal) -> None:
    """The answer's content goes back as it came, and what was read of it is not read again."""
    first = demo.whole(offered(READ, RUN, max_tokens=100))
    assert first.stop_reason == "tool_use"
    call = first.content[-1]
    assert call.type == "tool_use" and (call.name, call.input) == ("Bash", {"command": "ls"})
    found = {"type": "tool_result", "tool_use_id": call.id, "content": "stone garden lamp"}
    said = [*RUN_LS["messages"], {"role": "assistant", "content": first.content}, {"role": "user", "content": [found]}]
    second = demo.whole(offered(READ, RUN, max_tokens=100, messages=said))
    assert second.stop_reason == "end_turn"
    assert (second.usage.cache_read_input_tokens or 0) > second.usage.input_tokens


def test_what_is_left_out_is_logged_once(demo: Terminal) -> None:
    for _ in range(3):
        demo.whole(offered(RUN, typed("web_browsing_20271231", "x")))
    assert demo.machine.logged().count("web_browsing_20271231 is a type that is not known here") == 1


def test_what_is_small_beside_a_sessions_conversation_is_its_side_business(demo: Terminal) -> None:
    """As opencode asks for a title: without tools, in the session's name."""
    session = {"x-session-id": "ses_1"}
    many = offered(*({**RUN, "name": f"run_{index}"} for index in range(20)))
    for body, headers in ((many, session), (RUN_LS, session), (RUN_LS, {}), (many, session)):
        demo.whole(body, headers)
    recent = [each["priority"] for each in demo.home.status()["recent"][-4:]]
    assert recent == ["main", "side", "main", "main"]
