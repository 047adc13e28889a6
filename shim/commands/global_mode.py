"""claude-local global: every terminal's `claude` uses the local model, until it is turned off.

On: first everything that a client will need (model, token, a port that answers), the user's settings last. Off: the
other way round. Each may be killed anywhere and called again.
"""

import itertools
import json
import os
import shutil

from shim.claude_code import install, profile
from shim.commands.parsing import Parser
from shim.errors import USAGE, Failure
from shim.global_mode import overrides, port_holders
from shim.global_mode.settings_file import Settings
from shim.global_mode.state import Folder, State
from shim.global_mode.status import check_free, describe, health, status
from shim.lease import attach, spawn, token
from shim.lease import request as lease_request
from shim.lease.control_client import directory
from shim.terminal.console import tell
from sidecar.shared import config
from sidecar.shared.config import Config
from sidecar.shared.protocol import LeaseEvent, LeaseRequest

EXAMPLES = (
    ("claude-local global on", "every terminal's `claude` uses the local model"),
    ("claude-local global", "whether it is on, the port, the files"),
    ("claude-local global off", "`claude` goes where it went before"),
)


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
            on(folder, settings, port, port_holders.Relay() if options.detached else port_holders.find())
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


def on(folder: Folder, settings: Config, port: int, holder: port_holders.Holder) -> None:
    """Turn it on, or change how it is on; raises Failure. To be called under the folder's lock."""
    preferences = Settings(folder.journal)
    preferences.check()
    before = State.load(folder)
    secret = folder.make_token()
    model = lease_request.model_name(settings.model)
    known = limits(settings, secret, port, model)
    if before and (before.port, before.holder) != (port, holder.name):
        port_holders.named(before.holder).end(folder)
    if not before or before.port != port:
        check_free(port)
    State(port, model, holder.name, spawn.environment(os.environ, os.getcwd())).save(folder)
    holder.begin(port, folder)
    if health(port) is None:
        raise Failure(f"port {port} does not answer; the relay's log is {settings.logs / 'relay.log'}")
    preferences.on(
        lambda table: overrides.wanted(
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


def holding(folder: Folder) -> list[port_holders.Holder]:
    """Who has the port; each that may have it where the state cannot be read."""
    try:
        state = State.load(folder)
    except Failure:
        return [port_holders.Systemd(), port_holders.Launchd(), port_holders.Relay()]
    return [port_holders.named(state.holder if state else "")]


def limits(settings: Config, secret: str, port: int, model: str) -> LeaseEvent:
    """What the client must be told of the model, which is on disk then; raises Failure."""
    place, here = directory(), os.getcwd()
    request = LeaseRequest(token.digest(secret), os.getpid(), "claude-local global", here, port, model)
    lease = attach.attach(place, request, lambda limit: spawn.start(place, settings.logs.absolute(), here, limit))
    try:
        return lease_request.limits(itertools.chain([lease.granted], lease.events), settings)
    finally:
        lease.close()
