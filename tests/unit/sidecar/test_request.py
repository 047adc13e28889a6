"""API requests become the engine's conversation: normalised, checked, and refused by field name."""

import json
from typing import Any

import pytest

from sidecar.anthropic import request as api
from sidecar.conversation import Call, Message, Result, Text, Thinking, Tool
from sidecar.errors import InvalidRequest

BASE: dict[str, Any] = {"model": "m", "max_tokens": 10}


def parse(**fields: Any) -> api.MessagesRequest:
    return api.parse_messages(json.dumps({**BASE, **fields}).encode())


def conversation(*messages: dict[str, Any], **fields: Any) -> Any:
    return api.conversation(parse(messages=list(messages), **fields))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


CALL = {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "x"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "content"}


def test_a_string_and_a_text_block_are_the_same_message() -> None:
    cached = text("hi", cache_control={"type": "ephemeral"})
    assert conversation(user("hi")) == conversation(user([cached])) == conversation(user([text("hi")]))


def test_the_billing_block_is_dropped() -> None:
    billing = text("x-anthropic-billing-header: cc_version=1; cc_entrypoint=cli;")
    assert conversation(user("hi"), system=[billing, text("be kind")]).system == "be kind"


def test_early_system_messages_are_the_environment_so_that_the_users_words_come_last() -> None:
    asked = conversation(user("hi"), system([text("environment")]), system="be kind")
    assert (asked.system, asked.environment) == ("be kind", ("environment",))
    assert asked.messages == (Message("user", (Text("hi"),)),)


def test_what_names_a_place_is_parted_from_what_does_not() -> None:
    """The system prompt of an agent may name its folder too, and everything behind that would be read again."""
    asked = conversation(
        user("hi"),
        system("Folder: /home/me/project\n\nToday is Monday."),
        system="be kind\n\nNotes: `/home/me/notes`\n\nSee https://a.b/c/d, and/or ask, or /help.",
    )
    assert asked.system == "be kind\n\nSee https://a.b/c/d, and/or ask, or /help."
    assert asked.environment == ("Today is Monday.", "Notes: `/home/me/notes`\n\nFolder: /home/me/project")


def test_a_system_prompt_without_early_system_messages_stays_as_it_is() -> None:
    words = "Use /usr/bin/python.\n\n\n\nBe kind."
    asked = conversation(user("hi"), system=words)
    assert (asked.system, asked.environment) == (words, ())


def test_later_system_messages_stay_and_never_part_a_call_from_its_result() -> None:
    asked = conversation(user("a"), assistant([CALL]), system("reminder"), user([RESULT, text("b")]))
    marked = Text("<system-reminder>\nreminder\n</system-reminder>")
    assert asked.messages[2] == Message("user", (marked, Result("t1", "content"), Text("b")))


def test_neighbours_of_one_role_are_one_turn() -> None:
    asked = conversation(user("a"), user("b"), assistant("c"), assistant([CALL]), user([RESULT]))
    assert [message.role for message in asked.messages] == ["user", "assistant", "user"]
    assert asked.messages[1].blocks == (Text("c"), Call("t1", "Read", {"path": "x"}))


@pytest.mark.parametrize(
    "reminder",
    [
        "<total_tokens>123 tokens left</total_tokens>",
        "<system-reminder>\n<total_tokens>9 tokens left</total_tokens>\n</system-reminder>\n",
    ],
)
def test_token_reminders_are_dropped_wherever_they_stand(reminder: str) -> None:
    result = {**RESULT, "content": [text("content" + reminder)]}
    asked = conversation(user("a" + reminder), assistant([CALL]), user([result, text(reminder)]))
    assert asked == conversation(user("a"), assistant([CALL]), user([RESULT]))


def test_thinking_in_history_is_accepted_and_redacted_thinking_dropped() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "x"}
    blocks = conversation(user("a"), assistant([thinking, redacted, text("b")])).messages[1].blocks
    assert blocks == (Thinking("hm", "s"), Text("b"))


def test_results_take_strings_blocks_nothing_and_pictures_as_a_remark() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    for content, expected in [("x", "x"), ([text("a"), text("b")], "a\nb"), (None, ""), ([], "")]:
        asked = conversation(user("q"), assistant([CALL]), user([{**RESULT, "content": content, "is_error": True}]))
        assert asked.messages[2].blocks == (Result("t1", expected, True),)
    asked = conversation(user("q"), assistant([CALL]), user([{**RESULT, "content": [image]}]))
    assert asked.messages[2].blocks[0].text == "[a picture, image/png: this model reads text only]"


def test_tools_lose_what_only_the_cloud_uses() -> None:
    tool = {"name": "Read", "description": "d", "input_schema": {"type": "object"}, "strict": True}
    assert conversation(user("a"), tools=[tool]).tools == (Tool("Read", "d", {"type": "object"}),)
    assert conversation(user("a"), tools=[tool], tool_choice={"type": "none"}).tools == ()


def test_tool_choice_says_what_must_be_called() -> None:
    tools = [{"name": name, "input_schema": {"type": "object"}} for name in ("a", "b")]
    cases = {"auto": (), "any": ("a", "b")}
    for kind, forced in cases.items():
        assert api.tools.forced(parse(messages=[user("x")], tools=tools, tool_choice={"type": kind})) == forced
    one = parse(messages=[user("x")], tools=tools, tool_choice={"type": "tool", "name": "b"})
    assert api.tools.forced(one) == ("b",) and api.parallel_calls(one)


def test_unknown_fields_are_ignored_and_known_ones_used() -> None:
    asked = parse(messages=[user("a")], temperature=0, top_k=3, thinking={"type": "adaptive"}, novelty=[1])
    assert (api.sampling(asked).temperature, api.sampling(asked).top_p, api.sampling(asked).top_k) == (0.0, None, 3)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({"messages": "hi"}, "messages: Input should be a valid list"),
    ({"messages": [user(3)]}, "messages.0.content: "),
    ({"messages": [user("a"), user([{"type": "hologram"}])]}, "messages.1.content.0: Input tag 'hologram' found using"),
    ({"messages": [user([text("a"), {"type": "image"}])]}, "messages.0.content.1.image.source: Field required"),
    ({"messages": [{"role": "wizard", "content": ""}]}, "messages.0.role: Input should be"),
    ({"messages": [user("a")], "max_tokens": -1}, "max_tokens: "),
    ({"messages": [user("a")], "max_tokens": "many"}, "max_tokens: "),
    ({"messages": [user("a")], "temperature": 1.5}, "temperature: "),
    ({"messages": [user("a")], "top_p": -0.1}, "top_p: "),
    ({"messages": [user("a")], "top_k": -1}, "top_k: "),
    ({"messages": [user("a")], "tools": [{"name": "", "input_schema": {}}]}, "tools.0.custom.name: "),
    ({"messages": [user("a")], "tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.custom.name: "),
    ({"messages": [user("a")], "tools": [{"name": "a"}]}, "tools.0.custom.input_schema: Field required"),
    (
        {"messages": [user("a")], "tools": [{"name": "a", "input_schema": {"type": "array"}}]},
        "tools.0.custom.input_schema.type",
    ),
    (
        {"messages": [user("a")], "tools": [{"name": "a", "input_schema": {}}] * 2},
        "tools.1.custom.name: Tool names must be",
    ),
    (
        {"messages": [user("a")], "tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        "tools.0: web_search_20250305 runs on the vendor's servers",
    ),
    ({"messages": [user("a")], "tools": [{"type": "computer_toolset_20260801"}]}, "tools.0: computer_toolset_20260801"),
    ({"messages": [user("a")], "tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
    ({"messages": [user("a")], "mcp_servers": [{}]}, "mcp_servers: "),
    ({"messages": [user("a")], "thread": {"id": "x"}}, "thread: "),
    (
        {"messages": [user("a")], "thinking": {"type": "enabled", "budget_tokens": -1}},
        "thinking.enabled.budget_tokens: ",
    ),
    ({"messages": [user("a")], "thinking": {"type": "deep"}}, "thinking: Input tag 'deep' found"),
    ({"messages": [user("")]}, "messages.0: all messages must have non-empty content except for"),
    (
        {"messages": [user("a"), assistant([CALL])]},
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. Each `tool_use`",
    ),
    (
        {"messages": [user("a"), assistant([CALL]), user("b")]},
        "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: t1. Each",
    ),
    (
        {
            "messages": [user("a"), assistant("{")],
            "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        },
        "output_config.format: it cannot be combined",
    ),
    (
        {"messages": [user("a")], "output_config": {"format": {"type": "xml"}}},
        "output_config.format: Input tag 'xml' found",
    ),
    (
        {"messages": [user("a")], "tool_choice": {"type": "tool", "name": "x"}},
        "tool_choice.tool.name: Tool 'x' not found",
    ),
    ({"messages": [user("a")], "stop_sequences": ["ok", " "]}, "stop_sequences.1: "),
    (
        {"messages": [user([text("a"), RESULT])]},
        "messages.0.content.1: unexpected `tool_use_id` found in `tool_result` blocks: t1. Each `tool_result` block",
    ),
    ({"messages": [user([CALL])]}, "messages.0.content.0: `tool_use` blocks can only be in `assistant` messages"),
    (
        {"messages": [user("a"), assistant([RESULT])]},
        "messages.1.content.0: `tool_result` blocks can only be in `user` messages",
    ),
    ({"messages": [user("a"), assistant("b ")]}, "trailing whitespace"),
    ({"messages": [user([{"type": "image", "source": {}}])]}, "messages.0.content.0.image.source.type: Field required"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_cannot_be_served_is_refused_by_name(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        asked = parse(**fields)
        api.stop_sequences(asked)
        api.tools.forced(asked)
        api.conversation(asked)
    assert says in str(refusal.value)


@pytest.mark.parametrize("missing", ["model", "messages", "max_tokens"])
def test_a_missing_field_is_named_as_the_api_names_it(missing: str) -> None:
    body = {**BASE, "messages": [user("a")]}
    del body[missing]
    with pytest.raises(InvalidRequest, match=f"^{missing}: Field required$"):
        api.parse_messages(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"3"])
def test_no_body_makes_anything_but_a_400(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        api.parse_messages(body)


TOOLS = [{"name": name, "input_schema": {"type": "object"}, "defer_loading": name == "b"} for name in ("a", "b")]
FOUND = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": "b"}]}


def test_a_deferred_tool_appears_where_a_result_refers_to_it_and_the_prompts_beginning_stays() -> None:
    before = conversation(user("x"), tools=TOOLS)
    assert [tool.name for tool in before.tools] == ["a"]
    after = conversation(user("x"), assistant([CALL]), user([FOUND]), tools=TOOLS)
    assert [(tool.name, tool.listed) for tool in after.tools] == [("a", True), ("b", False)]
    [result] = after.messages[-1].blocks
    assert json.loads(result.text) == {"name": "b", "description": "", "parameters": {"type": "object"}}


def test_with_the_vendors_tool_search_all_tools_are_shown_from_the_start() -> None:
    """It cannot search here, so nothing would ever refer to a deferred tool."""
    search = {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"}
    asked = conversation(user("x"), tools=[search, *TOOLS])
    assert [(tool.name, tool.listed) for tool in asked.tools] == [("a", True), ("b", True)]


@pytest.mark.parametrize(("kind", "command"), [("bash_20250124", "bash"), ("text_editor_20250728", "edit")])
def test_a_tool_that_the_api_defines_and_the_client_runs_has_its_schema(kind: str, command: str) -> None:
    [tool] = conversation(user("x"), tools=[{"type": kind, "name": command}]).tools
    assert tool.name == command
    assert tool.schema["type"] == "object"


@pytest.mark.parametrize(
    ("thinking", "on", "shown"),
    [
        (None, False, "never"),
        ({"type": "disabled"}, False, "never"),
        ({"type": "adaptive"}, True, "whole"),
        ({"type": "adaptive", "display": "omitted"}, True, "omitted"),
        ({"type": "adaptive", "display": "updates"}, True, "whole"),
        ({"type": "enabled", "budget_tokens": 1024}, True, "whole"),
        ({"type": "between_tools"}, False, "never"),
    ],
)
def test_thinking_is_on_when_asked_for(thinking: Any, on: bool, shown: str) -> None:
    asked = parse(messages=[user("x")], thinking=thinking, max_tokens=2000)
    assert (api.thinks(asked), api.conversation(asked).thinking, api.shows_thinking(asked)) == (on, on, shown)
    assert api.thinking_budget(asked) == ((1024 if thinking and "budget_tokens" in thinking else 1000) if on else 0)


@pytest.mark.parametrize(
    ("effort", "most", "budget"),
    [
        (None, 64000, 16384),
        ("low", 64000, 1024),
        ("medium", 64000, 4096),
        ("max", 64000, 32000),
        ("low", 10, 5),
        ("x", 0, 1),
    ],
)
def test_effort_bounds_a_thought_that_has_no_budget_and_leaves_room_for_the_answer(
    effort: str | None, most: int, budget: int
) -> None:
    asked = parse(
        messages=[user("x")], thinking={"type": "adaptive"}, output_config={"effort": effort}, max_tokens=most
    )
    assert api.thinking_budget(asked) == budget


@pytest.mark.parametrize(
    ("asked", "most", "budget"),
    [
        (32000, 32000, 16000),  # as qwen sends it
        (50000, 32000, 16000),
        (31999, 32000, 31999),
        (500, 32000, 500),  # fewer than the API takes
        (1, 2000, 1),
        (0, 2000, 0),
        (None, 32000, 16000),
        (None, 64000, 16384),
        (2000, 1, 1),
    ],
)
def test_a_budget_that_the_api_would_not_take_is_made_one_that_leaves_an_answer(
    asked: int | None, most: int, budget: int
) -> None:
    request = parse(messages=[user("x")], thinking={"type": "enabled", "budget_tokens": asked}, max_tokens=most)
    assert api.thinking_budget(request) == budget
    assert api.thinks(request) is (asked != 0)


def test_a_conversation_that_the_assistant_begins_has_an_empty_turn_of_the_users_before_it() -> None:
    asked = conversation(assistant("a"), user("b"))
    assert asked.messages == (Message("user", ()), Message("assistant", (Text("a"),)), Message("user", (Text("b"),)))
    assert conversation(assistant("a")).begun


def test_thinking_between_tools_begins_with_a_result() -> None:
    assert api.thinks(
        parse(messages=[user("x"), assistant([CALL]), user([RESULT])], thinking={"type": "between_tools"})
    )


def test_a_forced_call_and_a_begun_answer_leave_no_room_for_thinking() -> None:
    adaptive = {"type": "adaptive"}
    assert not api.thinks(parse(messages=[user("x")], thinking=adaptive, tools=TOOLS, tool_choice={"type": "any"}))
    assert not api.thinks(parse(messages=[user("x"), assistant("So")], thinking=adaptive))


def test_both_spellings_of_structured_output_mean_the_same() -> None:
    answer = {"type": "json_schema", "schema": {"type": "object"}}
    new = conversation(user("x"), output_config={"effort": "low", "format": answer})
    assert new == conversation(user("x"), output_format=answer)
    assert new.answer_schema == {"type": "object"}


def test_what_the_vendors_tools_left_in_history_is_accepted() -> None:
    left = [{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, text("b")]
    assert conversation(user("a"), assistant(left)).messages[1].blocks == (Text("b"),)


def test_search_results_and_documents_are_read_as_text() -> None:
    found = {"type": "search_result", "title": "T", "source": "S", "content": [text("C")]}
    document = {"type": "document", "title": "D", "context": "E", "source": {"type": "content", "content": [text("F")]}}
    assert conversation(user([found, document])).messages[0].blocks == (Text("T\nS\nC"), Text("D\nE\nF"))
