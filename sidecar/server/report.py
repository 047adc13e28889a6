"""What /health, /control/status and the terminals' own lines are told: gathered here, put in order in `status`."""

import os
from collections.abc import Iterator

import msgspec
import trio

from sidecar import __version__
from sidecar.documents.unreadable import Unread
from sidecar.http.connection import Connection
from sidecar.memory.guard import GB
from sidecar.memory.monitor import Memory
from sidecar.requests.request_log import History
from sidecar.server.lifecycle import Lifecycle
from sidecar.server.status import health, memory_in_full, queue, sampled, streams
from sidecar.server.status_line import Facts
from sidecar.server.traffic import Traffic
from sidecar.shared.protocol import PROTOCOL
from sidecar.supervisor.engine import Engine


class Report:
    """Looks at everything, changes nothing."""

    def __init__(
        self, lifecycle: Lifecycle, engine: Engine, memory: Memory, history: History, unread: Unread, traffic: Traffic
    ) -> None:
        self._lifecycle = lifecycle
        self._engine = engine
        self._memory = memory
        self._history = history
        self._unread = unread
        self._traffic = traffic
        self._started = trio.current_time()

    async def health(self, connection: Connection) -> None:
        """503 over a broken engine, for those who read no bodies."""
        shown = health(self._engine.state, self._memory.view, self._lifecycle.leaving)
        status = 503 if shown["status"] == "unhealthy" else 200
        body = msgspec.json.encode({**shown, "version": __version__})
        await connection.respond(status, {"content-type": "application/json"}, body)

    def status(self) -> dict[str, object]:
        """Everything that `claude-local status` shows."""
        now = trio.current_time()
        process = self._engine.process
        model = process.model if process else None
        beat = process.heartbeat if process and not process.gone else None
        ready = process.ready if process else None
        owners = {attempt.number: lease.request.pid for attempt, lease in self._traffic.attempts.items()}
        return {
            "version": __version__,
            "pid": os.getpid(),
            "protocol": PROTOCOL,
            "uptime_s": round(now - self._started, 1),
            "model": {
                "name": model.name if model else None,
                "state": self._engine.state,
                "context_window": model.limits.context_window if model else None,
                "output_limit": model.limits.output_limit if model else None,
                "weights_bytes": model.files.weights_bytes if model else None,
                "cache_bytes": model.limits.cache_bytes if model else None,
                "kv_bits": ready.kv_bits if ready else None,
                "one_by_one": ready.one_by_one if ready else None,
                "sampling": sampled(ready) if ready else None,
            },
            "leases": [lease.describe(now) for lease in self._lifecycle.leases],
            "requests": {
                "running": self._lifecycle.leases.running,
                "waiting": beat.waiting if beat else 0,
                "total": self._lifecycle.leases.served,
                "queue": queue(beat.queue, owners) if beat else [],
                "streams": streams(beat.streams, owners) if beat else [],
            },
            "tokens": self._history.tokens(),
            "remarks": dict(self._unread.counts),
            "memory": memory_in_full(self._memory.view, beat, self._traffic.refused),
            "recent": self._history.recent(),
            "engine": {"pid": process.pid if process else None, "state": self._engine.state},
        }

    def lines(self) -> Iterator[tuple[int, Facts]]:
        """What each terminal that shows it has to know of itself, by its process."""
        process, view = self._engine.process, self._memory.view
        beat = process.heartbeat if process and not process.gone else None
        for lease, rate in self._traffic.rates.items():
            own = {attempt.number for attempt, owner in self._traffic.attempts.items() if owner is lease}
            streams = tuple(each for each in (beat.streams if beat else ()) if each.id in own)
            queue = tuple(each for each in (beat.queue if beat else ()) if each.id in own)
            facts = (lease.request.model, self._engine.state, streams, queue, self._traffic.running[lease], rate)
            yield lease.request.pid, Facts(*facts, view.level.label, view.sample.available / GB)
