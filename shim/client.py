"""The words of claude-local itself: help, version, status, stop, cache. HTTP on the Unix socket; it starts nothing."""

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from shim import attach
from shim.failure import UNAVAILABLE, USAGE, Failure
from sidecar import __version__, config, control
from sidecar.control import RunDirectory

SECONDS = 10.0
"""For an answer of a sidecar that is alive; it needs milliseconds."""

RECENT = 3
"""Answered requests that a status lists, the newest last."""
SHOWN = 5
"""Waiting requests that a status lists."""

HELP = """\
usage: claude-local [COMMAND [ARGUMENT …]]

Runs COMMAND against a language model on this machine. Without COMMAND, or when the first argument begins
with "-", it is Claude Code:  claude-local --print "Hello in 5 words"

  claude-local status [--json]    what runs: model, memory, terminals
  claude-local stop [--now]       end it, after the running answers, or at once
  claude-local cache [clear]      what has been read and lies on disk: list it, or erase all of it
  claude-local version            the version of claude-local
  claude-local help               this text
  claude-local -- COMMAND …       COMMAND, even if it is one of the words above

Settings: environment variables CLAUDE_LOCAL_… or {config}
  CLAUDE_LOCAL_MODEL       phi-3-mini, demo, a hub id (org/name) or a folder
  CLAUDE_LOCAL_GRACE       seconds from the last terminal to the end; 0 = at once, never
  CLAUDE_LOCAL_UNLOAD      seconds without a request until the model leaves memory
  CLAUDE_LOCAL_NO_INSTALL  1 = never install Claude Code, say how instead
"""


def run(word: str, arguments: list[str]) -> int:
    """Do what the word says; returns the exit code, raises Failure."""
    return WORDS[word](arguments)


def help_(arguments: list[str]) -> int:
    _options(arguments, ())
    sys.stdout.write(HELP.replace("{config}", str(config.config_file())))
    return 0


def version(arguments: list[str]) -> int:
    _options(arguments, ())
    print(f"claude-local {__version__}")
    return 0


def status(arguments: list[str]) -> int:
    """A table for people, or JSON for scripts. That nothing runs is an answer, not a failure."""
    as_json = "--json" in _options(arguments, ("--json",))
    table = _ask("GET", control.STATUS_PATH)
    if as_json:
        print(json.dumps({"running": False} if table is None else {"running": True, **table}))
    else:
        print("nothing runs" if table is None else describe(table))
    return 0


def stop(arguments: list[str]) -> int:
    """Ask the sidecar to end, and wait until it has let go of its socket."""
    now = "--now" in _options(arguments, ("--now",))
    directory = _directory()
    if _ask("POST", control.STOP_PATH, {"now": now}) is None:
        _stop_leaving(directory, now)
        return 0
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        connection = attach.connect(directory, deadline)
        if connection is None:
            print("stopped" if now else "stopping: running answers are finished first")
            return 0
        connection.close()
        time.sleep(0.02)
    print("stopping")
    return 0


def _stop_leaving(directory: RunDirectory, now: bool) -> None:
    """A sidecar that finishes its answers has no socket any more; its life lock names it."""
    pid = attach.holder(directory)
    if pid is None:
        print("nothing runs")
        return
    if not now:
        print(f"stopping: sidecar {pid} finishes its running answers first (--now cuts them off)")
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)  # its second request to stop: that means now
    deadline = time.monotonic() + SECONDS
    while attach.holder(directory) == pid and time.monotonic() < deadline:
        time.sleep(0.02)
    print("stopped" if attach.holder(directory) != pid else f"sidecar {pid} does not end: kill -9 {pid}")


def cache(arguments: list[str]) -> int:
    """List the prefixes on disk, or erase them: the ones that a sidecar has in memory as well."""
    from shim import cache as files

    folder = config.load().prefixes
    if not _options(arguments, ("clear",)):
        print(
            files.describe(files.found(folder), time.time()) if folder else "nothing is kept on disk: disk_cache is off"
        )
        return 0
    try:
        _ask("POST", control.FORGET_PATH)
    finally:
        erased = files.erase(folder) if folder else 0
    print(f"erased {files.size(erased)}")
    return 0


WORDS: dict[str, Callable[[list[str]], int]] = {
    "help": help_,
    "version": version,
    "status": status,
    "stop": stop,
    "cache": cache,
}


def describe(table: dict[str, Any]) -> str:
    """The status as a few lines of text. Pure; a key that an older or newer sidecar lacks is left out."""
    model, engine = table.get("model") or {}, table.get("engine") or {}
    memory, requests = table.get("memory") or {}, table.get("requests") or {}
    leases = table.get("leases") or []
    rows = [
        ("sidecar", _sidecar(table)),
        ("model", _model(model)),
        ("engine", f"{engine.get('state', '?')}" + (f", pid {engine['pid']}" if engine.get("pid") else "")),
        ("memory", ", ".join(_memory(memory))),
        ("requests", _requests(requests)),
        ("prompts", f"\n{'':10}".join(map(_recent, (table.get("recent") or [])[-RECENT:]))),
        ("terminals", str(len(leases)) if leases else "none"),
    ]
    lines = [f"{name:<10}{text}" for name, text in rows if text]
    return "\n".join(lines + [f"  {_lease(lease)}" for lease in leases])


def _recent(request: dict[str, Any]) -> str:
    """Where the tokens of a prompt came from."""
    names = (("from_memory", "from memory"), ("from_disk", "from disk"), ("read", "read"))
    parts = [f"{request[key]:,} {text}" for key, text in names if request.get(key)]
    why = f"; what differs: {request['why']}" if request.get("why") else ""
    waited = f", first word after {request['first_token_s']:.1f} s" if "first_token_s" in request else ""
    return f"{request.get('priority', '?')}: {', '.join(parts) or 'nothing read'}{waited}{why}"


def _requests(requests: dict[str, Any]) -> str:
    counts = ", ".join(f"{requests[key]} {key}" for key in ("running", "waiting", "total") if key in requests)
    queue = requests.get("queue") or []
    lines = [
        f"{each.get('position', '?')}. {each.get('priority', '?')}, {each.get('prompt_tokens', '?')} tokens, "
        f"for {span(each.get('waited_s'))}, begins in about {span(each.get('expected_s'))}"
        for each in queue[:SHOWN]
    ]
    if len(queue) > SHOWN:
        lines.append(f"and {len(queue) - SHOWN} more")
    return "".join([counts, *(f"\n{'':10}{line}" for line in lines)])


def span(seconds: object) -> str:
    """A duration in the two units that matter."""
    if not isinstance(seconds, (int, float)):
        return "?"
    whole = int(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {name}"
    return f"{whole} s"


def _sidecar(table: dict[str, Any]) -> str:
    return f"version {table.get('version', '?')}, pid {table.get('pid', '?')}, up {span(table.get('uptime_s'))}"


def _model(model: dict[str, Any]) -> str:
    text = f"{model.get('name') or 'none yet'}, {model.get('state', '?')}"
    text += f", context {model['context_window']:,} tokens" if model.get("context_window") else ""
    text += f", KV caches in {model['kv_bits']} bits" if model.get("kv_bits", 16) not in (16, None) else ""
    return text + (f", one stream at a time ({model['one_by_one']})" if model.get("one_by_one") else "")


def _memory(memory: dict[str, Any]) -> list[str]:
    parts = [str(memory["status"])] if memory.get("status") else []
    names = (("available_gb", "available"), ("used_gb", "used by claude-local"), ("engine_gb", "of it by the engine"))
    parts += [f"{memory[key]} GB {text}" for key, text in names if memory.get(key) is not None]
    acts = (("shed", "times caches given back"), ("refused", "requests refused"), ("evacuated", "times model given up"))
    return parts + [f"{memory[key]} {text}" for key, text in acts if memory.get(key)]


def _lease(lease: dict[str, Any]) -> str:
    strength = "" if lease.get("strong", True) else ", command ended, its children hold on"
    return (
        f"{lease.get('command', '?')} (pid {lease.get('pid', '?')}, port {lease.get('port', '?')}, "
        f"{span(lease.get('since_s'))}) in {lease.get('folder') or '?'}{strength}"
    )


def _options(arguments: list[str], known: tuple[str, ...]) -> list[str]:
    for argument in arguments:
        if argument not in known:
            allowed = f" ({', '.join(known)} is possible)" if known else ""
            raise Failure(f"{argument}: not an option of this word{allowed}. See: claude-local help", USAGE)
    return arguments


def _directory() -> RunDirectory:
    settings = config.load()
    return control.run_directory(os.path.abspath(settings.run_dir) if settings.run_dir else "")


class _UnixConnection(http.client.HTTPConnection):
    """http.client on a connection that exists already."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__("localhost")
        self.sock = connection


def _ask(method: str, path: str, body: object = None) -> dict[str, Any] | None:
    """One question to the sidecar that runs; None when there is none."""
    connection = attach.connect(_directory(), time.monotonic() + SECONDS)
    if connection is None:
        return None
    connection.settimeout(SECONDS)
    asking = _UnixConnection(connection)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        asking.request(method, path, None if body is None else json.dumps(body), headers)
        answer = asking.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise Failure(f"the sidecar answered {answer.status} to {path}", UNAVAILABLE)
        table = json.loads(text)
    except TimeoutError:
        raise Failure(f"the sidecar does not answer within {SECONDS:.0f} s; its pid: {_pid(connection)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failure(f"the sidecar's answer broke off: {error}") from None
    finally:
        asking.close()
    return table if isinstance(table, dict) else {}


def _pid(connection: socket.socket) -> str:
    """Of the process at the other end, for the user to look at, where the system says it."""
    import struct

    if not hasattr(socket, "SO_PEERCRED"):
        return "unknown"
    return str(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
