"""The relay's decision on a request head."""

import json

import pytest

from shim.lease import token
from shim.relay import access
from shim.relay.access import Refusal

PORT = 4711
TOKEN = "cl-right"
GOOD = {"Host": "127.0.0.1:4711", "Authorization": "Bearer cl-right"}


def head(method: str = "POST", target: str = "/v1/messages", **headers: str | None) -> bytes:
    lines = {**GOOD, **{name.replace("_", "-"): value for name, value in headers.items()}}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"{method} {target} HTTP/1.1\r\n{text}\r\n".encode()


@pytest.mark.parametrize(
    "request_head",
    [
        head(),
        head(Host="localhost:4711"),
        head(Host="LocalHost:4711"),
        head(Authorization=None, x_api_key="cl-right"),
        head(Authorization="bearer cl-right"),
        head(Authorization="Bearer cl-wrong", x_api_key="cl-right"),
        head(x_api_key=""),
        head("GET", "/health"),
        head(target="http://127.0.0.1:4711/v1/messages?beta=true"),
        head(target="HTTP://localhost:4711/v1/messages"),
        head(target="/v1/messages?next=http://evil.example/"),
    ],
)
def test_the_token_in_either_place_lets_in(request_head: bytes) -> None:
    assert access.admit(request_head, PORT, TOKEN) is True


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/health"),
        ("HEAD", "/health"),
        ("HEAD", "/"),
        ("GET", "/health?verbose=1"),
        ("GET", "http://127.0.0.1:4711/health"),
    ],
)
def test_probes_need_no_token_and_may_start_nothing(method: str, target: str) -> None:
    assert access.admit(head(method, target, Authorization=None), PORT, TOKEN) is False


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(Authorization=None), 401),
        (head(Authorization="Bearer cl-righ"), 401),
        (head(Authorization="Bearer cl-rightt"), 401),
        (head(Authorization="Bearer "), 401),
        (head(Authorization="Basic cl-right"), 401),
        (head(Authorization="cl-right"), 401),
        (head("GET", "/", Authorization=None), 401),
        (head("POST", "/health", Authorization=None), 401),
        (head("GET", "/healthy", Authorization=None), 401),
        (head("GET", "//health", Authorization=None), 401),
        (head("GET", "http://127.0.0.1:4711/v1/models", Authorization=None), 401),
        (head("GET", "http://127.0.0.1:4711/control/status"), 404),
        (head("GET", "/control/status"), 404),
        (head("GET", "http://evil.example/v1/models"), 403),
        (head("GET", "http://127.0.0.1:4711@evil.example/v1/models"), 403),
        (head("GET", "http://127.0.0.1:4712/v1/models"), 403),
        (head("GET", "http://127.0.0.1:4711/v1/models", Host="evil.example"), 403),
        (head("OPTIONS"), 403),
        (head(Origin="http://127.0.0.1:4711"), 403),
        (head(Origin="null"), 403),
        (head(Sec_Fetch_Site="same-origin"), 403),
        (head("GET", "/health", Authorization=None, Origin="https://example.org"), 403),
        (head(Host=None), 400),
        (head(Host=None).replace(b"HTTP/1.1", b"HTTP/1.0"), 403),
        (head(Host="127.0.0.1"), 403),
        (head(Host="127.0.0.1:4712"), 403),
        (head(Host="evil.example:4711"), 403),
        (head(Host="127.0.0.1:4711.evil.example"), 403),
        (head("GET", "/health", Host="evil.example:4711", Authorization=None), 403),
        (head().replace(b"\r\n\r\n", b"\r\nHost: evil.example\r\n\r\n"), 403),
        (head().replace(b"\r\n\r\n", b"\r\nA: 1\nOrigin: x\r\n\r\n"), 400),
        (head().replace(b"\r\n\r\n", b"\r\nOrigin : x\r\n\r\n"), 400),
        (head().replace(b"\r\n\r\n", b"\r\n folded\r\n\r\n"), 400),
        (head().replace(b"\r\n\r\n", b"\r\nno colon\r\n\r\n"), 400),
        (head().replace(b"\r\n\r\n", b"\r\nA: \0\r\n\r\n"), 400),
        (b"GET /health\r\n\r\n", 400),
        (b"GET  /health HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
def test_everybody_else_is_refused(request_head: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        access.admit(request_head, PORT, TOKEN)
    assert caught.value.status == status


def test_a_refusal_is_an_error_of_the_api_and_ends_the_connection() -> None:
    refusal = Refusal(503, "api_error", "It is gone.", retry_after=1)
    first, _, rest = access.answer(refusal, "req_1").partition(b"\r\n")
    headers, _, body = rest.partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 503 Service Unavailable"
    lines = headers.split(b"\r\n")
    assert f"content-length: {len(body)}".encode() in lines
    assert {b"request-id: req_1", b"connection: close", b"retry-after: 1"} <= set(lines)
    error = {"type": "api_error", "message": "It is gone."}
    assert json.loads(body) == {"type": "error", "error": error, "request_id": "req_1"}


def test_the_answer_to_head_has_no_body() -> None:
    assert access.answer(Refusal(401, "authentication_error", "No."), "req_1", head_only=True).endswith(b"\r\n\r\n")


def test_tokens_are_long_and_never_the_same() -> None:
    assert len({token.new() for _ in range(100)}) == 100
    assert len(token.new()) > 64


def test_a_token_is_known_by_its_sha256() -> None:
    assert token.digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert token.equal(b"abc", b"abc")
    assert not token.equal(b"abc", b"abd")
