"""One question to the sidecar that runs: HTTP on its Unix socket. It starts nothing."""

import http.client
import json
import os
import socket
import struct
import time
from typing import Any

from shim.errors import UNAVAILABLE, Failure
from shim.lease import attach
from sidecar.shared import config, run_directory
from sidecar.shared.run_directory import RunDirectory

SECONDS = 10.0
"""For an answer of a sidecar that is alive; it needs milliseconds."""


def ask(method: str, path: str, body: object = None) -> dict[str, Any] | None:
    """The answer's JSON object; None when no sidecar runs. Raises Failure when one does not answer."""
    connection = attach.connect(directory(), time.monotonic() + SECONDS)
    if connection is None:
        return None
    connection.settimeout(SECONDS)
    asking = UnixConnection(connection)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        asking.request(method, path, None if body is None else json.dumps(body), headers)
        answer = asking.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Failure(f"the sidecar answered {answer.status} to {path}", UNAVAILABLE)
        table = json.loads(text)
    except TimeoutError:
        raise Failure(f"the sidecar does not answer within {SECONDS:.0f} s; its pid: {_pid(connection)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failure(f"the sidecar's answer broke off: {error}") from None
    finally:
        asking.close()
    return table if isinstance(table, dict) else {}


def directory() -> RunDirectory:
    """The run directory; raises RunDirectoryError where it is not ours alone."""
    settings = config.load()
    return run_directory.run_directory(os.path.abspath(settings.run_dir) if settings.run_dir else "")


class UnixConnection(http.client.HTTPConnection):
    """http.client on a connection that exists already."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = connection


def _pid(connection: socket.socket) -> str:
    """Of the process at the other end, for the user to look at, where the system says it."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "unknown"
    return str(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
