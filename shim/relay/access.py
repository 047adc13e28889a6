"""Who may come in: the decision on the first request head of a connection. Pure, from bytes to a verdict.

It is made before anything is connected or started. The sidecar asks the same questions of every request; this keeps
a web page, another user or a wandering scanner from ever reaching it, or from starting it.
"""

from shim.lease import token as tokens
from sidecar.shared.protocol import CONTROL, split_target

HEAD_LIMIT = 64 * 1024
"""Bytes of a request head; Claude Code's own is 2 KB."""

END = b"\r\n\r\n"

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):
    """An answer of our own: HTTP status, the API's error type, a sentence."""

    def __init__(self, status: int, kind: str, message: str, retry_after: int = 0, final: bool = False) -> None:
        """`final`: asking again is of no use."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after = retry_after
        self.final = final


def admit(head: bytes, port: int, token: str) -> bool:
    """True: carries the token. False: needs none, and may not start anything. Otherwise raises Refusal."""
    method, target, headers = parse(head)
    _refuse_browsers(method, headers)
    authority, rest = split_target(target.decode("latin-1"))
    hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
    if not hosts and head.partition(b"\r\n")[0].endswith(b"/1.1"):
        raise Refusal(400, "invalid_request_error", "An HTTP/1.1 request needs a Host header.")  # RFC 9112, 3.2
    allowed = (f"127.0.0.1:{port}", f"localhost:{port}")
    if len(hosts) != 1 or hosts[0] not in allowed or authority.lower() not in ("", *allowed):
        # A web page whose name was made to point at 127.0.0.1 still sends its own name here.
        raise Refusal(403, "permission_error", f"The Host header must be 127.0.0.1:{port} or localhost:{port}.")
    path = rest.partition("?")[0]
    if path.startswith(CONTROL):
        raise Refusal(
            404, "not_found_error", "The sidecar is controlled with claude-local itself, not through this port."
        )
    if any(tokens.equal(offered, token.encode()) for offered in _offered(headers)):
        return True
    if (method in (b"GET", b"HEAD") and path == "/health") or (method == b"HEAD" and path == "/"):
        return False
    raise Refusal(401, "authentication_error", "This port of claude-local needs the token that belongs to it.")


def anonymous(head: bytes) -> bytes:
    """The request to make for a head that was admitted without a token: the same question in our own words."""
    method, target, _ = parse(head)
    return b"%s %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % (method, target.partition(b"?")[0])


def parse(head: bytes) -> tuple[bytes, bytes, Headers]:
    """Method, target and headers (names in lower case) of a head that ends with an empty line.

    Stricter than the standard: what two readers could read in two ways is refused.
    """
    malformed = Refusal(400, "invalid_request_error", "The request head is malformed.")
    first, *rest = head.removesuffix(END).split(b"\r\n")
    words = first.split(b" ")
    if any(mark in line for line in (first, *rest) for mark in (b"\r", b"\n", b"\0")):
        raise malformed
    if len(words) != 3 or not all(words) or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise malformed
    headers = []
    for line in rest:
        name, colon, value = line.partition(b":")
        if not colon or not name or any(byte <= 0x20 for byte in name):
            raise malformed
        headers.append((name.lower(), value.strip(b" \t")))
    return words[0], words[1], headers


def answer(refusal: Refusal, request_id: str, head_only: bool = False) -> bytes:
    """The bytes of an error in the API's own envelope. The connection ends with it."""
    import json

    error = {"type": refusal.kind, "message": refusal.message}
    body = json.dumps({"type": "error", "error": error, "request_id": request_id}).encode()
    lines = [
        f"HTTP/1.1 {refusal.status} {REASONS.get(refusal.status, 'Error')}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"request-id: {request_id}",
        "connection: close",
    ]
    if refusal.retry_after:
        lines.append(f"retry-after: {refusal.retry_after}")
    if refusal.final:
        lines.append("x-should-retry: false")  # the official clients heed it
    return "\r\n".join(lines).encode() + END + (b"" if head_only else body)


def at_rest(head_only: bool = False) -> bytes:
    """What /health says where nothing is loaded, and the next request loads it. The connection ends with it."""
    body = b'{"status":"idle","engine":{"state":"absent"},"message":"the next request loads the model"}\n'
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % len(body) + (b"" if head_only else body)


REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _refuse_browsers(method: bytes, headers: Headers) -> None:
    # No program that talks to an API sends these; every browser does, on whatever page it is.
    if method == b"OPTIONS" or any(name in (b"origin", b"sec-fetch-site") for name, _ in headers):
        raise Refusal(403, "permission_error", "Web pages may not use this port.")


def _offered(headers: Headers) -> list[bytes]:
    offered = [value for name, value in headers if name == b"x-api-key"]
    for name, value in headers:
        scheme, _, rest = value.partition(b" ")
        if name == b"authorization" and scheme.lower() == b"bearer":
            offered.append(rest.strip())
    return offered
