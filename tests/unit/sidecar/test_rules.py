"""What the API refuses of a readable request, in its own words; and what it lets through in a history."""

import json
from typing import Any

import pytest

from sidecar.anthropic import request as api
from sidecar.errors import InvalidRequest

OLD, NEW = "2023-06-01", "2026-10-21"
MARK = {"type": "ephemeral"}
ODD = {"type": "forever"}
TOOL = {"name": "a", "input_schema": {"type": "object"}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def refusal(version: str = NEW, **fields: Any) -> str:
    """The words of a 400; empty when there is none."""
    body = {"model": "m", "max_tokens": 10, "messages": [user(text("a"))], **fields}
    try:
        api.conversation(api.parse_messages(json.dumps(body).encode(), version))
    except InvalidRequest as error:
        return str(error)
    return ""


def earlier(*blocks: Any) -> dict[str, Any]:
    """A conversation in whose history they stand."""
    return {"messages": [user(*blocks, text("b")), {"role": "assistant", "content": "c"}, user(text("d"))]}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": 0, "stream": True}, "max_tokens: 0 reads the prompt"),
    ({"metadata": "a"}, "metadata: Input should be a valid dictionary"),
    ({"metadata": {"user_id": 3}}, "metadata.user_id: Input should be a valid string"),
    (
        {"cache_control": ODD},
        "cache_control: Input tag 'forever' found using 'type' does not match any of the expected",
    ),
    ({"cache_control": "x"}, "cache_control: Input should be a valid dictionary"),
    ({"cache_control": {}}, "cache_control.type: Field required"),
    ({"cache_control": {**MARK, "ttl": "1d"}}, "cache_control.ephemeral.ttl: Input should be '5m' or '1h'"),
    ({"tools": [{**TOOL, "cache_control": ODD}]}, "tools.0.custom.cache_control: Input tag"),
    ({"system": [text("a", cache_control=ODD)]}, "system.0.text.cache_control: Input tag"),
    ({"messages": [user(text("a", cache_control=ODD))]}, "messages.0.content.0.text.cache_control: Input tag"),
    (
        {"messages": [user(*(text("a", cache_control=MARK) for _ in range(5)))]},
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        {
            "cache_control": MARK,
            "tools": [{**TOOL, "cache_control": MARK}],
            "system": [text("a", cache_control=MARK)],
            **earlier(text("a", cache_control=MARK), text("a", cache_control=MARK)),
        },
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        {"messages": [user(text("a", citations=[{"type": "char_location"}]))]},
        "messages.0.content.0.text.citations: Extra inputs are not permitted",
    ),
    ({"messages": [user(text(""), text("a"))]}, "messages: text content blocks must be non-empty"),
]


@pytest.mark.parametrize(("fields", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_what_the_api_refuses_is_refused_in_its_words(fields: dict[str, Any], says: str) -> None:
    assert refusal(**fields).startswith(says)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 0},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"user_id": None, "more": 1}},
        {"cache_control": {**MARK, "ttl": "1h"}},
        {"messages": [user(*(text("a", cache_control=MARK) for _ in range(4)))]},
        {"messages": [user(text("a", citations=[]))]},
        earlier(text("")),
        earlier(text("a", citations=[{"type": "char_location"}])),
        earlier(text("a", cache_control=ODD)),
    ],
    ids=str,
)
def test_what_is_right_or_stands_in_the_history_is_not(fields: dict[str, Any]) -> None:
    assert not refusal(**fields)


@pytest.mark.parametrize(("version", "refused"), [("", False), (OLD, False), (NEW, True), ("2031-01-01", True)])
def test_citations_of_a_users_text_went_with_a_version(version: str, refused: bool) -> None:
    assert bool(refusal(version, messages=[user(text("a", citations=[{}]))])) is refused


def test_an_empty_text_inside_a_result_is_a_tools_own() -> None:
    call = {"type": "tool_use", "id": "t", "name": "a", "input": {}}
    found = {"type": "tool_result", "tool_use_id": "t", "content": [text("")]}
    assert not refusal(messages=[user(text("a")), {"role": "assistant", "content": [call]}, user(found)])
