"""What a lease is asked for with, and what the sidecar says until its model is known."""

import os
from collections.abc import Iterable

from shim.errors import INTERNAL, UNAVAILABLE, Failure, say
from sidecar.shared.config import Config
from sidecar.shared.protocol import LeaseEvent


def model_name(model: str) -> str:
    """A relative path made absolute, since the sidecar lives in another folder; a name stays a name.

    `name` and `org/name` mean an alias and a hub id, unless there is such a model right here.
    """
    is_path = model.startswith(("./", "../", "~")) or model in (".", "..")
    if is_path or os.path.isfile(os.path.join(model, "config.json")):
        return os.path.abspath(os.path.expanduser(model))
    return model


def limits(events: Iterable[LeaseEvent], settings: Config) -> LeaseEvent:
    """Follow a lease until the model's limits are known; raises Failure with what went wrong instead."""
    bar = None
    for event in events:
        if event.event == "downloading":
            if bar is None:
                from shim.terminal.progress import Progress

                bar = Progress(f"downloading {event.model or settings.model}", os.isatty(2))
            bar.show(event.done, event.total)
            continue
        if bar is not None:
            bar.finish()
        if event.event in ("failed", "refused"):
            raise Failure(event.reason or "the sidecar gave no reason", event.exit_code or UNAVAILABLE)
        if event.context_window:
            if bar is not None:
                say(f"{event.model} is here; it is loaded now")
            return event
    raise Failure(f"the relay ended before the model was there; its log is {settings.logs / 'relay.log'}", INTERNAL)


def folder() -> str:
    """Where the user is."""
    try:
        return os.getcwd()
    except OSError:
        return ""  # removed under our feet; the command may not mind
