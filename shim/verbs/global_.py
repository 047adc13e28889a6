"""claude-local global: every terminal's `claude` uses the local model, until it is turned off.

On: first everything that a client will need (model, token, a port that answers), the user's settings last. Off: the
other way round. Each may be killed anywhere and called again.
"""

import http.client
import itertools
import json
import os
import shutil
import socket
from typing import Any

from shim import attach, install, launch, profile, spawn, token
from shim.failure import CANNOT_CREATE, USAGE, Failure
from shim.standing import holders, keys
from shim.standing.settings import Settings
from shim.standing.state import Folder, State
from shim.verbs.asking import directory
from shim.verbs.parsing import Parser
from shim.verbs.screen import tell
from sidecar import config
from sidecar.config import Config
from sidecar.control import LeaseEvent, LeaseRequest

EXAMPLES = (
    ("claude-local global on", "every terminal's `claude` uses the local model"),
    ("claude-local global", "whether it is on, the port, the files"),
    ("claude-local global off", "`claude` goes where it went before"),
)

ANSWER_S = 20.0
"""For the relay's first answer: it has to be started."""


def parser() -> Parser:
    made = Parser("global", EXAMPLES)
    made.add_argument("action", nargs="?", choices=("on", "off", "status"), default="status", help="default: status")
    made.add_argument("--port", type=int, metavar="N", help="with on: the port, instead of the configuration's")
    made.add_argument(
        "--detached", action="store_true", help="with on: a relay that stays holds the port, not systemd or launchd"
    )
    made.add_argument("--json", action="store_true", help="with status: as one JSON object")
    return made


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    settings = config.load()
    folder = Folder(settings.data.absolute() / "global")
    if options.action == "on":
        port = check_port(settings.port if options.port is None else options.port)
        with folder.locked():
            on(folder, settings, port, holders.Relay() if options.detached else holders.find())
    elif options.action == "off":
        off(folder)
    else:
        table = status(folder, settings)
        print(json.dumps(table) if options.json else describe(table))
    return 0


def check_port(port: int) -> int:
    """The port, if it is one; raises Failure."""
    if port not in config.PORTS:
        raise Failure(f"port {port}: choose one from {config.PORTS[0]} to {config.PORTS[-1]}", USAGE)
    return port


def on(folder: Folder, settings: Config, port: int, holder: holders.Holder) -> None:
    """Turn it on, or change how it is on; raises Failure. To be called under the folder's lock."""
    preferences = Settings(folder.journal)
    preferences.check()
    before = State.load(folder)
    secret = folder.make_token()
    model = launch.model_name(settings.model)
    known = limits(settings, secret, port, model)
    if before and (before.port, before.holder) != (port, holder.name):
        holders.named(before.holder).end(folder)
    if not before or before.port != port:
        check_free(port)
    State(port, model, holder.name, spawn.environment(os.environ, os.getcwd())).save(folder)
    holder.begin(port, folder)
    if health(port) is None:
        raise Failure(f"port {port} does not answer; the relay's log is {settings.logs / 'relay.log'}")
    preferences.on(
        lambda table: keys.wanted(
            table, os.environ, folder.token, port, known.model, known.context_window, known.output_limit
        )
    )
    tell(f"global mode is on: `claude` in every terminal uses {known.model} at http://127.0.0.1:{port}")
    if reason := profile.why_not("full", known.context_window, known.speed):
        tell(f"Claude Code's first prompt is large for that: {reason}. `claude-local claude` has it send less.")
    tell(f"Restart a `claude` that runs already. Back to before: claude-local global off  ({preferences.path})")
    if shutil.which("claude") is None:
        private = install.private(settings)
        how = f"ln -s {private} ~/.local/bin/claude" if private.exists() else install.COMMAND
        tell(f"There is no `claude` on your PATH yet: {how}")


def off(folder: Folder) -> None:
    """Turn it off, and remove what it has left; raises Failure. That it is off already is no failure."""
    if not folder.path.exists():
        tell("global mode is off")
        return
    with folder.locked():
        preferences = Settings(folder.journal)
        was_on = preferences.is_known
        preferences.off()
        for holder in holding(folder):
            holder.end(folder)
        folder.clear()
    folder.remove()
    tell("global mode is off: settings are as they were" if was_on else "global mode is off")


def holding(folder: Folder) -> list[holders.Holder]:
    """Who has the port; each that may have it where the state cannot be read."""
    try:
        state = State.load(folder)
    except Failure:
        return [holders.Systemd(), holders.Launchd(), holders.Relay()]
    return [holders.named(state.holder if state else "")]


def limits(settings: Config, secret: str, port: int, model: str) -> LeaseEvent:
    """What the client must be told of the model, which is on disk then; raises Failure."""
    place, here = directory(), os.getcwd()
    request = LeaseRequest(token.digest(secret), os.getpid(), "claude-local global", here, port, model)
    lease = attach.attach(place, request, lambda limit: spawn.start(place, settings.logs.absolute(), here, limit))
    try:
        return launch.limits(itertools.chain([lease.granted], lease.events), settings)
    finally:
        lease.close()


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
        "health": answer.get("status") if answer else None,
        "model": state.model,
        "default_model": launch.model_name(settings.model),
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
    if table["model"] != table["default_model"]:
        lines.append(f"The default model is {table['default_model']} now: claude-local global on uses it")
    return "\n".join(lines)
