"""What shim and sidecar say to each other: the lease protocol.

Standard library only, since the shim imports it in the fast path; named tuples, since importing dataclasses takes
the shim 15 ms and each relay 2 MB. The HTTP around these lines is ordinary HTTP/1.1 on a Unix socket; this file is the
only place where the lines are spelled.
"""

import json
from typing import Any, NamedTuple, Self

from sidecar import __version__

PROTOCOL = 1
"""Raised when a line below changes its meaning: shim and sidecar of different protocols do not talk."""

CONTROL = "/control/"
"""What begins so is for the shim alone, never for a client of a relay's port."""
LEASE_PATH = "/control/lease"
STATUS_PATH = "/control/status"
STOP_PATH = "/control/stop"
FORGET_PATH = "/control/forget"

GLOBAL = "global mode"
"""The command of a lease that stands for all terminals."""


def split_target(target: str) -> tuple[str, str]:
    """A request target's authority (empty in the usual form) and the rest of it. Both sides must read it alike, since
    one judges what the other serves."""
    scheme, mark, rest = target.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        return "", target
    authority, _, path = rest.partition("/")
    return authority, f"/{path}"


class LeaseRequest(NamedTuple):
    """The JSON body of `POST /control/lease`: who wants the model for as long as the connection stays open."""

    token_sha256: str
    """Hex digest of the invocation's token: the sidecar can check a token without ever holding one."""
    pid: int
    command: str
    """The command's name alone: arguments may hold secrets."""
    folder: str
    port: int
    model: str
    """Alias, hub id or path; the relay resolves relative paths."""
    strong: bool = True
    """A soft lease keeps the token valid, but only its requests count as use."""
    follow: bool = False
    """Whether its holder wants a `request` event for each request."""
    line: bool = False
    """Whether somebody reads `RunDirectory.line` of this pid."""
    protocol: int = PROTOCOL
    build: str = __version__

    def encode(self) -> bytes:
        return json.dumps(self._asdict()).encode()

    @staticmethod
    def protocol_of(body: bytes) -> object:
        """The protocol of whoever sent this, which is all that may be read of another's request."""
        table = json.loads(body)
        return table.get("protocol", PROTOCOL) if isinstance(table, dict) else PROTOCOL

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raises ValueError when the body is not a lease request; unknown keys are a newer client's and ignored."""
        table = json.loads(body)
        if not isinstance(table, dict):
            raise ValueError("a lease request is a JSON object")
        try:
            return cls(**{name: table[name] for name in cls._fields if name in table})
        except TypeError as error:
            raise ValueError(f"not a lease request: {error}") from None


class LeaseEvent(NamedTuple):
    """One line of the answer to a lease request.

    event: `granted` | `retry` (this sidecar is leaving: start over) | `refused` (reason), then
    `downloading` (done and total bytes), `loading` and `ready` (the model's name, limits and speed; from `loading` on
    the weights are on disk) | `failed` (reason, exit_code). At any time `request`, to who follows.
    """

    event: str
    model: str = ""
    context_window: int = 0
    output_limit: int = 0
    done: int = 0
    total: int = 0
    speed: int = 0
    """Prompt tokens that this machine reads in a second with the model; 0 = not measured yet."""
    reason: str = ""
    exit_code: int = 0
    """What the launcher exits with after `failed` or `refused`; from sysexits.h."""
    protocol: int = 0
    """Of the sidecar that says `retry` or `refused`."""
    request: dict[str, Any] | None = None
    """One that has ended: method, path, status and seconds, and of an answer its tokens."""

    def encode(self) -> bytes:
        table = {name: value for name, value in self._asdict().items() if value not in ("", 0, None)}
        return json.dumps(table).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        table: dict[str, Any] = json.loads(line)
        return cls(**{name: table[name] for name in cls._fields if name in table})
