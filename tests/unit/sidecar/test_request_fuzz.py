"""No body makes anything but a conversation or a 400 that says what is wrong."""

import os
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar import frames
from sidecar.anthropic import request as api
from sidecar.errors import InvalidRequest
from tests.support.strategies import bodies, encoded, spoil

FULL = bool(os.environ.get("CLAUDE_LOCAL_TEST_FULL"))
settings.register_profile(
    "fuzz", deadline=None, database=None, derandomize=not FULL, suppress_health_check=[*HealthCheck]
)
fuzz = settings(settings.get_profile("fuzz"), max_examples=5_000 if FULL else 400)


def read(body: bytes) -> bool:
    """All that is done with a body before the engine has it; whether it is a request."""
    try:
        request = api.parse_messages(body)
        conversation = api.conversation(request)
        todo = frames.Generate(
            id=1,
            conversation=conversation,
            sampling=api.sampling(request),
            max_tokens=request.max_tokens,
            stop=api.stop_sequences(request),
            forced=api.tools.forced(request),
            parallel=api.parallel_calls(request),
            thinking_budget=api.thinking_budget(request),
        )
        api.shows_thinking(request)
        api.tools.left_out(request)
        assert conversation.messages[0].role == "user"
    except InvalidRequest as error:
        assert str(error)
        return False
    frame = frames.encode(todo)
    [decoded] = frames.Decoder(frames.ToEngine).feed(frame)
    assert decoded.conversation.messages == conversation.messages
    return True


def read_count(body: bytes) -> None:
    try:
        api.conversation(api.parse_count(body))
    except InvalidRequest as error:
        assert str(error)


@fuzz
@given(bodies())
def test_a_body_that_is_nearly_right_is_read_or_refused(body: dict[str, object]) -> None:
    read(encoded(body))
    read_count(encoded(body))


@fuzz
@given(bodies(), st.integers())
def test_a_body_that_was_spoiled_is_read_or_refused(body: dict[str, object], seed: int) -> None:
    spoiled = spoil(encoded(body), random.Random(seed))
    read(spoiled)
    read_count(spoiled)


@fuzz
@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(body: bytes) -> None:
    read(body)
    read_count(body)


def test_a_good_part_of_the_bodies_is_read() -> None:
    """Or the tests above would only ever see the first check fail."""
    seen: list[bool] = []

    @settings(settings.get_profile("fuzz"), max_examples=300, derandomize=True)
    @given(bodies())
    def look(body: dict[str, object]) -> None:
        seen.append(read(encoded(body)))

    look()
    assert sum(seen) > len(seen) / 5
