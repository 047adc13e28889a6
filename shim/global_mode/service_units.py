"""The texts with which systemd and launchd hold a port for us. Pure. No secret may stand in them: others can read."""

import plistlib
from collections.abc import Sequence
from typing import Any

NAME = "claude-local"
"""Of the systemd units."""

LABEL = "claude-local.global"
"""Of the launchd agent."""

SOCKET_NAME = "relay"
"""Of the socket in the launchd agent, by which the relay asks for it."""


def systemd_socket(port: int) -> str:
    return f"""\
[Unit]
Description=The port of claude-local's global mode

[Socket]
ListenStream=127.0.0.1:{port}
Service={NAME}.service

[Install]
WantedBy=sockets.target
"""


def systemd_service(command: Sequence[str]) -> str:
    """KillMode: the sidecar that a relay starts serves all terminals, and must outlive it."""
    return f"""\
[Unit]
Description=The relay of claude-local's global mode

[Service]
ExecStart={" ".join(map(_quoted, command))}
KillMode=process
OOMPolicy=continue
StandardInput=null
StandardOutput=null
"""


def launchd_agent(port: int, command: Sequence[str]) -> bytes:
    """AbandonProcessGroup is launchd's KillMode. Interactive: the sidecar, a child of this, is not to be throttled."""
    agent: dict[str, Any] = {
        "Label": LABEL,
        "ProgramArguments": list(command),
        "Sockets": {
            SOCKET_NAME: {
                "SockNodeName": "127.0.0.1",
                "SockServiceName": str(port),
                "SockType": "stream",
                "SockFamily": "IPv4",
            }
        },
        "AbandonProcessGroup": True,
        "ProcessType": "Interactive",
        "Umask": 0o077,
        "StandardOutPath": "/dev/null",
        "StandardErrorPath": "/dev/null",
    }
    return plistlib.dumps(agent)


def _quoted(word: str) -> str:
    """As systemd.syntax(7) and systemd.service(5) want it: % and $ mean something to it even within quotes."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
