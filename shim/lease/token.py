"""The invocation's token: made, hashed for the sidecar, compared in constant time.

`secrets`, `hashlib` and `hmac` would do all of this, and load OpenSSL for it: 8 ms and 4 MB in each of the many
relays. The C functions below are the ones that those modules wrap; where an interpreter lacks them, they are used.
"""

import os
from collections.abc import Callable


def new() -> str:
    """256 bits from the kernel, in letters that no header and no shell would misread."""
    return "cl-" + os.urandom(32).hex()


def digest(token: str) -> str:
    """The hex SHA-256 of a token: all that the sidecar ever learns of it."""
    return _sha256()(token.encode()).hexdigest()  # type: ignore[no-any-return, operator]


def equal(one: bytes, other: bytes) -> bool:
    """Compare in constant time, so that timing says nothing about how much of a guess was right."""
    return _compare()(one, other)


def _sha256() -> object:
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]  # Python >= 3.12
    except ImportError:
        try:
            from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11
        except ImportError:
            from hashlib import sha256
    found: object = sha256
    return found


def _compare() -> Callable[[bytes, bytes], bool]:
    try:
        import _operator

        found: Callable[[bytes, bytes], bool] = _operator._compare_digest
    except (ImportError, AttributeError):
        import hmac

        found = hmac.compare_digest
    return found
