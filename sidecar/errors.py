"""The errors that become answers: one small tree, each with its HTTP status and the API's error type."""

from collections.abc import Iterable


class RequestError(Exception):
    """Base of all; the text is shown to the user, so it says what to do."""

    status = 500
    type = "api_error"
    retry_after: int | None = None
    """Seconds for the `retry-after` header."""
    code: str | None = None
    """What a program reads to do something about it: the API's `error.details.error_code`."""


class InvalidRequest(RequestError):
    """The client's fault: asking again the same way is pointless."""

    status = 400
    type = "invalid_request_error"


class ThreadUnsupported(InvalidRequest):
    """The official SDKs' tool runners ask for a thread, and do without one when they are told exactly this."""

    code = "thread_unsupported_request"


class PromptTooLong(InvalidRequest):
    """Claude Code understands exactly these words: it shows both numbers and compacts."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"prompt is too long: {tokens} tokens > {limit} maximum")


class Unauthorized(RequestError):
    status = 401
    type = "authentication_error"


class Forbidden(RequestError):
    status = 403
    type = "permission_error"


class NotFound(RequestError):
    status = 404
    type = "not_found_error"


class ForeignApi(NotFound):
    """A path of OpenAI's API, whose clients read only its own kind of error."""


class MethodNotAllowed(RequestError):
    status = 405
    type = "invalid_request_error"

    def __init__(self, path: str, methods: Iterable[str], method: str) -> None:
        self.allow = ", ".join(methods)
        """For the `allow` header."""
        super().__init__(f"{path} takes {self.allow}, not {method}")


class NotArrived(RequestError):
    """A request that began and did not end in time."""

    status = 408
    type = "invalid_request_error"


class TooLarge(RequestError):
    status = 413
    type = "request_too_large"


class HeadTooLarge(RequestError):
    status = 431
    type = "invalid_request_error"


class TooMany(RequestError):
    """One client has more under way than is any use to it."""

    status = 429
    type = "rate_limit_error"
    retry_after = 1


class Overloaded(RequestError):
    """All clients together do."""

    status = 529
    type = "overloaded_error"
    retry_after = 1


class Unavailable(RequestError):
    """Not now: 503 rather than 529, because clients show the text of a 503 and replace that of a 529."""

    status = 503
    retry_after = 1

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Died(Unavailable):
    """The engine ended without a word: it may have been this request's doing, or nobody's."""

    def __init__(self, message: str, retry_after: int = 1, guilt: float = 0.0, again: bool = True) -> None:
        """`guilt`: how sure it is that this request did it, from 0 to 1; `again`: whether it may be asked again by
        itself."""
        super().__init__(message, retry_after)
        self.guilt = guilt
        self.again = again


class Internal(RequestError):
    """Our bug."""
