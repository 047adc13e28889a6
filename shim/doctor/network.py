"""Ports of this machine, proxies, and the model hub."""

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import psutil

from shim.claude_code.environment import LOOPBACK
from shim.doctor.check import Finding, failure, ok, warning
from shim.doctor.context import Case
from shim.errors import Failure
from shim.global_mode import status
from shim.global_mode.state import Folder
from sidecar.models import hub

PROXY_S = 3.0
LOOPBACK_S = 3.0
HUB_S = 10.0
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def port() -> Finding:
    """Every command gets a port of its own: have one, and reach it."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            number = listener.getsockname()[1]
            with socket.create_connection(("127.0.0.1", number), timeout=LOOPBACK_S) as there:
                listener.settimeout(LOOPBACK_S)
                here, _address = listener.accept()
                with here:
                    here.sendall(b"x")
                    there.recv(1)
    except TimeoutError:
        fix = "allow Python to use 127.0.0.1 in the firewall or security software"
        return failure("a port of 127.0.0.1 can be had, but not reached", fix)
    except OSError as error:
        return failure(
            f"no port of 127.0.0.1 can be had: {error.strerror}",
            "end what holds so many ports (ss -tan, netstat -an), or bring the loopback interface up",
        )
    return ok("127.0.0.1 gives ports, and they are reached")


def standing(case: Case) -> Finding:
    """Global mode: that its port answers while it is on, and could be had while it is off."""
    folder = Folder(case.settings.data.absolute() / "global")
    if folder.token.exists() and folder.token.stat().st_mode & 0o077:
        return failure(f"{folder.token} can be read by others", f"chmod 600 {folder.token}")
    table = status.status(folder, case.settings)
    if "port" in table:
        text = status.describe(table).replace("\n", ";")
        again = "claude-local global on puts it right, claude-local global off ends it"
        return ok(f"on, at {table['url']}") if table["on"] else failure(" ".join(text.split()), again)
    number = case.settings.port
    try:
        status.check_free(number)
    except Failure:
        holder = f"process {_listener(number) or '?'}"
        fix = f"claude-local config set port {number + 1}, or end {holder}"
        return warning(f"off, and its port {number} is taken by {holder}", fix)
    return ok(f"off; its port {number} is free")


def _listener(number: int) -> int | None:
    """Who listens at a port; None where the system does not say."""
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp4"):
            if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == number and each.pid:
                return int(each.pid)
    return None


def proxies(case: Case) -> Finding:
    return judge_proxies(case.environment, _is_reached)


def judge_proxies(environment: Mapping[str, str], reached: Callable[[str, int], bool]) -> Finding:
    """`reached`: whether somebody listens at a host's port."""
    named = {name: environment.get(name) or environment.get(name.upper()) or "" for name in PROXIES}
    named = {name: value for name, value in named.items() if value}
    if not named:
        return ok("none set")
    for name, value in named.items():
        address = urlsplit(value if "://" in value else f"http://{value}")
        if not address.hostname:
            return failure(f"{name} is no address", f"export {name}=http://HOST:PORT, or unset it")
        if not reached(address.hostname, address.port or (443 if address.scheme == "https" else 80)):
            fix = f"correct it, or unset {name} {name.upper()}"
            where = f"{address.hostname}:{address.port}" if address.port else address.hostname
            return failure(f"{name}: nobody answers at {where}, so no download works", fix)
    excepted = (environment.get("no_proxy") or environment.get("NO_PROXY") or "").replace(" ", "").split(",")
    if "*" not in excepted and not {*LOOPBACK} <= {*excepted}:
        text = f"{', '.join(named)} set, and 127.0.0.1 not excepted: claude-local's commands get that by themselves"
        fix = "export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost"
        return warning(f"{text}, other programs do not", fix)
    return ok(f"{', '.join(named)} set and reached; 127.0.0.1 is excepted")


def model_hub(repository: str, is_here: bool) -> Finding:
    """`repository`: empty for a model that is from no hub; `is_here`: whether it is whole on disk."""
    if not repository:
        return ok("not needed: the model is from no hub")
    try:
        hub.greet(repository, HUB_S)
    except hub.Unreachable as error:
        text = f"{hub.address()} cannot be reached: {error.reason}"
        fix = "go online, or look at the proxy; until then: CLAUDE_LOCAL_MODEL=demo"
        if "HF_HUB_OFFLINE" in error.reason:
            fix = "unset HF_HUB_OFFLINE"
    except hub.HubError as error:
        text, _, fix = str(error).partition(": ")
    else:
        return ok(f"{hub.address()} is reached and has {repository}")
    return warning(f"{text}; not needed now, since the model is on disk", fix) if is_here else failure(text, fix)


def _is_reached(host: str, number: int) -> bool:
    with suppress(OSError), socket.create_connection((host, number), timeout=PROXY_S):
        return True
    return False
