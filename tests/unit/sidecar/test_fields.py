"""Every field that the official package knows has a fate, and the README says which."""

import typing
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import (
    ContentBlockParam,
    MessageCountTokensParams,
    OutputConfigParam,
    ThinkingConfigParam,
    ToolChoiceParam,
    ToolUnionParam,
    beta,
)
from anthropic.types import message_create_params as create
from anthropic.types.beta import message_create_params as beta_create
from anthropic.types.json_output_format_param import JSONOutputFormatParam
from anthropic.types.message_param import MessageParam
from anthropic.types.tool_result_block_param import Content

from sidecar.anthropic.fields import table, types

README = Path(__file__).parents[3] / "README.md"


def fields_of(kind: Any) -> set[str]:
    return set(typing.get_type_hints(kind))


def members(union: Any) -> list[Any]:
    """The typed dictionaries of a union, however deep."""
    if hasattr(union, "__required_keys__"):
        return [union]
    return [member for part in typing.get_args(union) for member in members(part)]


def tag(kind: Any) -> str:
    kinds = typing.get_args(typing.get_type_hints(kind)["type"])
    return str(kinds[0] if isinstance(kinds[0], str) else typing.get_args(kinds[0])[0])


BLOCKS = [*members(ContentBlockParam), *members(Content), *members(beta.BetaContentBlockParam)]
OBJECTS = {
    "message": members(MessageParam),
    "tool_choice": members(ToolChoiceParam),
    "thinking_config": members(ThinkingConfigParam),
    "output_config": [OutputConfigParam],
    "output_format": [JSONOutputFormatParam],
}


@pytest.mark.parametrize(
    "request_type",
    [
        create.MessageCreateParamsNonStreaming,
        create.MessageCreateParamsStreaming,
        beta_create.MessageCreateParamsNonStreaming,
        MessageCountTokensParams,
    ],
)
def test_every_field_of_a_request_has_a_fate(request_type: Any) -> None:
    assert fields_of(request_type) - {*table.fates("request")} == set()


@pytest.mark.parametrize("kind", BLOCKS, ids=lambda kind: kind.__name__)
def test_every_block_and_field_has_a_fate(kind: Any) -> None:
    name = tag(kind)
    assert table.is_left_alone(name) or not fields_of(kind) - {"type", *table.fates(name)}


@pytest.mark.parametrize("name", sorted(OBJECTS))
def test_every_other_object_has_fates(name: str) -> None:
    for kind in OBJECTS[name]:
        assert fields_of(kind) - {*table.fates(name)} == set()


@pytest.mark.parametrize("kind", members(ToolUnionParam), ids=lambda kind: kind.__name__)
def test_every_kind_of_tool_is_shown_or_left_out(kind: Any) -> None:
    name = tag(kind)
    if name == "custom" or name.startswith(types.BUILT_IN_TOOLS):
        assert fields_of(kind) - {*table.fates("tool")} == set()
    else:
        assert name.startswith(types.DROPPED_TOOLS + types.REMOTE_TOOLS)


def test_no_fate_is_said_twice() -> None:
    for name in table.objects():
        tables = [types.IGNORED.get(name, {}), types.REFUSED.get(name, {})]
        assert not tables[0].keys() & tables[1].keys(), name


def test_the_readme_shows_the_table() -> None:
    """`python -m sidecar.anthropic.fields.table` prints it."""
    assert table.markdown() in README.read_text("utf-8")
