"""The API's error envelope, and OpenAI's for its paths."""

import msgspec

from sidecar.errors import ForeignApi, RequestError


def envelope(error: RequestError, request_id: str) -> dict[str, object]:
    """The body of an error answer, and of an `event: error` once a stream has begun."""
    if isinstance(error, ForeignApi):
        return {"error": {"message": str(error), "type": "invalid_request_error", "param": None, "code": "not_found"}}
    what: dict[str, object] = {"type": error.type, "message": str(error)}
    if error.code:
        what["details"] = {"error_code": error.code}
    return {"type": "error", "error": what, "request_id": request_id}


def encode(error: RequestError, request_id: str) -> bytes:
    return msgspec.json.encode(envelope(error, request_id))
