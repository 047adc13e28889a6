"""claude-local serve: the model behind a fixed port for as long as this runs, with a line for each request."""

import itertools
import os
import signal
import socket
import threading
import time
from typing import Any

from rich.console import Console
from rich.text import Text

from shim.commands.global_mode import check_port
from shim.commands.parsing import Parser
from shim.errors import CANNOT_CREATE, UNAVAILABLE, Failure, say
from shim.global_mode.state import Folder, State
from shim.lease import request as lease_request
from shim.lease import spawn, token
from shim.lease.attach import Lease
from shim.lease.control_client import directory
from shim.relay import log, server
from shim.relay.access import Refusal, parse
from shim.relay.lease_keeper import ATTEMPTS, Holder
from shim.relay.port import BACKLOG
from shim.terminal import console as screen
from shim.terminal.console import plain
from sidecar.shared import config
from sidecar.shared.config import Config
from sidecar.shared.protocol import LeaseRequest

EXAMPLES = (
    ("claude-local serve", "until Ctrl-C; each request is shown"),
    ("claude-local serve --port 8080", "at another port than the configuration's"),
)


def parser() -> Parser:
    made = Parser("serve", EXAMPLES)
    made.add_argument("--port", type=int, metavar="N", help="the port, instead of the configuration's")
    return made


def run(arguments: list[str]) -> int:
    options, settings = parser().parse_args(arguments), config.load()
    port = check_port(settings.port if options.port is None else options.port)
    folder = Folder(settings.data.absolute() / "global")
    with listen(port, folder) as listener, folder.borrowed() as secret:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup's word counts
                signal.signal(number, signal.default_int_handler)  # a kill is a Ctrl-C, and so is a closed terminal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a sidecar that we started and that dies leaves no zombie
        try:
            serve(listener, port, secret, folder, settings)
        except KeyboardInterrupt:
            print()
    return 0


def listen(port: int, folder: Folder) -> socket.socket:
    """The listening socket; raises Failure."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as error:
        state = State.load(folder)
        who = "global mode has it. " if state and state.port == port else ""
        raise Failure(
            f"port {port}: {os.strerror(error.errno or 0)}. {who}Another one: claude-local serve --port N",
            CANNOT_CREATE,
        ) from None


def serve(listener: socket.socket, port: int, secret: str, folder: Folder, settings: Config) -> None:
    """Serve until interrupted; raises Failure when the model cannot be had."""
    place, here, console = directory(), os.getcwd(), screen.console()
    model = lease_request.model_name(settings.model)
    request = LeaseRequest(token.digest(secret), os.getpid(), "claude-local serve", here, port, model, follow=True)
    holder = Holder(place, request, lambda limit: spawn.start(place, settings.logs.absolute(), here, limit))
    lease = holder.ensure()
    lease.followed = True
    known = lease_request.limits(itertools.chain([lease.granted], lease.events), settings)
    post = server.Post(
        port,
        secret,
        log.logger(str(settings.logs.absolute())),
        refused=lambda head, refusal: show(console, turned_away(head, refusal)),
    )
    threading.Thread(target=server.serve, args=(listener, holder, post), daemon=True).start()
    console.print(f"{known.model} at http://127.0.0.1:{port}, context {known.context_window:,} tokens", style="bold")
    console.print(f"The token is in {folder.token}. In another terminal:", soft_wrap=True)
    export = f'export ANTHROPIC_BASE_URL=http://127.0.0.1:{port} ANTHROPIC_AUTH_TOKEN="$(cat {folder.token})"'
    console.print(f"  {export}", soft_wrap=True)
    console.print("Ctrl-C ends it.", style="dim")
    follow(console, holder, lease)


def follow(console: Console, holder: Holder, lease: Lease) -> None:
    """Show what comes, through as many sidecars as it takes; raises Failure."""
    deaths = 0
    while True:
        for event in lease.events:
            if event.event == "failed":
                raise Failure(event.reason, event.exit_code or UNAVAILABLE)
            if event.request is not None:
                show(console, event.request)
            if event.event == "ready":
                deaths = 0
        deaths += 1
        if deaths > ATTEMPTS:
            raise Failure(f"the sidecar died {deaths} times before the model was ready: claude-local logs")
        say("the sidecar has ended; it is being started again")
        lease = holder.ensure()
        lease.followed = True


def turned_away(head: bytes, refusal: Refusal) -> dict[str, Any]:
    """Who did not get in: what is to be shown of it."""
    try:
        method, target, _ = parse(head)
    except Refusal:
        method, target = b"?", b"?"
    path = target.partition(b"?")[0].decode("latin-1")
    return {"method": method.decode("latin-1"), "path": path, "status": refusal.status, "why": refusal.message}


def show(console: Console, request: dict[str, Any]) -> None:
    """One line; what a client may have written into it cannot move the cursor."""
    console.print(line(request, time.strftime("%H:%M:%S")), soft_wrap=True)


def line(request: dict[str, Any], now: str) -> Text:
    """A request that has ended, for people. Pure."""
    status = int(request.get("status") or 0)
    text = Text(f"{now}  ", style="dim")
    text.append(f"{plain(request.get('method'))} {plain(request.get('path'))}", style="bold not dim")
    text.append(f"  {status or 'the client left'}", style="not dim " + ("green" if 200 <= status < 400 else "red"))
    for part in _parts(request):
        text.append(f"  {part}", style="not dim")
    return text


def _parts(request: dict[str, Any]) -> list[str]:
    parts = [plain(request["model"])] if request.get("model") else []
    parts += [f"{request[key]:,} {key}" for key in ("read", "cached", "written") if key in request]
    parts += [f"{request['tokens_per_s']:,.0f} tokens/s"] if request.get("tokens_per_s") else []
    parts += [f"{request['seconds']:.1f} s"] if "seconds" in request else []
    return parts + ([plain(request["why"])] if request.get("why") else [])
