"""Frames survive any cut of the byte stream."""

import gc

import msgspec
import pytest

from sidecar import conversation, frames, packing

EXAMPLES = [
    frames.Cancel(3),
    frames.Generate(
        1,
        conversation.Conversation(
            "s",
            (
                conversation.Message("user", (conversation.Text("hé"),)),
                conversation.Message("assistant", (conversation.Call("c", "Read", {"path": "x", "n": [1, None]}),)),
                conversation.Message("user", (conversation.Result("c", "r", True),)),
            ),
            (conversation.Tool("Read", "", {"type": "object"}),),
        ),
        conversation.Sampling(0.5, 0.9, 40),
        100,
        ("stop",),
        priority=conversation.Priority.SIDE,
    ),
    frames.Stop(),
]


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_frames_arrive_whole_whatever_the_pieces(size: int) -> None:
    data = b"".join(map(frames.encode, EXAMPLES))
    decoder = frames.Decoder(frames.ToEngine)
    seen = [frame for start in range(0, len(data), size) for frame in decoder.feed(data[start : start + size])]
    assert seen == EXAMPLES


@pytest.mark.parametrize(
    "number", [-(1 << 63) - 1, -(1 << 63), (1 << 64) - 1, 1 << 64, 101430401067733731908, 10**4000]
)
def test_an_integer_of_any_size_arrives_digit_for_digit(number: int) -> None:
    """A client's history holds what another model wrote, and a schema what its author liked."""
    call = conversation.Call("c", "t", {"id": number, "more": [{"id": number}, True, None, 0.5, "1"]})
    tool = conversation.Tool("t", "", {"properties": {"id": {"maximum": number}}})
    sent = frames.Count(1, conversation.Conversation("", (conversation.Message("assistant", (call,)),), (tool,)))
    assert [*frames.Decoder(frames.ToEngine).feed(frames.encode(sent))] == [sent]


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\x01\xc1", frames.encode(frames.Counted(1, 2))])
def test_what_is_not_a_frame_of_this_direction_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(frames.Decoder(frames.ToEngine).feed(data))


def test_a_request_that_cannot_be_read_is_known_by_its_number_and_the_next_frame_is_read() -> None:
    def framed(body: object) -> bytes:
        data = msgspec.msgpack.encode(body)
        return len(data).to_bytes(4, "big") + data

    decoder = frames.Decoder(frames.ToEngine)
    broken = framed({"type": "Generate", "id": 7, "conversation": [1, {"a": None}]})
    with pytest.raises(frames.BadFrame) as caught:
        [*decoder.feed(broken + frames.encode(frames.Cancel(7)))]
    assert caught.value.request == 7
    assert [*decoder.feed(b"")] == [frames.Cancel(7)]
    for other in ({"type": "Load", "id": 7}, {"type": "Nothing"}, [1], 3):
        with pytest.raises(frames.BadFrame) as caught:
            [*decoder.feed(framed(other))]
        assert caught.value.request == 0


def test_a_large_frame_is_decoded_undisturbed_and_the_collector_goes_on_after_it() -> None:
    assert gc.isenabled()
    large = frames.Count(1, conversation.Conversation("x" * packing.LARGE, ()))
    with packing.undisturbed(packing.LARGE):
        assert not gc.isenabled()
    assert [*frames.Decoder(frames.ToEngine).feed(frames.encode(large))] == [large]
    assert gc.isenabled()
