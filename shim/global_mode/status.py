"""What is known of global mode: whether it is on, who has its port, and what answers there."""

import http.client
import json
import os
import socket
from typing import Any

from shim.errors import CANNOT_CREATE, Failure
from shim.global_mode import port_holders
from shim.global_mode.settings_file import Settings
from shim.global_mode.state import Folder, State
from shim.lease import request
from sidecar.shared.config import Config

ANSWER_S = 20.0
"""For the relay's first answer: it has to be started."""


def check_free(port: int) -> None:
    """Raises Failure where another program listens."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        raise Failure(
            f"port {port}: {os.strerror(error.errno or 0)}. Another one: claude-local global on --port N", CANNOT_CREATE
        ) from None


def health(port: int) -> dict[str, Any] | None:
    """What the port says of itself, without a token; None where nothing answers, or something else does."""
    asking = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        asking.request("GET", "/health")
        table = json.loads(asking.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        asking.close()
    return table if isinstance(table, dict) and "engine" in table else None


def status(folder: Folder, settings: Config) -> dict[str, Any]:
    """Everything that is known. Looking at the port may start its relay, and never a model."""
    preferences = Settings(folder.journal)
    state = State.load(folder)
    if state is None:
        return {"on": preferences.is_on, "settings": preferences.path}
    answer = health(state.port)
    return {
        "on": preferences.is_on and answer is not None,
        "settings": preferences.path,
        "in_settings": preferences.is_on,
        "port": state.port,
        "url": f"http://127.0.0.1:{state.port}",
        "holder": state.holder,
        "outdated_service": port_holders.is_outdated(port_holders.named(state.holder)),
        "health": answer.get("status") if answer else None,
        "model": state.model,
        "default_model": request.model_name(settings.model),
        "token_file": str(folder.token),
    }


def describe(table: dict[str, Any]) -> str:
    """The status as lines of text. Pure."""
    if "port" not in table:
        return "global mode is off"
    who = {"relay": "a relay of ours", "systemd": "systemd", "launchd": "launchd"}[table["holder"]]
    lines = [
        f"global mode is {'on' if table['on'] else 'not in order: claude-local global on puts it right, off ends it'}",
        f"  port      {table['url']}, held by {who}" + ("" if table["health"] else "; nothing answers there"),
        f"  model     {table['model']}, {table['health'] or 'unknown'}",
        f"  settings  {table['settings']}" + ("" if table["in_settings"] else "; our keys are not in it"),
        f"  token     {table['token_file']}",
    ]
    if table["outdated_service"]:
        lines.append("An older version wrote the service, which still works: claude-local global on writes it anew")
    if table["model"] != table["default_model"]:
        lines.append(f"The default model is {table['default_model']} now: claude-local global on uses it")
    return "\n".join(lines)
