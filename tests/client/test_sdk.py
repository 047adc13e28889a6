"""The official SDK, curl and a bare socket as clients of the port that claude-local gives a command."""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.support.home import LIMIT, MODEL, Home, Machine
from tests.support.place import Session

READ: Any = {
    "name": "read_file",
    "description": "Read a file",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}
RUN: Any = {
    "name": "Bash",
    "description": "Run a command",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}
HELLO: Any = [{"role": "user", "content": "Hello in 5 words"}]


@pytest.fixture(scope="module")
def terminal(shared: Machine) -> Iterator[Session]:
    """A command that stays, with its port and token; the tests of this file are its children, as it were."""
    home = Home("terminal", shared)
    yield Session(home)  # type: ignore[arg-type]  # it needs no more of a place than `start`
    home.close()


@pytest.fixture
def client(terminal: Session) -> Iterator[anthropic.Anthropic]:
    with make_client(terminal) as client:
        yield client


def make_client(terminal: Session, **changes: Any) -> anthropic.Anthropic:
    """The SDK pointed at a terminal's port, blind to the developer's proxies and keys."""
    address = f"http://127.0.0.1:{terminal.port}"
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    options = {"auth_token": terminal.token, "max_retries": 0, "timeout": LIMIT, **changes}
    client = anthropic.Anthropic(base_url=address, http_client=http_client, **options)
    client.api_key = None  # what the developer's environment may have put there
    return client


def ask(client: anthropic.Anthropic, messages: Any = HELLO, max_tokens: int = 200, **more: Any) -> Any:
    return client.messages.create(model=MODEL, max_tokens=max_tokens, messages=messages, **more)


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


SCRIPT = """
import os, anthropic
with anthropic.Anthropic() as client:
    asked = {
        "model": os.environ["ANTHROPIC_MODEL"], "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hello in 5 words"}],
    }
    print(client.messages.create(**asked).content[0].text)
    with client.messages.stream(**asked) as stream:
        print("".join(stream.text_stream))
"""


def test_a_script_needs_no_setting_at_all(home: Home) -> None:
    """`claude-local python script.py`, as it would be written for the vendor's own service."""
    script = home.project / "script.py"
    script.write_text(SCRIPT)
    result = home.call(sys.executable, "script.py")
    assert result.returncode == 0, result.stderr
    # The SDK's remark on a key beside the token: older ones, and other programs, know nothing but the key.
    assert all("are both set" in line for line in result.stderr.splitlines()), result.stderr
    whole, streamed = result.stdout.splitlines()
    assert whole == streamed
    assert len(whole.split()) == 5


def test_health_has_the_shape_that_peoples_scripts_read(home: Home) -> None:
    result = home.call("sh", "-c", "curl -s $ANTHROPIC_BASE_URL/health")
    table = json.loads(result.stdout)
    assert table["status"] == "healthy"
    memory = table["memory"]
    assert {"status", "available_gb", "accepting_requests"} <= set(memory)
    assert memory["status"] == "Safe"
    assert re.fullmatch(r"\d+\.\d\d", memory["available_gb"])
    assert memory["accepting_requests"] is True


def test_a_whole_answer_and_a_streamed_one_are_the_same(client: anthropic.Anthropic) -> None:
    whole = ask(client)
    with client.messages.stream(model=MODEL, max_tokens=200, messages=HELLO) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(text_of(whole).split()) == 5
    assert "".join(pieces) == text_of(final) == text_of(whole)
    assert whole.stop_reason == final.stop_reason == "end_turn"
    assert whole.usage.output_tokens == final.usage.output_tokens > 0
    assert whole.model == MODEL


def test_a_tool_is_called_and_its_result_reported(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Read notes.txt"}]
    first = ask(client, messages, tools=[READ, RUN])
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("read_file", {"path": "notes.txt"})
    assert call.id.startswith("toolu_")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "stone garden lamp"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = ask(client, messages, tools=[READ, RUN])
    assert second.stop_reason == "end_turn"
    assert "stone garden lamp" in text_of(second)
    assert second.usage.cache_read_input_tokens > second.usage.input_tokens


def test_a_streamed_call_is_the_same_call(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "run ls"}]
    with client.messages.stream(model=MODEL, max_tokens=200, messages=messages, tools=[READ, RUN]) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"command": "ls"}]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "Bash"}])
def test_a_forced_choice_gives_a_call_whatever_was_said(client: anthropic.Anthropic, choice: Any) -> None:
    answer = ask(client, tools=[READ, RUN], tool_choice=choice)
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert answer.stop_reason == "tool_use"
    assert calls
    for call in calls:
        names = {"read_file": "path", "Bash": "command"}
        assert isinstance(call.input[names[call.name]], str)
    if choice["type"] == "tool":
        assert {call.name for call in calls} == {"Bash"}


def test_one_call_alone_where_parallel_ones_are_disabled(client: anthropic.Anthropic) -> None:
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    messages: Any = [{"role": "user", "content": "Read a.txt and b.txt"}]
    answer = ask(client, messages, tools=[READ], tool_choice=choice)
    assert len([block for block in answer.content if block.type == "tool_use"]) == 1


def test_the_tokens_counted_are_the_tokens_billed(client: anthropic.Anthropic) -> None:
    for more in ({}, {"tools": [READ, RUN]}, {"system": "Answer in one line."}):
        counted = client.messages.count_tokens(model=MODEL, messages=HELLO, **more)  # type: ignore[arg-type]
        usage = ask(client, **more).usage
        assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens > 0


def test_the_model_of_the_terminal_is_listed(client: anthropic.Anthropic) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids[0] == MODEL
    assert "phi-3-mini" in ids
    if not MODEL.startswith("/"):
        assert client.models.retrieve(MODEL).id == MODEL


def test_a_claude_name_means_the_terminals_own_model(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(model="claude-haiku-4-5", max_tokens=50, messages=HELLO)
    assert len(text_of(answer).split()) == 5


def test_faults_come_as_the_sdks_own_classes(client: anthropic.Anthropic, terminal: Session) -> None:
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        ask(client, max_tokens=-1)
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        ask(client, [])
    with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
        client.messages.create(model="no-such-model", max_tokens=5, messages=HELLO)
    with make_client(terminal, auth_token="wrong") as stranger, pytest.raises(anthropic.AuthenticationError):
        ask(stranger)


def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(home: Home) -> None:
    """Claude Code understands exactly these words, and compacts."""
    home.environment["CLAUDE_LOCAL_CONTEXT"] = "2000"
    home.environment["CLAUDE_LOCAL_RUN_DIR"] = str(home.machine.folder / "small")
    session = Session(home)  # type: ignore[arg-type]
    try:
        with make_client(session) as client, pytest.raises(anthropic.BadRequestError) as caught:
            ask(client, [{"role": "user", "content": "word " * 5000}])
        numbers = re.search(r"prompt is too long: (\d+) tokens > (\d+) maximum", str(caught.value))
        assert numbers
        assert int(numbers[1]) > int(numbers[2])
        assert int(numbers[2]) <= 2000
    finally:
        session.end()
        home.call("stop", "--now")


def test_a_stop_sequence_ends_the_answer_and_is_named(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "say stone garden lamp"}]
    answer = ask(client, messages, stop_sequences=["garden"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "garden")
    assert text_of(answer).strip() == "stone"


def test_an_answer_that_is_cut_off_says_so(client: anthropic.Anthropic) -> None:
    answer = ask(client, [{"role": "user", "content": "say stone garden lamp"}], max_tokens=2)
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 2


def test_a_system_prompt_may_come_in_blocks(client: anthropic.Anthropic) -> None:
    words = ("You are helpful.", "Be short.")
    blocks: Any = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}} for text in words]
    as_blocks = ask(client, system=blocks).usage
    as_text = ask(client, system="\n\n".join(words)).usage
    assert as_blocks.input_tokens + as_blocks.cache_read_input_tokens == (
        as_text.input_tokens + as_text.cache_read_input_tokens
    )


def test_a_system_message_may_come_in_the_middle(client: anthropic.Anthropic) -> None:
    messages: Any = [
        *HELLO,
        {"role": "assistant", "content": "Hello! How are you today?"},
        {"role": "system", "content": "The date has changed."},
        {"role": "user", "content": "say stone garden lamp"},
    ]
    assert text_of(ask(client, messages)) == "stone garden lamp"


def test_the_events_of_a_stream_come_in_the_apis_order(terminal: Session) -> None:
    """Read off the wire, since SDKs forgive a lot."""
    body = {"model": MODEL, "max_tokens": 100, "stream": True, "messages": HELLO}
    head, events = stream(terminal, body)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/event-stream" in head.lower()
    kinds = [kind for kind, _ in events]
    assert all(kind == data["type"] for kind, data in events)
    delta = "content_block_delta"
    assert [kind for kind in kinds if kind not in ("ping", delta)] == [
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert kinds.index("content_block_start") < kinds.index(delta)
    assert len(kinds) - kinds[::-1].index(delta) - 1 < kinds.index("content_block_stop")
    start, end = events[0][1]["message"], dict(events)["message_delta"]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}
    assert end["usage"]["output_tokens"] > 0


def stream(terminal: Session, body: dict[str, Any]) -> tuple[bytes, list[tuple[str, dict[str, Any]]]]:
    """The head and the events of a streamed answer, from a socket of our own."""
    raw = terminal.ask("/v1/messages", json.dumps(body).encode(), method="POST", content_type="application/json")
    head, _, rest = raw.partition(b"\r\n\r\n")
    events = []
    for block in unchunked(rest).decode().strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return head, events


def unchunked(data: bytes) -> bytes:
    """A chunked body's content; one that does not end in the empty chunk is cut off, and fails."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return body
        body, data = body + data[:length], data[length + 2 :]
