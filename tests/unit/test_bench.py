"""The benches' own arithmetic: a bench that counts wrongly is worse than none."""

import json
import re
from pathlib import Path

import pytest

from tests.bench import session
from tests.bench.client import Answer, Ask, Endpoint, ServerError, encode, events, read, window
from tests.bench.plot import draw
from tests.bench.prompt import agent
from tests.bench.results import median, rotated

ROOT = Path(__file__).parents[2]
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(text: str) -> bytes:
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


def test_an_event_counts_from_the_moment_when_it_is_complete() -> None:
    first, second = chunk('data: {"n": 1}\n'), chunk('\ndata: {"n": 2}\n\n')
    data = [(1.0, HEAD + first[:9]), (2.0, first[9:]), (3.0, second), (4.0, b"0\r\n\r\n")]
    assert list(events(data, ended=True)) == [(2.0, {"n": 1}), (3.0, {"n": 2})]


def test_an_answer_that_breaks_off_is_an_error_and_one_that_goes_on_is_not() -> None:
    data = [(1.0, HEAD + chunk('data: {"n": 1}\n\n'))]
    assert list(events(data, ended=False)) == [(1.0, {"n": 1})]
    with pytest.raises(ServerError, match="broken"):
        list(events(data, ended=True))


def test_a_refusal_says_what_the_server_said() -> None:
    with pytest.raises(ServerError, match="HTTP 503: busy"):
        list(events([(1.0, b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy")], ended=True))


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, ("a", 0)),
        ({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 7}}, ("", 7)),
        ({"choices": [{"delta": {"role": "assistant", "content": "b"}}]}, ("b", 0)),
        ({"choices": [], "usage": {"completion_tokens": 9}}, ("", 9)),
    ],
)
def test_both_apis_are_read(event: dict[str, object], expected: tuple[str, int]) -> None:
    assert read(event) == expected


def test_speed_is_counted_while_all_streams_speak() -> None:
    early = Answer(tuple(float(second) for second in range(1, 11)), ("ab",) * 10, 10, 11.0, 0.0)  # 1 s to 10 s
    late = Answer(
        tuple(float(second) for second in range(1, 11)), ("ab",) * 10, 20, 11.0, 5.0
    )  # 6 s to 15 s, two at a time
    assert window([early, late]) == pytest.approx((4 * 1 + 4 * 2) / 4)


def test_the_same_prompt_is_spelled_for_both_apis() -> None:
    turn = agent("x", 1000).turn("here", "What is this?", "That.", "Why?")
    tools = {}
    for api in ("messages", "completions"):
        body = json.loads(encode(Endpoint(1, "t", "m", api), turn).partition(b"\r\n\r\n")[2])  # type: ignore[arg-type]
        tools[api] = [tool.get("function", tool)["name"] for tool in body["tools"]]
        assert body["messages"][-1] == {"role": "user", "content": "Why?"}
    assert tools["messages"] == tools["completions"]


def test_agents_of_two_seeds_share_nothing_and_folders_share_the_agent() -> None:
    one, two = agent("one", 1000), agent("two", 1000)
    assert one.system[:3] != two.system[:3]
    here, there = one.turn("here", "Hi."), one.turn("there", "Hi.")
    assert (here.system, here.tools) == (there.system, there.tools)
    assert here.messages != there.messages


def test_errors_are_no_figures() -> None:
    assert median(["error", 3.0, 1.0, 2.0]) == 2.0
    assert median(["error"]) is None
    assert [rotated(["a", "b", "c"], by)[0] for by in (0, 1, 2, 3)] == ["a", "b", "c", "a"]


def test_the_plot_shows_an_error_as_one() -> None:
    figures = dict.fromkeys(("cold", "second", "terminal", "folder", "retry"), 1.0)
    drawn = draw({"key": {"tokens": 3000}, "rounds": [{"ours": {**figures, "restart": "error"}}]})
    assert drawn.count("1.00</text>") == 5
    assert ">error</text>" in drawn


def test_an_ask_without_tools_sends_none() -> None:
    assert b"tools" not in encode(Endpoint(1, "t", "m"), Ask(({"role": "user", "content": "Hi."},), 4))


def test_the_recorded_session_is_small_and_asks_no_other_server() -> None:
    """README shows it, where it may load nothing."""
    drawn = session.PLACE.read_text("utf-8")
    assert len(drawn) < 60_000
    assert re.findall(r"https?://[^\s\"<]+", drawn) == ["http://www.w3.org/2000/svg"]
    assert f"({session.PLACE.relative_to(ROOT)})" in (ROOT / "README.md").read_text("utf-8")
