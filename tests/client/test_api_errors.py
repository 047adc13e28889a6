"""Errors as the official SDK's own classes, with the ids and headers that its users read; and the Models API."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx2
import psutil
import pytest

from sidecar.server.app import PER_TERMINAL
from tests.client.api import HELLO, Terminal, check_request_id
from tests.client.wire import LONG, Wire
from tests.support.home import Machine
from tests.support.waiting import wait_until

BODY: Any = {"max_tokens": 5, "messages": HELLO}


def ask(terminal: Terminal, client: anthropic.Anthropic | None = None, **changes: Any) -> Any:
    return (client or terminal.client).messages.create(**{"model": terminal.model, **BODY, **changes})


STATUSES: list[tuple[str, str, dict[str, str], type[anthropic.APIStatusError], str]] = [
    ("POST", "/v1/nothing", {}, anthropic.NotFoundError, "not_found_error"),
    ("GET", "/v1", {}, anthropic.NotFoundError, "not_found_error"),
    ("POST", "/v1/complete", {}, anthropic.NotFoundError, "not_found_error"),
    ("GET", "/v1/models/no-such-model", {}, anthropic.NotFoundError, "not_found_error"),
    ("POST", "/messages/batches", {}, anthropic.NotFoundError, "not_found_error"),
    ("GET", "/models/no-such-model", {}, anthropic.NotFoundError, "not_found_error"),
    ("POST", "/messages", {}, anthropic.BadRequestError, "invalid_request_error"),
    ("GET", "/v1/models?limit=0", {}, anthropic.BadRequestError, "invalid_request_error"),
    ("GET", "/v1/models?limit=x", {}, anthropic.BadRequestError, "invalid_request_error"),
    ("GET", "/v1/models?after_id=none", {}, anthropic.BadRequestError, "invalid_request_error"),
    ("GET", "/v1/messages", {}, anthropic.APIStatusError, "invalid_request_error"),
    ("DELETE", "/v1/models", {}, anthropic.APIStatusError, "invalid_request_error"),
    ("POST", "/v1/messages/batches", {}, anthropic.NotFoundError, "not_found_error"),
    ("GET", "/v1/files", {}, anthropic.NotFoundError, "not_found_error"),
    ("GET", "/control/status", {}, anthropic.NotFoundError, "not_found_error"),
    ("POST", "/v1/messages", {}, anthropic.BadRequestError, "invalid_request_error"),
    ("POST", "/v1/messages", {"authorization": "Bearer no"}, anthropic.AuthenticationError, "authentication_error"),
    ("POST", "/v1/messages", {"origin": "https://example.org"}, anthropic.PermissionDeniedError, "permission_error"),
    ("POST", "/v1/messages", {"host": "example.org"}, anthropic.PermissionDeniedError, "permission_error"),
]


@pytest.mark.parametrize(("method", "path", "headers", "kind", "type_"), STATUSES)
def test_an_error_has_the_sdks_own_class(
    demo: Terminal, method: str, path: str, headers: dict[str, str], kind: type[anthropic.APIStatusError], type_: str
) -> None:
    options: Any = {"headers": headers}
    with demo.new_client() as client, pytest.raises(kind) as caught:  # new, since the relay looks at connections
        if method == "GET":
            client.get(path, cast_to=object, options=options)
        else:
            getattr(client, method.lower())(path, cast_to=object, body={}, options=options)
    assert caught.value.type == type_
    assert caught.value.status_code == (405 if kind is anthropic.APIStatusError else caught.value.status_code)
    check_request_id(caught.value)


@pytest.mark.parametrize("model", ["no-such-model", "/no/such/folder", "../demo", "a" * 4096, "nobody/no-such-model"])
def test_a_model_that_is_not_there_is_named(demo: Terminal, model: str) -> None:
    with pytest.raises((anthropic.NotFoundError, anthropic.ServiceUnavailableError)) as caught:
        ask(demo, model=model)
    assert model[:100] in str(caught.value)


def test_a_body_that_is_too_large_is_told_so_and_the_connection_lives_on(demo: Terminal) -> None:
    """The client gets to read it, although it is still sending."""
    with pytest.raises(anthropic.ContentTooLargeError) as caught:
        ask(demo, messages=[{"role": "user", "content": "x" * (33 << 20)}])
    assert caught.value.type == "request_too_large"
    check_request_id(caught.value)
    assert ask(demo).content


def test_a_large_body_with_a_wrong_token_is_told_so(demo: Terminal) -> None:
    with demo.new_client(auth_token="no") as stranger, pytest.raises(anthropic.AuthenticationError):
        ask(demo, stranger, messages=[{"role": "user", "content": "x" * (20 << 20)}])


def test_a_head_that_is_too_large_is_told_so(demo: Terminal) -> None:
    with pytest.raises(anthropic.RequestHeaderFieldsTooLargeError):
        ask(demo, extra_headers={"x-long": "y" * 70_000})


def test_a_key_serves_as_well_as_a_token(demo: Terminal) -> None:
    with demo.new_client(auth_token=None) as client:
        client.api_key = demo.session.token
        assert ask(demo, client).content


def test_every_answer_has_its_id_in_the_header(demo: Terminal) -> None:
    raw = demo.client.messages.with_raw_response.create(model=demo.model, **BODY)
    assert re.fullmatch("req_[0-9a-f]{24}", raw.headers["request-id"])
    assert raw.parse()._request_id == raw.headers["request-id"]
    counted = demo.client.messages.with_raw_response.count_tokens(model=demo.model, messages=HELLO)
    listed = demo.client.models.with_raw_response.list()
    with demo.client.messages.with_streaming_response.create(model=demo.model, stream=True, **BODY) as streamed:
        ids = {answer.headers["request-id"] for answer in (raw, counted, listed, streamed)}
    assert len(ids) == 4


def test_models_are_listed_in_pages(demo: Terminal) -> None:
    listed = demo.client.models.list(limit=1000).data
    paged = [model for page in demo.client.models.list(limit=2).iter_pages() for model in page.data]
    assert [model.id for model in paged] == [model.id for model in listed]
    assert listed[0].id == "demo" and len(listed) > 1
    assert demo.client.models.list(before_id=listed[1].id).data[0].id == "demo"
    assert demo.client.models.list(after_id=listed[0].id, limit=1).data[0].id == listed[1].id
    assert demo.client.models.retrieve("demo").max_input_tokens


@pytest.mark.parametrize("before", ["", "/v1", "/v1/v1"])
def test_an_address_may_hold_the_version_or_not(demo: Terminal, before: str) -> None:
    """Some SDKs add it to the address that they are given, others take it for a part of that."""
    body = {"model": "demo", "messages": HELLO}
    post = demo.client.post
    message: Any = post(f"{before}/messages", cast_to=object, body={**body, "max_tokens": 30})
    assert message["content"][0]["text"].startswith("Hello")
    counted: Any = post(f"{before}/messages/count_tokens", cast_to=object, body=body)
    assert counted["input_tokens"] == demo.count({})
    listed: Any = demo.client.get(f"{before}/models", cast_to=object)
    one: Any = demo.client.get(f"{before}/models/demo", cast_to=object)
    assert listed["data"][0] == one


def test_each_model_of_the_list_says_how_much_it_takes(demo: Terminal) -> None:
    """Not only the one that is loaded: a client chooses by it."""
    listed = demo.client.models.list(limit=1000).data
    assert len(listed) > 5
    for model in listed:
        assert model.max_input_tokens and model.max_tokens, model.id
        assert model.max_tokens < model.max_input_tokens


@pytest.mark.parametrize("name", ["claude-next-9", "anthropic/claude-opus-9"])
def test_a_vendors_name_means_the_terminals_own_model_everywhere(demo: Terminal, name: str) -> None:
    own, found = demo.client.models.retrieve("demo"), demo.client.models.retrieve(name)
    assert (found.id, found.max_input_tokens, found.max_tokens) == (name, own.max_input_tokens, own.max_tokens)
    assert ask(demo, model=name).model == name
    assert demo.client.messages.count_tokens(model=name, messages=HELLO).input_tokens


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_a_client_of_openais_api_is_told_what_to_use(demo: Terminal, path: str) -> None:
    """In the envelope that its SDK reads."""
    with pytest.raises(anthropic.NotFoundError) as caught:
        demo.client.post(path, cast_to=object, body={"model": "gpt-4o", "messages": HELLO})
    error = caught.value.response.json()["error"]
    assert error["code"] == "not_found" and "POST /v1/messages" in error["message"]


def test_more_than_can_be_under_way_is_a_429_that_says_when_to_come_back(noise: Terminal) -> None:
    with ExitStack() as held:
        for _ in range(PER_TERMINAL):
            wire = held.enter_context(Wire(noise))
            wire.send(wire.message(**LONG))
        wait_until(lambda: noise.running() == PER_TERMINAL)
        with pytest.raises(anthropic.RateLimitError) as caught:
            ask(noise)
    assert caught.value.type == "rate_limit_error"
    assert caught.value.response.headers["retry-after"] == "1"
    check_request_id(caught.value)
    wait_until(lambda: noise.running() == 0)
    assert ask(noise).content is not None


@pytest.fixture(scope="module")
def small() -> Iterator[Terminal]:
    """A terminal of its own with a small window, whose engine may be killed."""
    machine = Machine(grace=600)
    machine.environment["CLAUDE_LOCAL_CONTEXT"] = "400"
    terminal = Terminal(machine, "demo")
    yield terminal
    terminal.close()
    machine.remove()


def test_a_prompt_beyond_the_window_is_refused_in_the_words_that_clients_know(small: Terminal) -> None:
    words = {"messages": [{"role": "user", "content": "word " * 1000}]}
    for ask_for in (small.whole, small.streamed):
        with pytest.raises(anthropic.BadRequestError) as caught:
            ask_for(words)
        numbers = re.fullmatch(r"prompt is too long: (\d+) tokens > (\d+) maximum", caught.value.api_message or "")
        assert numbers and int(numbers[1]) == small.count(words) and int(numbers[2]) == 399


def test_an_answer_that_fills_the_window_says_so(small: Terminal) -> None:
    words = {"messages": [{"role": "user", "content": "word " * 300 + "say stone garden lamp"}]}
    while (counted := small.count(words)) < 396:
        words["messages"][0]["content"] = " word" * (1 + (396 - counted) // 3) + words["messages"][0]["content"]
    for message in (small.whole({**words, "max_tokens": 100}), small.streamed({**words, "max_tokens": 100})[0]):
        assert message.stop_reason == "model_context_window_exceeded"
        assert message.usage.output_tokens == 400 - counted


def test_an_engine_that_dies_before_its_first_word_is_not_noticed_by_the_sdk(small: Terminal) -> None:
    engine = psutil.Process(small.home.engine())
    engine.suspend()  # so that the request is under way for certain
    killer = threading.Thread(target=kill_when_asked, args=(small, engine))
    killer.start()
    sent: list[httpx2.Response] = []
    with small.new_client(max_retries=2) as patient:
        patient._client.event_hooks["response"].append(sent.append)
        assert ask(small, patient).content
    killer.join()
    assert [response.status_code for response in sent] == [200]


def kill_when_asked(terminal: Terminal, engine: psutil.Process) -> None:
    wait_until(lambda: terminal.home.status()["requests"]["running"] == 1)
    engine.kill()
