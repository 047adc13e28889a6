"""What a request is told over which its engine has died, and whether it was that request's doing."""

from signal import SIGKILL, SIGSEGV
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.errors import Died, Unavailable
from sidecar.frames import Heartbeat
from sidecar.supervisor.process import SLACK, STEP_S, Process

PREPARING, RUNNING = 1, 9


async def dead(status: int, hung: str = "", preparing: int = 1, running: int = 0) -> Any:
    """A process that has ended while it prepared some requests, 1 and on, and worked on others."""

    async def wait() -> int:
        return status

    model: Any = SimpleNamespace(name="m")
    process: Any = SimpleNamespace(pid=1, returncode=status, wait=wait)
    made: Any = Process(model, process, None)  # type: ignore[arg-type]  # nothing is sent or received
    made._unprepared = set(range(1, preparing + 1))
    made._requests = {
        number: SimpleNamespace(close=lambda: None) for number in [*made._unprepared, *range(9, 9 + running)]
    }
    made._hung = hung
    made._end()
    return made


@pytest.mark.parametrize(
    ("death", "guilt", "again"),
    [
        ({"status": -SIGSEGV}, 1.0, True),  # it is refused when it is asked again
        ({"status": 70}, 1.0, True),
        ({"status": -SIGSEGV, "preparing": 4}, 0.25, True),
        ({"status": -SIGSEGV, "running": 1}, 0.4, True),  # it may have been the other
        ({"status": -SIGKILL}, 0.4, True),  # it may have been somebody outside
        ({"status": -SIGKILL, "hung": "spinning"}, 1.0, False),
        ({"status": -SIGKILL, "hung": "spinning", "running": 3}, 1.0, False),
        ({"status": -SIGKILL, "hung": "spinning", "preparing": 2}, 0.5, False),
        ({"status": -SIGKILL, "hung": "silent"}, 0.4, True),  # stopped, or without memory to run in
        ({"status": -SIGKILL, "hung": "slow", "running": 1}, 0.0, True),
    ],
)
async def test_a_request_that_was_being_prepared(death: dict[str, Any], guilt: float, again: bool) -> None:
    process = await dead(**death)
    error = await process.obituary(PREPARING)
    assert isinstance(error, Died) and "the engine" in str(error)
    assert (error.guilt, error.again) == (guilt, again)


@pytest.mark.parametrize(("hung", "again"), [("", True), ("spinning", True), ("silent", True), ("slow", False)])
async def test_a_request_whose_preparation_was_over_is_not_blamed_for_another(hung: str, again: bool) -> None:
    """But the step that did not end may have been its own."""
    error = await (await dead(-SIGKILL, hung, running=1)).obituary(RUNNING)
    assert isinstance(error, Died)
    assert (error.guilt, error.again) == (0.0, again)


def beat(step_s: float, expected_s: float) -> Heartbeat:
    return Heartbeat(step_s, 1, 0, 0, 0, 0, expected_s=expected_s)


@pytest.mark.parametrize(
    ("step_s", "expected_s", "stuck"),
    [(10, 0.5, False), (20, 0.5, True), (20, 12.0, False), (25, 12.0, True), (100, 60.0, False), (130, 60.0, True)],
)
async def test_a_step_may_take_longer_where_the_machine_is_slow(step_s: float, expected_s: float, stuck: bool) -> None:
    process: Any = Process(SimpleNamespace(name="m"), SimpleNamespace(pid=1), None)  # type: ignore[arg-type]
    process.heartbeat = beat(step_s, expected_s)
    assert process.stuck is stuck
    assert process._step_limit() == max(STEP_S, SLACK * expected_s)


async def test_what_the_watchdog_ended_is_named_with_what_is_usual() -> None:
    process = await dead(-SIGKILL, "slow", running=1)
    process.heartbeat = beat(130.0, 30.2)
    error = await process.obituary(RUNNING)
    assert str(error) == (
        "the engine was stuck in one step of m for 130 s, where about 30 s are usual, and has been ended; "
        "it starts again by itself"
    )


async def test_who_was_given_up_for_want_of_memory_is_told_so() -> None:
    process = await dead(-SIGKILL)
    process.epitaph = "memory ran out"
    error = await process.obituary(PREPARING)
    assert type(error) is Unavailable and str(error).startswith("memory ran out")
