"""What the holder of a lease is told while its model is made ready: granted, downloading, loading, ready or failed."""

from collections.abc import Callable

import trio

from sidecar.errors import Unavailable
from sidecar.http.connection import Connection
from sidecar.models.library import Library, LocalModel
from sidecar.models.resolve import ModelUnavailable
from sidecar.server.leases import Lease
from sidecar.shared.protocol import LeaseEvent
from sidecar.supervisor.engine import Engine

EX_TEMPFAIL = 75
"""sysexits.h: not now, perhaps later."""
TELL_S = 0.2
"""Between two lines about a download."""


async def welcome(
    connection: Connection, lease: Lease, library: Library, engine: Engine, prepared: Callable[[], None]
) -> None:
    """Get the model, load it, and have made ready what prompts of the lease's folder begin with. `prepared` is called
    as soon as the model is in memory."""
    name = lease.request.model

    async def say(event: LeaseEvent) -> None:
        await connection.send(event.encode())

    await say(LeaseEvent("granted", model=name))
    try:
        model = await _get(connection, library, name)
        engine.check_room(model)
        window, longest = model.limits.context_window, model.limits.output_limit
        loading = LeaseEvent("loading", name, window, longest, speed=library.speeds.best(name))
        await say(loading)
        async with engine.use(model) as process:
            prepared()
            await process.prewarm(lease.place)
        await say(loading._replace(event="ready"))
    except ModelUnavailable as error:
        await say(LeaseEvent("failed", reason=str(error), exit_code=error.exit_code))
    except Unavailable as error:
        await say(LeaseEvent("failed", reason=str(error), exit_code=EX_TEMPFAIL))


async def _get(connection: Connection, library: Library, name: str) -> LocalModel:
    """The model; the progress of its download is passed on."""

    async def tell() -> None:
        while True:
            await trio.sleep(TELL_S)
            fetch = library.fetches.get(name)
            if fetch is not None and fetch.total:
                await connection.send(LeaseEvent("downloading", done=fetch.done, total=fetch.total).encode())

    failure: ModelUnavailable | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        try:
            model = await library.get(name)
        except ModelUnavailable as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return model
