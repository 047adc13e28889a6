"""The API's error envelope."""

import msgspec

from sidecar.errors import RequestError


def envelope(error: RequestError, request_id: str) -> dict[str, object]:
    """The body of an error answer, and of an `event: error` once a stream has begun."""
    what: dict[str, object] = {"type": error.type, "message": str(error)}
    if error.code:
        what["details"] = {"error_code": error.code}
    return {"type": "error", "error": what, "request_id": request_id}


def encode(error: RequestError, request_id: str) -> bytes:
    return msgspec.json.encode(envelope(error, request_id))
