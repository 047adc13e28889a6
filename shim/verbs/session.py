"""A lease of our own and questions under it: the Messages API on the sidecar's Unix socket, without a relay.

Starts a sidecar where none runs, as any command does. What a session asks ends with the process that asked.
"""

import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Self

from shim import attach, launch, spawn, token
from shim.failure import DATA, UNAVAILABLE, Failure
from shim.verbs.asking import UnixConnection, directory
from sidecar import config
from sidecar.control import LeaseRequest

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"


class Session:
    """Open from its making on; what the model's window is, is known then. Raises Failure."""

    def __init__(self, command: str, model: str = "") -> None:
        """`command`: what status calls this terminal; `model`: instead of the configured one."""
        settings = config.load()
        settings = settings._replace(model=launch.model_name(model or settings.model))
        self._place = directory()
        self._token = token.new()
        folder, logs = launch.folder(), settings.logs.absolute()
        request = LeaseRequest(token.digest(self._token), os.getpid(), command, folder, 0, settings.model)
        _detach()
        self._lease = attach.attach(self._place, request, lambda limit: spawn.start(self._place, logs, folder, limit))
        try:
            limits = launch.limits(self._lease.events, settings)
        except BaseException:
            self._lease.close()
            raise
        self.model, self.context_window, self.output_limit = limits.model, limits.context_window, limits.output_limit

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lease.close()

    def stream(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of one answer, as they come. Leaving off closes the connection, which cancels the request."""
        connection = self._connect()
        try:
            answer = self._post(connection, MESSAGES, {"model": self.model, "stream": True, **body})
            for line in answer:
                if line.startswith(b"data: "):
                    event: dict[str, Any] = json.loads(line[len(b"data: ") :])
                    if event["type"] == "error":
                        raise Failure(event["error"]["message"])
                    yield event
                    if event["type"] == "message_stop":
                        return
            raise Failure("the answer broke off: the sidecar ended. Try again; `claude-local logs` may say why")
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"the answer broke off ({error}). Try again; `claude-local logs` may say why") from None
        finally:
            connection.close()

    def count(self, body: dict[str, Any]) -> int:
        """How many tokens a prompt has."""
        connection = self._connect()
        try:
            answer = self._post(connection, COUNT, {"model": self.model, **body})
            return int(json.loads(answer.read())["input_tokens"])
        finally:
            connection.close()

    def _connect(self) -> UnixConnection:
        connection = attach.connect(self._place, time.monotonic() + attach.LIMIT)
        if connection is None:
            raise Failure("the sidecar has ended. Try again; `claude-local logs` may say why")
        return UnixConnection(connection)

    def _post(self, connection: UnixConnection, path: str, body: dict[str, Any]) -> http.client.HTTPResponse:
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            text = answer.read()
            with suppress(ValueError, KeyError, TypeError):
                text = json.loads(text)["error"]["message"]
            reason = text if isinstance(text, str) else f"the sidecar answered {answer.status}"
            # What the request says is wrong, or there is no room for it now.
            raise Failure(reason, DATA if answer.status in (400, 404, 413) else UNAVAILABLE)
        return answer


def _detach() -> None:
    """What a sidecar that we may start must not keep: our folder, our umask, what the shell had open beyond stdio."""
    os.chdir("/")
    os.umask(0o077)
    with suppress(OSError):
        for name in os.listdir("/dev/fd"):
            if int(name) > 2:
                with suppress(OSError):
                    os.set_inheritable(int(name), False)
