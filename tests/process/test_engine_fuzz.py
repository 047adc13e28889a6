"""Whatever a schema or a request is like, it can at worst fail itself: the engine answers, and stays.

20,000 of each with `bin/test --full`, 60 without. CLAUDE_LOCAL_TEST_SEED begins elsewhere, CLAUDE_LOCAL_TEST_FUZZ says
how many.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator

import msgspec
import pytest

from sidecar import conversation as neutral
from sidecar import frames
from sidecar.anthropic import request as api
from sidecar.anthropic.content import tools
from sidecar.errors import RequestError
from tests.support import mutations
from tests.support.engine_process import EngineProcess, said
from tests.support.models import make_tiny

COUNT = int(os.environ.get("CLAUDE_LOCAL_TEST_FUZZ", 20_000 if os.environ.get("CLAUDE_LOCAL_TEST_FULL") else 60))
SEED = int(os.environ.get("CLAUDE_LOCAL_TEST_SEED", "0"))
TOGETHER = 16
"""Requests under way at once."""


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """A model that has learnt nothing, and writes its calls in its template's own format."""
    engine = EngineProcess(make_tiny(tmp_path_factory.mktemp("noise"), "qwen"))
    assert isinstance(engine.first, frames.Ready)
    yield engine
    engine.close()


class Crowd:
    """Keeps some requests under way, and counts what became of all."""

    def __init__(self, engine: EngineProcess) -> None:
        self.became: Counter[str] = Counter()
        self._engine = engine
        self._open: dict[int, str] = {}

    def ask(self, about: str, request: frames.Generate | frames.Count) -> None:
        self._engine._last_id += 1
        number = self._engine._last_id
        try:
            self._engine.send(msgspec.structs.replace(request, id=number))
        except (OverflowError, UnicodeEncodeError, RecursionError):  # what the sidecar makes a 400
            self.became["no frame"] += 1
            return
        self._open[number] = about
        self.wait(TOGETHER)

    def wait(self, left: int = 0) -> None:
        while len(self._open) > left:
            try:
                frame = self._engine.receive()
            except (EOFError, OSError) as error:
                raise AssertionError(f"the engine is gone ({error!r}) over one of {self._open}") from None
            if isinstance(frame, frames.Failed):
                unexpected = "cannot be prepared" in frame.message
                self.became[frame.message.partition(";")[0] if unexpected else frame.kind] += 1
            elif isinstance(frame, frames.Finished | frames.Counted):
                self.became["answered"] += 1
            else:
                continue
            self._open.pop(frame.id, None)


def test_no_schema_ends_the_engine(noise: EngineProcess, figure: Callable[[str], None]) -> None:
    crowd = Crowd(noise)
    for number in range(SEED, SEED + COUNT):
        dice = random.Random(number)
        schema = mutations.schema(dice)
        conversation = said("go")
        forced: tuple[str, ...] = ()
        if number % 4:
            tool = neutral.Tool("use", "", schema, listed=number % 2 == 0)
            conversation = msgspec.structs.replace(conversation, tools=(tool,))
            forced = ("use",)
        else:
            conversation = msgspec.structs.replace(conversation, answer_schema=schema)
        sampling = neutral.Sampling(temperature=1.0)
        crowd.ask(
            f"schema {number}", frames.Generate(0, conversation, sampling, dice.choice([1, 8, 40]), forced=forced)
        )
    crowd.wait()
    figure(f"{COUNT:,} schemas: {dict(crowd.became)}; the engine has ended {noise.process.poll() is not None:d} times")
    assert noise.process.poll() is None
    assert crowd.became["answered"] > COUNT / 3


def test_no_request_ends_the_engine(noise: EngineProcess, figure: Callable[[str], None]) -> None:
    crowd, refused = Crowd(noise), 0
    for number in range(SEED, SEED + COUNT):
        dice = random.Random(number)
        try:
            request = read(mutations.body(dice))
        except RequestError:
            refused += 1
            continue
        crowd.ask(f"body {number}", request)
        if number % 8 == 0:
            crowd.ask(f"body {number}, counted", frames.Count(0, request.conversation))
    crowd.wait()
    figure(f"{COUNT:,} requests: {refused} refused by the sidecar, of the others {dict(crowd.became)}")
    assert noise.process.poll() is None
    assert crowd.became["answered"] > COUNT / 4


def read(body: dict[str, object]) -> frames.Generate:
    """As the sidecar reads it."""
    parsed = api.parse_messages(json.dumps(body).encode())
    return frames.Generate(
        id=0,
        conversation=api.conversation(parsed),
        sampling=api.sampling(parsed),
        max_tokens=min(parsed.max_tokens, 8),
        stop=api.stop_sequences(parsed),
        forced=tools.forced(parsed),
        parallel=api.parallel_calls(parsed),
        thinking_budget=api.thinking_budget(parsed),
    )


def test_what_a_request_cannot_be_prepared_for_is_told_to_it_alone(noise: EngineProcess) -> None:
    """Errors that no guard knows by name, in the middle of others' answers."""
    other = noise.submit(said("hello"), max_tokens=300)
    numbers = [
        noise.submit(msgspec.structs.replace(said("go"), tools=(neutral.Tool("use", "", schema),)), forced=("use",))
        for schema in (
            {"required": None},
            {"properties": {"x": {"required": True, "properties": {}}}},
            {"enum": {"a": 1}},
        )
    ]
    noise._last_id += 1
    unreadable = msgspec.msgpack.encode({"type": "Generate", "id": noise._last_id, "conversation": None})
    noise._socket.sendall(len(unreadable).to_bytes(4, "big") + unreadable)
    numbers.append(noise._last_id)
    events = noise.answers(other, *numbers)
    assert isinstance(events[other][-1], frames.Finished)
    assert all(isinstance(events[number][-1], frames.Finished | frames.Failed) for number in numbers)
