"""A lease of our own and questions under it: the Messages API on the sidecar's Unix socket, without a relay.

Starts a sidecar where none runs, as any command does. What a session asks ends with the process that asked.
"""

import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from shim.errors import DATA, UNAVAILABLE, Failure
from shim.lease import attach, request, spawn, token
from shim.lease.control_client import UnixConnection, directory
from sidecar.shared import config
from sidecar.shared.protocol import LeaseRequest

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
SIDE = {"x-claude-code-session-id": "aside"}
"""With it, and without tools, a request counts as one of those that a client makes on its own account."""
WRONG = ("invalid_request_error", "not_found_error", "request_too_large")
"""The errors that asking again does not help."""
BROKEN = "the answer broke off ({}). Try again; `claude-local logs` may say why"


class Session:
    """Open from its making on; what the model's window is, is known then. Raises Failure."""

    def __init__(self, command: str, model: str = "", gives_way: bool = False, shows: bool = False) -> None:
        """`command`: what status calls this terminal; `model`: instead of the configured one; `gives_way`: whether
        others' conversations go before what is asked here, and are kept in memory before it; `shows`: whether `line`
        is looked at."""
        settings = config.load()
        settings = settings._replace(model=request.model_name(model or settings.model))
        self._place = directory()
        self._token = token.new()
        self._headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        if gives_way:
            self._headers |= SIDE
        folder, logs = request.folder(), settings.logs.absolute()
        self._request = LeaseRequest(
            token.digest(self._token), os.getpid(), command, folder, 0, settings.model, line=shows
        )
        self._start: attach.Start = lambda limit: spawn.start(self._place, logs, folder, limit)
        self._lease = attach.attach(self._place, self._request, self._start)
        try:
            limits = request.limits(self._lease.events, settings)
        except BaseException:
            self._lease.close()
            raise
        self.model, self.context_window, self.output_limit = limits.model, limits.context_window, limits.output_limit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lease.close()

    def renew(self) -> None:
        """Make sure that there is a lease: the sidecar may have ended while nobody asked. Raises Failure."""
        if not self._lease.alive():
            self._lease.close()
            self._lease = attach.attach(self._place, self._request, self._start)

    def line(self) -> str:
        """What the sidecar says of this terminal now; empty when it says nothing."""
        try:
            _, line = self._place.line(os.getpid()).read_text("utf-8").splitlines()
            return line
        except (OSError, ValueError):
            return ""

    def stream(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of one answer, as they come. Leaving off closes the connection, which cancels the request."""
        stopped = False
        with self._asked(MESSAGES, {"stream": True, **body}) as answer:
            for line in answer:  # to the end of the body: who leaves before it gives the request up
                if line.startswith(b"data: "):
                    event: dict[str, Any] = json.loads(line[len(b"data: ") :])
                    if event["type"] == "error":
                        raise failure(event)
                    yield event
                    stopped = event["type"] == "message_stop"
            if not stopped:  # while the sidecar is there it breaks off what the engine's end has broken off
                raise EOFError(f"the {'engine' if self._lease.alive() else 'sidecar'} has ended")

    def count(self, body: dict[str, Any]) -> int:
        """How many tokens a prompt has."""
        with self._asked(COUNT, body) as answer:
            return int(json.loads(answer.read())["input_tokens"])

    @contextmanager
    def _asked(self, path: str, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
        """The answer, if it is none of an error's. One that breaks off while it is read is a Failure."""
        connected = attach.connect(self._place, time.monotonic() + attach.LIMIT)
        if connected is None:
            raise Failure(BROKEN.format("no sidecar is running"))
        connection = UnixConnection(connected)
        try:
            connection.request("POST", path, json.dumps({"model": self.model, **body}), self._headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise failure(json.loads(answer.read()))
            yield answer
        except (OSError, EOFError, ValueError, http.client.HTTPException) as error:
            raise Failure(BROKEN.format(error)) from None
        finally:
            connection.close()


def failure(answer: dict[str, Any]) -> Failure:
    """From the API's error, which comes as an answer or, once a stream has begun, as an event. Pure."""
    error = answer["error"]
    return Failure(error["message"], DATA if error["type"] in WRONG else UNAVAILABLE)
