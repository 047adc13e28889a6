"""A long conversation on several template families: every turn is accepted, and reads only what is new in it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.client.random_model import RandomModel, random_model
from tests.conftest import FULL

TURNS = 20 if FULL else 10
SYSTEM = "You are a careful assistant that works in a folder of files. " * 150
SCHEMA: Any = {
    "type": "object",
    "properties": {"path": {"type": "string", "maxLength": 12}, "mode": {"enum": ["r", "w"]}},
    "required": ["path"],
}
TOOLS: Any = [{"name": name, "description": "Does it.", "input_schema": SCHEMA} for name in ("read", "write")]


@pytest.fixture(
    scope="module", params=["qwen", *(pytest.param(name, marks=pytest.mark.full) for name in ("phi3", "llama"))]
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RandomModel]:
    """A strict "system first" rule and dropped thoughts; no tools in the template; headers and trimmed contents."""
    with random_model(tmp_path_factory.mktemp("model"), request.param, max_position_embeddings=32768) as model:
        yield model


def answer(model: RandomModel, messages: Any, turn: int, thinking: Any) -> Any:
    """Words in every third turn, else a call or two; streamed every other time, as clients mix them."""
    more: Any = {"system": SYSTEM, "tools": TOOLS, "max_tokens": 40, "thinking": thinking}
    if turn % 3:
        alone = turn % 6 != 1
        more |= {"tool_choice": {"type": "any", "disable_parallel_tool_use": alone}, "max_tokens": 4000}
    if turn % 2:
        return model.ask(messages, **more)
    with model.stream(messages, **more) as stream:
        return stream.get_final_message()


def reply_to(message: Any, turn: int) -> list[Any]:
    """What the client says next: results of all calls, a reminder in the middle, and the user's words now and then."""
    calls = [block for block in message.content if block.type == "tool_use"]
    content: list[Any] = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"{turn} lines", "is_error": turn % 5 == 0}
        for call in calls
    ]
    if not calls or turn % 4 == 0:
        content.append({"type": "text", "text": f"And now number {turn}."})
    reminder = [{"role": "system", "content": f"Reminder {turn}."}] if turn % 6 == 5 else []
    return [{"role": "user", "content": content}, *reminder]


@pytest.mark.parametrize(
    "thinking",
    [{"type": "disabled"}, pytest.param({"type": "adaptive", "display": "omitted"}, marks=pytest.mark.full)],
    ids=["", "thinking"],
)
def test_turns_read_only_what_is_new(model: RandomModel, thinking: Any) -> None:
    messages: list[Any] = [{"role": "user", "content": f"Begin, {thinking['type']}."}]
    shares, known, cut, missed, results = [], 0, False, 0, 0
    for turn in range(TURNS):
        message = answer(model, messages, turn, thinking)
        usage = message.usage
        read = usage.cache_read_input_tokens + usage.input_tokens
        if usage.cache_read_input_tokens < known - 2:
            assert cut, "something is read again"
            missed += 1  # noise had just begun a call, which a whole answer leaves out
        known, cut = read + usage.output_tokens, message.stop_reason == "max_tokens"
        if turn and results <= 2:  # noise may call a tool ten times, and then much is new
            shares.append(usage.cache_read_input_tokens / read)
        results = sum(block.type == "tool_use" for block in message.content)
        content = [block.model_dump(exclude_none=True) for block in message.content]
        messages += [{"role": "assistant", "content": content or "(nothing)"}, *reply_to(message, turn)]
    assert len(shares) > TURNS // 2
    assert min(shares) >= 0.95, shares
    assert missed < TURNS // 4
