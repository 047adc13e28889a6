"""The API's error envelope."""

import msgspec

from sidecar.errors import RequestError


def envelope(error: RequestError, request_id: str) -> dict[str, object]:
    """The body of an error answer, and of an `event: error` once a stream has begun."""
    return {
        "type": "error",
        "error": {"type": error.type, "message": str(error)},
        "request_id": request_id,
    }


def encode(error: RequestError, request_id: str) -> bytes:
    return msgspec.json.encode(envelope(error, request_id))
