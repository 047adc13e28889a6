"""What status says of the requests that the engine has, from its heartbeat."""

from sidecar.conversation import Priority
from sidecar.frames import Live, Queued
from sidecar.server.status import queue, streams


def test_streams_belong_to_terminals_and_those_that_have_ended_are_left_out() -> None:
    begun = [
        Live(7, Priority.MAIN, 900, 300, 0, 41.5),
        Live(8, Priority.SUBAGENT, 50, 50, 12, 9.0),
        Live(9, Priority.MAIN, 10, 10, 3, 9.0),
        Live(-1, Priority.PREWARM, 100, 50, 0, 0.0),
    ]
    shown = streams(begun, {7: 4711, 8: 4712})
    assert [(each["pid"], each["doing"], each["tokens_per_s"]) for each in shown] == [
        (4711, "reading", 41.5),
        (4712, "writing", 9.0),
        (None, "reading", 0.0),
    ]
    assert (shown[1]["priority"], shown[1]["read_tokens"], shown[1]["output_tokens"]) == ("subagent", 50, 12)


def test_who_waits_has_a_place_and_a_terminal() -> None:
    waiting = [Queued(Priority.MAIN, 900, 3.04, 61.0, 7), Queued(Priority.SIDE, 10, 1.0, 62.0, 8)]
    assert queue(waiting, {7: 4711}) == [
        {"position": 1, "pid": 4711, "priority": "main", "prompt_tokens": 900, "waited_s": 3.0, "expected_s": 61.0},
        {"position": 2, "pid": None, "priority": "side", "prompt_tokens": 10, "waited_s": 1.0, "expected_s": 62.0},
    ]
