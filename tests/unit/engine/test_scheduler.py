"""The scheduler on a real, tiny model, step by step: what is read, by whom, how often."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from sidecar.conversation import Conversation, Frame, Message, Priority, Sampling, Text
from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.chunking import FEW
from sidecar.engine.memory_costs import Costs
from sidecar.engine.model import Model, load
from sidecar.engine.scheduling import admission, step_plan
from sidecar.engine.scheduling.admission import Room
from sidecar.engine.scheduling.progress import Flow
from sidecar.engine.scheduling.scheduler import Scheduler
from sidecar.engine.scheduling.stream import prepare
from sidecar.frames import Failed, Finished, Generate, Progress, Started, TextDelta
from tests.conftest import DEMO

PLENTY = Room(1 << 40, 1 << 40)


class Engine(Scheduler):
    """A scheduler, and what it said."""

    def __init__(self, model: Model, room: Callable[[], Room] = lambda: PLENTY, cache: int = 1 << 28) -> None:
        self.said: list[Any] = []
        super().__init__(model, 7000, PrefixCache(cache, model.new_cache), self.note, room)

    def note(self, *frames: Frame) -> None:
        self.said += frames

    def ask(self, number: int, words: str, system: str = "", **more: Any) -> None:
        more = {"max_tokens": 4, **more}
        conversation = Conversation(system, (Message("user", (Text(words),)),))
        self.submit(prepare(self.model, Generate(number, conversation, Sampling(0.0), **more), self.context_window))

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            assert not self.idle
            self.step()

    def run(self) -> None:
        self.until(lambda: self.idle)
        assert not self.of(Failed), self.said

    def of(self, kind: type, number: int = 0) -> list[Any]:
        return [frame for frame in self.said if isinstance(frame, kind) and number in (0, frame.id)]

    def text(self, number: int) -> str:
        return "".join(each.text for each in self.of(TextDelta, number))

    @property
    def read(self) -> int:
        """Prompt tokens that went through the model in slices, those of cancelled requests too."""
        total = 0
        for started in self.of(Started):
            last = max((each.tokens for each in self.of(Progress, started.id)), default=started.cached_tokens)
            total += last - started.cached_tokens
        return total


@pytest.fixture(scope="module")
def dense(tiny: Path) -> Model:
    return load(tiny, 1 << 33)


@pytest.fixture(scope="module")
def demo() -> Model:
    """Its caches cannot be cut: what is kept is found again at checkpoints only."""
    return load(DEMO, 1 << 33)


def words(count: int, seed: int = 0) -> str:
    return " ".join(f"word{(index * 7919 + seed) % 997}" for index in range(count))


@pytest.fixture(params=["dense", pytest.param("demo", marks=pytest.mark.full)])
def either(request: pytest.FixtureRequest) -> Model:
    model: Model = request.getfixturevalue(request.param)
    return model


def test_two_identical_prompts_at_once_are_read_once(either: Model) -> None:
    engine = Engine(either)
    for number in (1, 2):
        engine.ask(number, words(850), session=f"s{number}")
    engine.run()
    length = engine.of(Started, 1)[0].prompt_tokens
    assert length > 3000
    assert engine.read == length - 1  # the last token gives the first logits
    assert engine.of(Started, 2)[0].cached_tokens == length - 1
    assert engine.text(1) == engine.text(2)


def test_what_two_prompts_have_in_common_is_read_once_and_the_rest_by_each(dense: Model) -> None:
    engine, alone = Engine(dense), Engine(dense)
    system = words(250)
    asks = {1: words(100, 1), 2: words(60, 2), 3: words(10, 3)}
    for number, asked in asks.items():
        engine.ask(number, asked, system, session=f"s{number}")
    engine.run()
    common = min(started.cached_tokens for started in engine.of(Started) if started.cached_tokens)
    assert common > 1400
    once = sum(each.prompt_tokens - 1 for each in engine.of(Started)) - 2 * common
    assert once - 3 * FEW <= engine.read <= once, "the last few of each may be read by the pass for its first token"
    for number, asked in asks.items():
        alone.prefixes.shed(0)
        alone.ask(number, asked, system)
        alone.run()
        assert alone.text(number) == engine.text(number)


def test_who_is_not_served_any_more_leaves_what_was_read_to_those_that_waited_for_it(dense: Model) -> None:
    engine = Engine(dense)
    engine.ask(1, words(850))
    engine.step()
    engine.ask(2, words(850))
    engine.until(lambda: engine.of(Progress, 1)[-1].tokens >= 2000)
    assert not engine.of(Started, 2)
    engine.cancel(1)
    engine.run()
    [started] = engine.of(Started, 2)
    assert started.cached_tokens == engine.of(Progress, 1)[-1].tokens
    assert engine.read == started.prompt_tokens - 1


def test_a_retry_after_a_cancel_reads_the_rest_alone(dense: Model) -> None:
    engine = Engine(dense)
    engine.ask(1, words(850))
    engine.step()
    length = engine.of(Started, 1)[0].prompt_tokens
    engine.until(lambda: engine.of(Progress, 1)[-1].tokens >= 0.8 * length)
    engine.cancel(1)
    engine.ask(2, words(850))
    engine.run()
    [started] = engine.of(Started, 2)
    assert started.prompt_tokens - started.cached_tokens <= 0.2 * length
    assert engine.read == length - 1


def test_who_reads_for_a_more_urgent_one_is_read_before_others(dense: Model) -> None:
    engine = Engine(dense)
    engine.ask(1, words(400), priority=Priority.SIDE)
    engine.step()
    engine.ask(2, words(300, 5), priority=Priority.SUBAGENT)
    engine.ask(3, words(400), priority=Priority.MAIN)
    engine.run()
    assert engine.of(Finished)[-1].id == 2


def test_a_short_prompt_of_another_session_passes_four_long_ones(dense: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_plan, "ALONE_S", 0.0)  # pieces so short that none of them is nearly read when it comes
    engine = Engine(dense)
    for number in range(1, 5):
        engine.ask(number, words(300, number), session="a")
    engine.step()
    engine.ask(5, "hello", session="b")
    engine.run()
    assert engine.of(Finished)[0].id == 5


def test_nothing_is_read_for_nobody_while_somebody_waits(dense: Model) -> None:
    engine = Engine(dense)
    engine.ask(1, words(200), priority=Priority.PREWARM, max_tokens=0)
    engine.ask(2, words(200, 1), priority=Priority.SIDE)
    engine.run()
    assert [each.id for each in engine.of(Finished)] == [2, 1]


def test_those_that_wait_are_told_their_place_and_how_long(dense: Model) -> None:
    engine = Engine(dense)
    engine.ask(1, words(600), session="a", priority=Priority.SIDE)
    engine.ask(2, "hello", session="a")
    assert [each.priority for each in engine.queue()] == [Priority.MAIN, Priority.SIDE]
    first, second = engine.queue()
    assert first.expected_s == 0.0 < second.expected_s
    engine.run()
    assert engine.queue() == ()


def test_those_that_have_begun_are_seen_with_their_progress_and_speed(dense: Model) -> None:
    engine, flow = Engine(dense), Flow()
    engine.ask(1, words(600), max_tokens=40)
    engine.step()
    assert [(each.id, each.output_tokens, each.speed) for each in flow.look(engine.begun(), 0.0)] == [(1, 0, 0.0)]
    engine.step()
    [reading] = flow.look(engine.begun(), 2.0)
    first, second = (each.tokens for each in engine.of(Progress)[:2])
    assert (reading.read_tokens, reading.speed) == (second, round((second - first) / 2, 1))
    assert reading.read_tokens < reading.prompt_tokens == engine.of(Started)[0].prompt_tokens
    engine.until(lambda: engine.output_tokens >= 3)
    assert [each.speed for each in flow.look(engine.begun(), 3.0)] == [0.0]  # of writing nothing is known yet
    before = engine.output_tokens
    engine.until(lambda: engine.output_tokens >= 9)
    [writing] = flow.look(engine.begun(), 4.0)
    assert (writing.output_tokens, writing.read_tokens) == (engine.output_tokens, writing.prompt_tokens)
    assert writing.speed == engine.output_tokens - before
    engine.run()
    assert flow.look(engine.begun(), 5.0) == ()
    assert not flow._seen


def test_who_writes_is_not_said_to_read_although_the_first_pass_read_the_rest(dense: Model) -> None:
    engine = Engine(dense)
    engine.ask(1, words(600))
    engine.run()
    engine.ask(2, words(600) + " and more", max_tokens=40)
    before = engine.output_tokens
    engine.until(lambda: engine.output_tokens > before)
    assert 0 < engine.of(Started, 2)[0].prompt_tokens - 1 - engine.of(Started, 2)[0].cached_tokens <= FEW
    [writing] = Flow().look(engine.begun(), 0.0)
    assert writing.read_tokens == writing.prompt_tokens


def test_a_request_that_waits_for_memory_lets_those_pass_that_leave_room_for_it(
    dense: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is counted in tokens here, of which 18,000 fit: the large one fits beside one small one, but not beside
    two, nor beside the four that run (rows that share a pass are as long as the longest)."""
    monkeypatch.setattr(admission, "MEASURED", 1 << 30)
    engine = Engine(dense, cache=0)
    engine.memory.costs = Costs(token := 10_000)
    budget = mx.get_active_memory() + 18_000 * token
    engine.memory._room = lambda: Room(budget - mx.get_active_memory(), budget)
    for number in range(1, 5):
        engine.ask(number, words(170, number), max_tokens=40)
    engine.until(lambda: len(engine.of(Started)) == 4)
    engine.ask(5, words(850))
    for number in (6, 7):
        engine.ask(number, f"small {number}", max_tokens=400, priority=Priority.SIDE)
    engine.run()
    assert [each.id for each in engine.of(Started)][4:] == [6, 5, 7]
    assert {each.id for each in engine.of(Finished)} == set(range(1, 8))
