"""The Messages API as its clients see it: cases as data, and the rules that hold for every answer.

A case is asked three ways with the official SDK: counted, whole and streamed. Whatever it expects beside, the three
must agree, blocks must open and close in order, and the usage must be the truth.
"""

import inspect
import json
import re
import socket
from dataclasses import dataclass, field
from typing import Any

import anthropic
from anthropic.types import Message

from tests.support.home import LIMIT, Home, Machine
from tests.support.place import Session

HELLO: Any = [{"role": "user", "content": "Hello in 5 words"}]


@dataclass(frozen=True)
class Case:
    """A request that is answered. Fields that are None expect nothing."""

    name: str
    body: dict[str, Any]
    """Beside model, max_tokens and messages, which have defaults."""
    text: str | None = None
    """What the demo model's text matches, from its beginning to its end."""
    stop: str | None = None
    """The stop reason."""
    kinds: str | None = None
    """The blocks' types, as a regular expression over the words."""
    calls: Any = None
    """(name, arguments) of each call, of the demo model."""
    like: dict[str, Any] | None = None
    """Another body that must come to the same prompt, as far as its length tells."""
    unlike: dict[str, Any] | None = None
    """One that must not."""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


@dataclass(frozen=True)
class Refused:
    """A request that is a 400 and says why."""

    name: str
    body: dict[str, Any]
    says: str
    """A regular expression for the whole message's beginning; the field's path comes first."""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


class Terminal:
    """A command of claude-local's with its port and token, and the SDK pointed at it."""

    def __init__(self, machine: Machine, model: str) -> None:
        machine.environment["CLAUDE_LOCAL_MODEL"] = model
        self.machine = machine
        self.model = model
        self.home = Home("terminal", machine)
        self.session = Session(self.home)  # type: ignore[arg-type]  # it needs no more of a place than `start`
        self.client = self.new_client()

    def new_client(self, **changes: Any) -> anthropic.Anthropic:
        """Blind to the developer's proxies and keys."""
        http_client = anthropic.DefaultHttpxClient(trust_env=False)
        options = {"auth_token": self.session.token, "max_retries": 0, "timeout": LIMIT, **changes}
        client = anthropic.Anthropic(
            base_url=f"http://127.0.0.1:{self.session.port}", http_client=http_client, **options
        )
        client.api_key = None
        return client

    def running(self) -> int:
        """Requests under way."""
        return int(self.status()["requests"]["running"])

    def status(self) -> Any:
        """Everything that the sidecar says of itself, asked without starting a process for it."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.machine.run / "socket"))
            connection.sendall(b"GET /control/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            said = connection.makefile("rb").read()
        return json.loads(said.partition(b"\r\n\r\n")[2])

    def close(self) -> None:
        self.client.close()
        self.home.close()

    def words(self, method: Any, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        """Arguments for one of the SDK's methods; what it has no parameter for goes along untyped."""
        body = {"model": self.model, "messages": HELLO, **body}
        known = {*inspect.signature(method).parameters} - {"output_format"}  # there it is a class
        words = {name: value for name, value in body.items() if name in known}
        more = {name: value for name, value in body.items() if name not in known}
        return {**words, "extra_body": more or None, "extra_headers": headers or None}

    def count(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> int:
        # What concerns the answer alone is no field of this request.
        apart = {"max_tokens", "stop_sequences", "stream"}
        asked = {name: value for name, value in body.items() if name not in apart}
        method = self.client.messages.count_tokens
        return int(method(**self.words(method, asked, headers or {})).input_tokens)

    def whole(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> Message:
        method = self.client.messages.create
        return method(**self.words(method, {"max_tokens": 8, **body}, headers or {}))  # type: ignore[no-any-return]

    def streamed(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> tuple[Message, list[Any]]:
        """The message as the SDK puts it together, and the events as they came."""
        method = self.client.messages.stream
        with method(**self.words(method, {"max_tokens": 8, **body}, headers or {})) as stream:
            events = [event for event in stream if event.type.startswith(("message_", "content_block_"))]
            return stream.get_final_message(), events


def check(terminal: Terminal, case: Case) -> None:
    """Ask the case in all ways."""
    counted = terminal.count(case.body, case.headers)
    whole = terminal.whole(case.body, case.headers)
    streamed, events = terminal.streamed(case.body, case.headers)
    check_events(events)
    first = events[0].message.usage
    assert first.input_tokens + first.cache_read_input_tokens == counted
    for message in (whole, streamed):
        check_message(message, case.body.get("max_tokens", 8))
        usage = message.usage
        assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted
        if case.stop is not None:
            by_itself = terminal.model != "demo" and case.stop == "max_tokens" and message.stop_reason == "end_turn"
            assert by_itself or message.stop_reason == case.stop  # noise may end anywhere
        if case.kinds is not None:
            assert re.fullmatch(case.kinds, " ".join(block.type for block in message.content))
    if terminal.model == "demo":
        assert content_of(whole) == content_of(streamed), "sampling is off: both ways say the same"
        assert whole.stop_reason == streamed.stop_reason
        assert whole.usage.output_tokens == streamed.usage.output_tokens
        if case.text is not None:
            assert re.fullmatch(case.text, text_of(whole), re.DOTALL), text_of(whole)
        if case.calls is not None:
            assert [(block.name, block.input) for block in whole.content if block.type == "tool_use"] == case.calls
    if case.like is not None:
        assert counted == terminal.count(case.like)
    if case.unlike is not None:
        assert counted != terminal.count(case.unlike)


def check_message(message: Message, max_tokens: int) -> None:
    assert message.type == "message" and message.role == "assistant"
    assert re.fullmatch("msg_[0-9a-f]{24}", message.id)
    assert 0 <= message.usage.output_tokens <= max_tokens
    assert (message.stop_sequence is not None) == (message.stop_reason == "stop_sequence")
    for block in message.content:
        if block.type == "text":
            assert block.text.strip(), "the API refuses blank text when it comes back as history"
        if block.type == "tool_use":
            assert re.fullmatch("toolu_[0-9a-f]{24}", block.id)
    ids = [block.id for block in message.content if block.type == "tool_use"]
    assert len({*ids}) == len(ids)
    if message.stop_reason == "tool_use":
        assert ids


def check_events(events: list[Any]) -> None:
    """The order of the API's streaming reference, without a delta that says nothing."""
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    start, end = events[0].message, events[-2]
    assert (start.content, start.stop_reason) == ([], None)
    assert end.delta.stop_reason is not None
    open_block: Any = None
    for index, event in enumerate(events[1:-2]):
        if event.type == "content_block_start":
            assert open_block is None, index
            open_block = event
        elif event.type == "content_block_delta":
            assert open_block is not None and event.index == open_block.index
            check_delta(event.delta, open_block.content_block.type)
        else:
            assert event.type == "content_block_stop" and event.index == open_block.index
            open_block = None
    assert open_block is None
    starts = [event.index for event in events if event.type == "content_block_start"]
    assert starts == [*range(len(starts))]


def check_delta(delta: Any, kind: str) -> None:
    belongs = {"text": ("text_delta",), "tool_use": ("input_json_delta",), "thinking": ("thinking_delta",)}
    if delta.type == "signature_delta":
        assert kind == "thinking" and delta.signature
        return
    assert delta.type in belongs[kind]
    assert getattr(delta, {"text": "text", "tool_use": "partial_json", "thinking": "thinking"}[kind])


def check_refused(terminal: Terminal, case: Refused) -> None:
    """Both ways; a refused stream is a status as well, since nothing of it has begun."""
    for ask in (terminal.whole, terminal.streamed):
        try:
            ask(case.body, case.headers)
        except anthropic.BadRequestError as error:
            assert error.type == "invalid_request_error"
            assert re.match(case.says, error.api_message or ""), error.api_message
            check_request_id(error)
        else:
            raise AssertionError("it was not refused")


def check_request_id(error: anthropic.APIStatusError) -> None:
    assert re.fullmatch("req_[0-9a-f]{24}", error.request_id or "")
    assert error.body["request_id"] == error.request_id  # type: ignore[index]


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def content_of(message: Message) -> list[dict[str, Any]]:
    """Without the ids, which are new each time."""
    return [{**block.to_dict(), "id": ""} for block in message.content]
