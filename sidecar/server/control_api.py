"""What the shim asks of the sidecar, under /control/: leases, stop, forget."""

import logging
import os
from collections.abc import AsyncIterator

import msgspec
import trio

from sidecar import __version__
from sidecar.errors import InvalidRequest
from sidecar.http.connection import Connection, Request
from sidecar.models.library import Library
from sidecar.server.lease_events import EX_TEMPFAIL, welcome
from sidecar.server.leases import Lease
from sidecar.server.lifecycle import Lifecycle
from sidecar.server.request_feed import Followers
from sidecar.server.traffic import Traffic
from sidecar.shared.protocol import PROTOCOL, LeaseEvent, LeaseRequest
from sidecar.supervisor.engine import Engine

log = logging.getLogger(__name__)


class ControlApi:
    """One method for each path but the status."""

    def __init__(
        self, lifecycle: Lifecycle, library: Library, engine: Engine, followers: Followers, traffic: Traffic
    ) -> None:
        self._lifecycle = lifecycle
        self._library = library
        self._engine = engine
        self._followers = followers
        self._traffic = traffic

    async def lease(self, connection: Connection, request: Request) -> None:
        try:
            protocol = LeaseRequest.protocol_of(request.body)
            wanted = LeaseRequest.decode(request.body) if protocol == PROTOCOL else None
        except ValueError as error:
            raise InvalidRequest(str(error)) from None
        await connection.begin(200, {"content-type": "application/x-ndjson"})
        if self._lifecycle.leaving or wanted is None:
            said = self._turned_away(protocol)
            await connection.send(said.encode())
            await connection.finish()
            if said.event == "retry" and not self._lifecycle.leaving:
                self._lifecycle.leave()
            return
        lease = self._lifecycle.leases.grant(wanted, trio.current_time())
        self._lifecycle.tell()
        log.info("lease granted: pid %d, %s, port %d", wanted.pid, wanted.command, wanted.port)
        if wanted.line and wanted.strong:
            self._traffic.rates[lease] = 0.0
        try:
            with self._followers.following(lease) as lines:
                await connection.while_connected(lambda: self._welcome(connection, lease, lines))
        finally:
            self._lifecycle.leases.release(lease, trio.current_time())
            self._traffic.rates.pop(lease, None)
            self._lifecycle.tell()

    @property
    def _in_use(self) -> bool:
        return bool([*self._lifecycle.leases]) or self._lifecycle.leases.running > 0

    def _turned_away(self, protocol: object) -> LeaseEvent:
        """A newer claude-local replaces an idle sidecar; an older one, whose relay has outlived an update, does not:
        the next sidecar would be no older. Nobody's session is ended for either."""
        here = f"the sidecar that runs (version {__version__}, pid {os.getpid()})"
        if not self._lifecycle.leaving and isinstance(protocol, int) and protocol < PROTOCOL:
            reason = f"{here} is newer than this command: start the command again"
        elif self._lifecycle.leaving or not self._in_use:
            return LeaseEvent("retry", protocol=PROTOCOL)
        else:
            reason = (
                f"{here} is of another version and in use: end its terminals first, or run `claude-local stop --now`"
            )
        return LeaseEvent("refused", reason=reason, exit_code=EX_TEMPFAIL, protocol=PROTOCOL)

    async def _welcome(self, connection: Connection, lease: Lease, lines: AsyncIterator[LeaseEvent]) -> None:
        await welcome(connection, lease, self._library, self._engine, self._prepared)
        async for said in lines:
            await connection.send(said.encode())

    def _prepared(self) -> None:
        self._lifecycle.leases.touch(trio.current_time())  # a long load is no idleness
        self._lifecycle.tell()

    async def forget(self, connection: Connection) -> None:
        await self._engine.drop()
        await connection.respond_json({"forgotten": True})

    async def stop(self, connection: Connection, request: Request) -> None:
        try:
            now = bool(msgspec.json.decode(request.body or b"{}", type=dict[str, bool]).get("now"))
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f'the body is not like {{"now": true}}: {error}') from None
        await connection.respond_json({"stopping": True, "running": self._lifecycle.leases.running})
        self._lifecycle.leave(now)
