"""What becomes of the API's errors in a session of our own."""

import pytest

from shim.lease.session import failure


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("invalid_request_error", 65),
        ("request_too_large", 65),
        ("not_found_error", 65),
        ("api_error", 69),
        ("overloaded_error", 69),
        ("rate_limit_error", 69),
    ],
)
def test_what_asking_again_does_not_help_has_an_exit_code_of_its_own(kind: str, code: int) -> None:
    made = failure({"type": "error", "error": {"type": kind, "message": "why"}})
    assert (made.reason, made.exit_code) == ("why", code)
