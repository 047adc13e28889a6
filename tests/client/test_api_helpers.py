"""What the official SDK builds on the API: tool runner, beta namespace, asynchronous clients, parsed streams."""

from typing import Any, Literal

import anthropic
import pydantic
import pytest
from anthropic import beta_tool

from tests.client.api import HELLO, LIMIT, Terminal, text_of

RUN_LS: Any = [{"role": "user", "content": "run ls"}]


class Step(pydantic.BaseModel):
    way: Literal["up", "down"]
    up: bool


@beta_tool
def read_file(path: str) -> str:
    """Read a file."""
    return f"nothing in {path}"


@beta_tool
def Bash(command: str) -> str:
    """Run a command."""
    return "stone garden lamp" if command == "ls" else "what?"


@pytest.mark.parametrize("stream", [False, True])
def test_the_tool_runner_runs_its_tools_until_the_answer(demo: Terminal, stream: bool) -> None:
    runner = demo.client.beta.messages.tool_runner(
        model=demo.model, max_tokens=100, tools=[read_file, Bash], messages=RUN_LS, stream=stream
    )
    messages = [turn.get_final_message() if stream else turn for turn in runner]  # type: ignore[union-attr]
    assert [message.stop_reason for message in messages] == ["tool_use", "end_turn"]


def test_the_beta_namespace_is_the_same_api(demo: Terminal) -> None:
    beta = demo.client.beta.messages
    asked: Any = {"model": demo.model, "messages": HELLO, "betas": ["context-1m-2025-08-07", "nobody-knows-this"]}
    answer = beta.create(max_tokens=100, **asked)
    assert answer.content[0].text == text_of(demo.whole({"max_tokens": 100}))  # type: ignore[union-attr]
    with beta.stream(max_tokens=100, **asked) as stream:
        assert stream.get_final_message().content[0].text == answer.content[0].text  # type: ignore[union-attr]
    assert beta.count_tokens(**asked).input_tokens == demo.count({})
    assert next(model.id for model in demo.client.beta.models.list()) == "demo"


def test_a_stream_is_parsed_as_it_comes(demo: Terminal) -> None:
    with demo.client.messages.stream(model=demo.model, max_tokens=200, messages=HELLO, output_format=Step) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Step)


def test_the_raw_events_of_a_stream_can_be_had(demo: Terminal) -> None:
    events = demo.client.messages.create(model=demo.model, max_tokens=100, messages=HELLO, stream=True)
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"


def test_a_model_that_the_client_has_built_in_is_the_terminals_own(demo: Terminal) -> None:
    for name in ("claude-haiku-4-5", "claude-opus-4-1-20250805"):
        assert demo.whole({"model": name, "max_tokens": 100}).model == name
        assert demo.count({"model": name}) == demo.count({})


async def test_an_asynchronous_client_is_served(demo: Terminal) -> None:
    http_client = anthropic.DefaultAsyncHttpxClient(trust_env=False)
    async with anthropic.AsyncAnthropic(
        base_url=f"http://127.0.0.1:{demo.session.port}",
        auth_token=demo.session.token,
        http_client=http_client,
        max_retries=0,
        timeout=LIMIT,
    ) as client:
        client.api_key = None
        answer = await client.messages.create(model=demo.model, max_tokens=100, messages=HELLO)
        async with client.messages.stream(model=demo.model, max_tokens=100, messages=HELLO) as stream:
            pieces = [piece async for piece in stream.text_stream]
    assert "".join(pieces) == text_of(answer)
