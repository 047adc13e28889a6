"""A body that cannot be read is refused by the path that the API gives it: the type of each block is part of it."""

import json
from typing import Any

import pytest

from sidecar.anthropic import request as api
from sidecar.errors import InvalidRequest

TEXT = {"type": "text", "text": 3}
CASES: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": "a"}, "messages: Input should be a valid list"),
    ({"messages": [3]}, "messages.0: Input should be a valid dictionary"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{"role": "wizard", "content": "a"}]}, "messages.0.role: Input should be 'user' or 'assistant'"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content: Input should be a valid string or list"),
    ({"system": [TEXT]}, "system.0.text.text: Input should be a valid string"),
    ({"tools": [{"name": 3}]}, "tools.0.custom.name: Input should be a valid string"),
    ({"tools": [{"type": "bash_1", "name": 3}]}, "tools.0.bash_1.name: Input should be a valid string"),
    ({"tools": {}}, "tools: Input should be a valid list"),
    ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
    ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
    ({"model": ""}, "model: Input should have a length greater than or equal to 1"),
    ({"stream": "yes"}, "stream: Input should be a valid boolean"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": "x"}},
        "thinking.enabled.budget_tokens: Input should be a valid",
    ),
    ({"tool_choice": {"type": "tool", "name": 3}}, "tool_choice.tool.name: Input should be a valid string"),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema: Field required"),
]
BLOCKS: list[tuple[dict[str, Any], str]] = [
    (TEXT, "text.text: Input should be a valid string"),
    ({"type": "text"}, "text.text: Field required"),
    ({"text": "a"}, "type: Field required"),
    ({"type": "tool_use", "id": "a", "name": 3, "input": {}}, "tool_use.name: Input should be a valid string"),
    (
        {"type": "document", "source": {"type": "text", "data": 3}},
        "document.source.text.data: Input should be a valid string",
    ),
]
UNKNOWN = "messages.0.content.0: Input tag 'hologram' found using 'type' does not match any of the expected tags: 'adv"
CASES += [
    ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, UNKNOWN),
    *(({"messages": [{"role": "user", "content": [block]}]}, f"messages.0.content.0.{says}") for block, says in BLOCKS),
]


@pytest.mark.parametrize(("fields", "says"), CASES, ids=[says for _, says in CASES])
def test_a_field_that_is_wrong_is_named_as_the_api_names_it(fields: dict[str, Any], says: str) -> None:
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "a"}], **fields}
    with pytest.raises(InvalidRequest) as refusal:
        api.parse_messages(json.dumps(body).encode())
    assert str(refusal.value).startswith(says)


@pytest.mark.parametrize("body", [b"", b"{", b'{"model": ', b"\xff"])
def test_what_is_not_json_is_told_so_in_the_words_that_clients_look_for(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"^The request body is not valid JSON: "):
        api.parse_messages(body)
