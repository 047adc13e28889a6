"""What streams say is put together, but never reordered, lost or held back for long."""

from hypothesis import given
from hypothesis import strategies as st

from sidecar.conversation import Frame
from sidecar.engine.scheduling import output_buffer
from sidecar.engine.scheduling.output_buffer import Outbox
from sidecar.frames import Finished, TextDelta, ThinkingDelta, ThinkingEnd, ToolArguments, ToolStart


def written(*steps: Frame | bool) -> list[list[Frame]]:
    """The writes that follow from frames, and from flushes between them (True: of all there is)."""
    writes: list[list[Frame]] = []
    box = Outbox(lambda *frames: writes.append([*frames]))
    for step in steps:
        if isinstance(step, bool):
            box.flush(*[] if step else [0.0])
        else:
            box.add(step.id, [step])  # type: ignore[attr-defined]
    box.flush()
    return writes


def test_words_of_one_stream_become_one_frame_whatever_others_say_in_between() -> None:
    said = [TextDelta(1, "a"), TextDelta(2, "x"), TextDelta(1, "b"), TextDelta(2, "y")]
    assert written(*said) == [[TextDelta(1, "ab"), TextDelta(2, "xy")]]


def test_what_differs_in_kind_stays_apart_and_in_order() -> None:
    kinds = [
        ThinkingDelta(1, "hm"),
        ThinkingEnd(1, "s"),
        TextDelta(1, "a"),
        ToolStart(1, "Read"),
        ToolArguments(1, '{"'),
        ToolArguments(1, 'a":1}'),
        ToolStart(1, "Read"),
        ToolArguments(1, "{}"),
        Finished(1, "tool", 1, 0, 5),
    ]
    joined = [*kinds[:4], ToolArguments(1, '{"a":1}'), *kinds[6:]]
    assert written(*kinds) == [joined]


def test_words_wait_a_moment_for_more_and_no_longer(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    clock = [100.0]
    monkeypatch.setattr(output_buffer.time, "monotonic", lambda: clock[0])
    writes: list[tuple[Frame, ...]] = []
    box = Outbox(lambda *frames: writes.append(frames))
    for number in range(10):
        box.add(1, [TextDelta(1, str(number))])
        box.flush(0.015)
        clock[0] += 0.015
    assert writes == [(TextDelta(1, text),) for text in ("0", "123", "456", "789")]
    for text in "ab":  # nor does what comes more slowly wait for what comes too late
        clock[0] += 0.035
        box.add(1, [TextDelta(1, text)])
        box.flush(0.035)
    assert writes[4:] == [(TextDelta(1, "a"),), (TextDelta(1, "b"),)]
    box.flush()
    assert len(writes) == 6, "there is nothing left to write"


@given(st.lists(st.one_of(st.booleans(), st.builds(TextDelta, st.integers(1, 3), st.text(max_size=3)))))
def test_every_stream_gets_all_its_words_in_order(steps: list) -> None:
    frames = [frame for write in written(*steps) for frame in write]
    for stream in (1, 2, 3):
        said = "".join(step.text for step in steps if isinstance(step, TextDelta) and step.id == stream)
        assert "".join(frame.text for frame in frames if frame.id == stream) == said


def test_what_nobody_listens_to_any_more_is_not_sent() -> None:
    writes: list[tuple[Frame, ...]] = []
    box = Outbox(lambda *frames: writes.append(frames))
    for stream, text in ((1, "a"), (2, "x"), (1, "b"), (3, "k")):
        box.add(stream, [TextDelta(stream, text)])
    box.drop(1)
    box.add(3, [TextDelta(3, "l")])
    box.flush()
    assert writes == [(TextDelta(2, "x"), TextDelta(3, "kl"))]
