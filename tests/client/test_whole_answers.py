"""An answer that is not streamed and takes long, as the official SDKs read it: blanks first, then the message."""

import json
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import psutil
import pytest
import trio

from sidecar.anthropic import errors as api_errors
from sidecar.anthropic.reply import Reply
from sidecar.errors import InvalidRequest, RequestError
from sidecar.frames import Finished, FromEngine, Started, TextDelta
from sidecar.http.connection import Connection, Request, serve_connection
from sidecar.requests import response
from sidecar.requests.response import BLANK, Answer
from tests.client.api import HELLO, Terminal
from tests.client.wire import Wire
from tests.support.home import LIMIT
from tests.support.waiting import wait_until

BODY: Any = {"model": "m", "max_tokens": 5, "messages": HELLO}
SCRIPT = """
const { createRequire } = require("node:module");
const { Anthropic } = createRequire(`${process.argv[1]}/`)("@anthropic-ai/sdk");
const client = new Anthropic({ maxRetries: 0, apiKey: "x", baseURL: process.argv[2] });
client.messages.create(JSON.parse(process.argv[3])).then((message) => console.log(JSON.stringify(message)));
"""


class Counting(Connection):
    """Notices how many blanks have gone out."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        super().__init__(stream)
        self.blanks = 0
        self.three = trio.Event()

    async def send(self, data: bytes) -> None:
        await super().send(data)
        self.blanks += data == BLANK
        if self.blanks == 3:
            self.three.set()


async def slow(connection: Connection, _: Request) -> None:
    """Answer after the third blank, however fast this machine is."""
    assert isinstance(connection, Counting)
    send, events = trio.open_memory_channel[FromEngine | RequestError](10)
    reply = Answer(connection, Reply("msg_1", "m", str), "req_1", stream=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reply.deliver, events)
        await send.send(Started(1, 10, 4))
        await connection.three.wait()
        await send.send(TextDelta(1, "Hello!"))
        await send.send(Finished(1, "end", 10, 4, 2))


async def fail(connection: Connection, error: RequestError) -> None:
    raise error


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response, "HOLD_S", 0.01)
    monkeypatch.setattr(response, "PING_S", 0.01)
    monkeypatch.setattr("sidecar.http.connection.Connection", Counting)


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """An address where each request is answered slowly."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            await serve_connection(stream, slow, fail)

        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_the_sdk_for_python_reads_a_message_behind_blanks(impatient: None) -> None:
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    async with served() as address:
        with anthropic.Anthropic(base_url=address, api_key="x", max_retries=0, http_client=http_client) as client:
            raw = await trio.to_thread.run_sync(lambda: client.messages.with_raw_response.create(**BODY))
    assert raw.http_response.content.startswith(3 * BLANK)
    message = raw.parse()
    assert message.content[0].text == "Hello!" and message.usage.output_tokens == 2
    assert message._request_id == "req_1"


async def test_the_sdk_for_typescript_reads_a_message_behind_blanks(impatient: None, sdk: Path) -> None:
    async with served() as address:
        command = ["node", "-e", SCRIPT, str(sdk), address, json.dumps(BODY)]
        done = await trio.run_process(command, capture_stdout=True)
    assert json.loads(done.stdout)["content"] == [{"type": "text", "text": "Hello!"}]


def test_an_error_that_comes_too_late_for_a_status_is_the_apis_envelope() -> None:
    reply = Answer(None, Reply("msg_1", "m", str), "req_1", stream=False)  # type: ignore[arg-type]  # says nothing yet
    said = reply.said(api_errors.envelope(InvalidRequest("no"), "req_1"))
    error = {"type": "invalid_request_error", "message": "no"}
    assert json.loads(3 * BLANK + said) == {"type": "error", "error": error, "request_id": "req_1"}


@pytest.mark.full
def test_an_engine_that_dies_behind_the_blanks_is_noticed_by_nobody(noise: Terminal, sdk: Path) -> None:
    """The head has gone out, but nothing of the answer, so that another engine may give it."""
    texts = {name: {"type": "string", "minLength": 1500} for name in "abc"}
    schema = {"type": "object", "properties": texts, "required": [*texts]}
    choice = {"type": "tool", "name": "write"}
    asked = {"max_tokens": 20_000, "tools": [{"name": "write", "input_schema": schema}], "tool_choice": choice}
    body = json.dumps({**BODY, **asked, "model": noise.model})
    address = f"http://127.0.0.1:{noise.session.port}"
    script = SCRIPT.replace('"x"', json.dumps(noise.session.token))
    said: list[Any] = []
    asking = threading.Thread(target=lambda: said.append(noise.whole(asked)))
    with Wire(noise) as wire, subprocess.Popen(["node", "-e", script, sdk, address, body], stdout=-1) as node:
        asking.start()
        wire.send(wire.message(**asked))
        wait_until(lambda: noise.running() == 3, LIMIT)
        assert wire.socket.recv(1 << 16, socket.MSG_PEEK).startswith(b"HTTP/1.1 200")
        psutil.Process(noise.home.engine()).kill()
        reply = wire.answer()
        assert "content-length" not in reply.headers and reply.body.startswith(2 * BLANK)
        assert reply.json["content"][0]["type"] == "tool_use"
        assert json.loads(node.communicate(timeout=LIMIT)[0])["content"][0]["type"] == "tool_use"
    asking.join(LIMIT)
    assert said[0].content[0].type == "tool_use"
