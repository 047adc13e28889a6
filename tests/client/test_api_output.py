"""What comes back: limits and stops, structured answers, thinking, and usage that is the truth."""

import json
from typing import Any, Literal

import jsonschema
import pydantic
import pytest

from sidecar.anthropic.fields.types import IGNORED
from tests.client.api import HELLO, Case, Refused, Terminal, check, check_refused, text_of

SAY: Any = {"messages": [{"role": "user", "content": "say stone garden lamp"}]}
SHAPE: Any = {
    "type": "object",
    "properties": {"way": {"enum": ["up", "down"]}, "steps": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["way", "steps"],
    "additionalProperties": False,
}
OLD = {"anthropic-version": "2023-06-01"}
NEW = {"anthropic-version": "2026-10-21"}


class Step(pydantic.BaseModel):
    """The same for the SDK, which passes no bounds on."""

    way: Literal["up", "down"]
    up: bool


LONG = 60
"""Tokens; enough for the shape above."""


def shaped(schema: Any = SHAPE, **more: Any) -> dict[str, Any]:
    return {"max_tokens": LONG, "output_config": {"format": {"type": "json_schema", "schema": schema}}, **more}


def thinking(**config: Any) -> dict[str, Any]:
    return {"thinking": config, "max_tokens": 2000 if "budget_tokens" in config else 30}


STOPS = [
    Case("one token", {**SAY, "max_tokens": 1}, stop="max_tokens"),
    Case("two tokens", {**SAY, "max_tokens": 2}, stop="max_tokens"),
    Case("no stop sequences", {**SAY, "max_tokens": 30, "stop_sequences": []}),
    Case("a stop sequence that does not come", {**SAY, "max_tokens": 30, "stop_sequences": ["@@@@@@"]}),
    Case("many stop sequences", {**SAY, "stop_sequences": [f"@@{number}" for number in range(100)]}),
    Case("a long stop sequence", {**SAY, "stop_sequences": ["@" * 5000]}),
    Case("a stop sequence with other signs", {**SAY, "stop_sequences": ["\U0001f408", "(?:.*", "\n\n#"]}),
]
SPOKEN = [
    (["garden"], "stone ", "garden"),
    (["den"], "stone gar", "den"),
    (["e gar"], "ston", "e gar"),
    (["lamp", "stone"], "", "stone"),
    (["garden lamp", "garden rose"], "stone ", "garden lamp"),
    (["gardener", "amp"], "stone garden l", "amp"),
]
"""Stop sequences, what is said before, and which one is named. Words, parts of words, and across words."""

SHAPED = [
    Case("an object", shaped(), kinds="text", stop="end_turn"),
    Case("both kinds of version", shaped(), kinds="text", headers=OLD),
    Case(
        "the older spelling", {"max_tokens": LONG, "output_format": shaped()["output_config"]["format"]}, like=shaped()
    ),
    Case(
        "an effort beside it",
        {**shaped(), "output_config": {**shaped()["output_config"], "effort": "low"}},
        like=shaped(),
    ),
    Case("no format", {"output_config": {"format": None}}, like={}),
    Case("nothing configured", {"output_config": {}}, like={}),
]
THOUGHT = [
    Case("thinking left out", {"max_tokens": 30}, kinds="(text)?"),
    Case("thinking off", thinking(type="disabled"), kinds="(text)?"),
    Case("thinking as it likes", thinking(type="adaptive")),
    Case("thinking that is not shown", thinking(type="adaptive", display="omitted")),
    Case("thinking in summary", thinking(type="adaptive", display="summarized"), like=thinking(type="adaptive")),
    Case("a budget as long as the answer", {"max_tokens": 30, "thinking": {"type": "enabled", "budget_tokens": 30}}),
    Case("a budget that the API finds small", {"max_tokens": 30, "thinking": {"type": "enabled", "budget_tokens": 5}}),
    Case("no budget", {"max_tokens": 30, "thinking": {"type": "enabled"}}, like=thinking(type="adaptive")),
    Case("thinking between tools", thinking(type="between_tools"), kinds="(text)?"),
    Case(
        "thinking with a begun answer",
        {**thinking(type="adaptive"), "messages": [*HELLO, {"role": "assistant", "content": "Hello"}]},
        kinds="(text)?",
    ),
]
SAMPLED = [
    Case("the old version's sampling", {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, headers=OLD),
    *(Case(f"{name} in the new version", {name: 1}, headers=NEW) for name in ("temperature", "top_p", "top_k")),
    Case("the greatest temperature", {"temperature": 1, "top_k": 1}, headers=OLD),
    Case("a top_k beyond the vocabulary", {"top_k": 10**6}, headers=OLD),
    Case("a top_p of nothing", {"top_p": 0}, headers=OLD),
    Case("no version at all", {"temperature": 0.0}, headers={"anthropic-version": ""}),
    Case("a version before", {}, headers={"anthropic-version": "2023-01-01"}),
    Case("a version to come", {}, headers={"anthropic-version": "2031-01-01"}),
    Case("betas that nobody knows", {}, headers={"anthropic-beta": "hologram-2031-01-01,prompt-caching-2024-07-31"}),
    Case("a user's name", {"metadata": {"user_id": "a"}}, like={}),
    Case("fields that nobody knows", {"hologram": {"a": [1]}, "zzz": None}, like={}),
]
VALUES: dict[str, Any] = {
    "cache_control": {"type": "ephemeral"},
    "service_tier": "auto",
    "speed": "fast",
    "inference_geo": "us",
    "container": "container_1",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "diagnostics": {"previous_message_id": None},
    "betas": ["x"],
    "user_profile_id": "x",
    "workspace_id": "x",
}
IGNORED_FIELDS = [
    *(Case(f"a request with {name}", {name: VALUES.get(name, {"a": "b"})}, like={}) for name in IGNORED["request"]),
    *(
        Case(f"an output config with {name}", {"output_config": {name: "low"}}, like={})
        for name in IGNORED["output_config"]
    ),
]

REFUSED = [
    Refused("no limit", {"max_tokens": None}, "max_tokens: "),
    Refused("a limit below nothing", {"max_tokens": -1}, "max_tokens: "),
    Refused("a limit with a fraction", {"max_tokens": 1.5}, "max_tokens: "),
    Refused("a stream of nothing", {"max_tokens": 0, "stream": True}, "max_tokens: 0 reads"),
    Refused("a limit in words", {"max_tokens": "ten"}, "max_tokens: "),
    Refused("a limit beyond reason", {"max_tokens": 10**30}, "max_tokens: "),
    Refused("no model", {"model": ""}, "model: "),
    Refused("a number for a model", {"model": 3}, "model: "),
    Refused("a stop sequence of nothing", {"stop_sequences": [""]}, r"stop_sequences\.0: "),
    Refused("a stop sequence of blanks", {"stop_sequences": ["ok", " \n"]}, r"stop_sequences\.1: "),
    Refused("a stop sequence that is no list", {"stop_sequences": "END"}, "stop_sequences: "),
    Refused("a temperature that is too high", {"temperature": 1.5}, "temperature: ", headers=OLD),
    Refused("a temperature below nothing", {"temperature": -0.1}, "temperature: ", headers=OLD),
    Refused("a top_k below nothing", {"top_k": -1}, "top_k: ", headers=OLD),
    Refused("a stream of maybe", {"stream": "yes"}, "stream: "),
    Refused(
        "a budget below nothing", thinking(type="enabled", budget_tokens=-1), r"thinking\.enabled\.budget_tokens: "
    ),
    Refused("an unknown way to think", thinking(type="deep"), "thinking: "),
    Refused("metadata in words", {"metadata": "me"}, "metadata: "),
    Refused("an unknown format", {"output_config": {"format": {"type": "yaml"}}}, r"output_config\.format"),
    Refused(
        "a format without a schema",
        {"output_config": {"format": {"type": "json_schema"}}},
        r"output_config\.format\.schema: ",
    ),
    Refused("a schema of an unknown type", shaped({"type": "hologram"}), r"output_config\.format\.schema: "),
    Refused(
        "a begun answer in a format",
        shaped(messages=[*HELLO, {"role": "assistant", "content": "{"}]),
        r"output_config\.format: ",
    ),
    Refused("a thread", {"thread": {"id": "x"}}, "thread: "),
]


@pytest.mark.parametrize("case", [*STOPS, *THOUGHT, *SAMPLED], ids=str)
def test_an_answer_comes_as_it_was_asked_for(either: Terminal, case: Case) -> None:
    check(either, case)


@pytest.mark.parametrize("case", SHAPED, ids=str)
def test_an_answer_has_the_shape_that_was_asked_for(demo: Terminal, case: Case) -> None:
    check(demo, case)


@pytest.mark.parametrize("case", IGNORED_FIELDS, ids=str)
def test_a_field_without_effect_has_none(demo: Terminal, case: Case) -> None:
    check(demo, case)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_cannot_be_done_is_refused_by_its_place(demo: Terminal, case: Refused) -> None:
    check_refused(demo, case)


@pytest.mark.parametrize(("sequences", "before", "named"), SPOKEN)
def test_a_stop_sequence_ends_the_answer_and_no_part_of_it_shows(
    demo: Terminal, sequences: list[str], before: str, named: str
) -> None:
    body = {**SAY, "max_tokens": 30, "stop_sequences": sequences}
    whole, (streamed, events) = demo.whole(body), demo.streamed(body)
    said = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    for message in (whole, streamed):
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", named)
    assert text_of(whole) == said == before


def test_an_answer_ends_by_itself(demo: Terminal) -> None:
    whole, (streamed, _) = demo.whole({"max_tokens": 100}), demo.streamed({"max_tokens": 100})
    assert whole.stop_reason == streamed.stop_reason == "end_turn"
    assert len(text_of(whole).split()) == 5


def test_an_answer_that_was_begun_may_go_on_with_a_blank(noise: Terminal) -> None:
    """Left out, it would join two words. Noise writes one sooner or later."""
    body = {"messages": [*SAY["messages"], {"role": "assistant", "content": "stone"}], "max_tokens": 2}
    assert any(text_of(noise.whole(body)).startswith(" ") for _ in range(80))
    assert any(text_of(noise.streamed(body)[0]).startswith(" ") for _ in range(80))


def test_no_token_means_that_the_prompt_is_read_for_later(demo: Terminal) -> None:
    body = {"messages": [{"role": "user", "content": "one two three " * 50}]}
    first = demo.whole({**body, "max_tokens": 0})
    assert (first.content, first.usage.output_tokens) == ([], 0)
    assert demo.whole(body).usage.input_tokens == 1 < first.usage.input_tokens


def test_a_second_turn_reads_only_what_is_new(either: Terminal) -> None:
    said: list[Any] = [{"role": "user", "content": "one two three " * 30}]
    first = either.whole({"messages": said, "max_tokens": 5})
    said += [{"role": "assistant", "content": first.content or "a"}, {"role": "user", "content": "four"}]
    second = either.whole({"messages": said, "max_tokens": 5})
    assert (second.usage.cache_read_input_tokens or 0) >= first.usage.input_tokens - 1


@pytest.mark.parametrize("name", ["plain", "beta"])
def test_structured_output_is_parsed_by_the_sdk(demo: Terminal, name: str) -> None:
    at = demo.client.messages if name == "plain" else demo.client.beta.messages
    answer = at.parse(model=demo.model, max_tokens=200, messages=HELLO, output_format=Step)
    assert isinstance(answer.parsed_output, Step)


def test_structured_output_is_what_its_schema_accepts(demo: Terminal) -> None:
    for message in (demo.whole(shaped()), demo.streamed(shaped())[0]):
        jsonschema.validate(json.loads(text_of(message)), SHAPE)


def test_a_model_that_thinks_says_its_thoughts_first(noise: Terminal) -> None:
    """It has learnt nothing, so whether it thinks at all is chance; with a budget it ends."""
    body = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 1100}
    counted = noise.count(body)
    message, events = noise.streamed(body)
    kinds = [event.content_block.type for event in events if event.type == "content_block_start"]
    assert kinds in ([], ["text"], ["thinking"], ["thinking", "text"])
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == counted
