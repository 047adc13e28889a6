"""What systemd and launchd are given, and how the socket comes back from them."""

import configparser
import ctypes
import plistlib
import socket
from pathlib import Path
from typing import Any

import pytest

from shim.global_mode import overrides, service_units, settings_edit, socket_activation

COMMAND = ["/home/a b/.venv/bin/python", "-I", "-m", "shim.global_mode", '/home/a b/50% "of" $HOME\\x']

PLIST = {
    "Label": str,
    "ProgramArguments": list,
    "Sockets": dict,
    "AbandonProcessGroup": bool,
    "ProcessType": str,
    "Umask": int,
    "StandardOutPath": str,
    "StandardErrorPath": str,
}
"""launchd.plist(5): the keys that we use, and what may stand there."""

SOCKET = {"SockNodeName": str, "SockServiceName": str, "SockType": str, "SockFamily": str}
CHOICES = {
    "ProcessType": {"Background", "Standard", "Adaptive", "Interactive"},
    "SockType": {"stream", "dgram", "seqpacket"},
    "SockFamily": {"IPv4", "IPv6", "IPv4v6", "Unix"},
}


def check(table: dict[str, Any], schema: dict[str, type]) -> None:
    for key, value in table.items():
        assert type(value) is schema[key], key
        assert value in CHOICES.get(key, {value} if isinstance(value, str) else [value]), key


def test_the_launch_agent_keeps_the_schema() -> None:
    agent = plistlib.loads(service_units.launchd_agent(7777, COMMAND))
    check(agent, PLIST)
    assert agent["ProgramArguments"] == COMMAND
    (entry,) = agent["Sockets"].values()
    check(entry, SOCKET)
    assert (entry["SockNodeName"], entry["SockServiceName"]) == ("127.0.0.1", "7777")


def test_the_agent_listens_on_loopback_under_the_name_that_the_relay_asks_for() -> None:
    assert list(plistlib.loads(service_units.launchd_agent(1, COMMAND))["Sockets"]) == [service_units.SOCKET_NAME]


def read(text: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(text)
    return parsed


def test_the_socket_unit_listens_on_loopback_alone() -> None:
    assert read(service_units.systemd_socket(7777))["Socket"]["ListenStream"] == "127.0.0.1:7777"


def test_a_command_line_means_the_same_to_systemd() -> None:
    """systemd.service(5), "Command lines": %% and $$ are themselves, quotes hold words together, \\ escapes."""
    line = read(service_units.systemd_service(COMMAND))["Service"]["ExecStart"]
    words, rest = [], line
    while rest:
        assert rest[0] == '"'
        word, position = "", 1
        while rest[position] != '"':
            if rest[position] in "\\%$":
                assert rest[position] == "\\" or rest[position + 1] == rest[position]
                position += 1
            word += rest[position]
            position += 1
        words.append(word)
        rest = rest[position + 1 :].lstrip(" ")
    assert words == COMMAND


class Launchd:
    """launch_activate_socket(3), as far as it can be had elsewhere."""

    def __init__(self, *descriptors: int, code: int = 0) -> None:
        self._array = (ctypes.c_int * max(1, len(descriptors)))(*descriptors)
        self._count, self._code = len(descriptors), code
        self.asked, self.freed = b"", False

    def launch_activate_socket(self, name: bytes, array: Any, count: Any) -> int:
        self.asked = name
        if not self._code:
            array._obj.contents = self._array
            count._obj.value = self._count
        return self._code

    def free(self, array: Any) -> None:
        self.freed = array[0] == self._array[0]


def test_launchd_hands_its_socket_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        launchd = Launchd(listening.detach())
        monkeypatch.setattr(ctypes, "CDLL", lambda _: launchd)
        passed = socket_activation.listener("darwin")
        assert passed is not None
        with passed:
            assert passed.getsockname()[0] == "127.0.0.1"
            assert not passed.get_inheritable()
    assert launchd.asked == service_units.SOCKET_NAME.encode()
    assert launchd.freed


def test_without_launchd_there_is_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Launchd(code=3))
    assert socket_activation.listener("darwin") is None


def test_a_socket_for_another_process_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are inherited: a grandchild of a service would take a descriptor of its own for the socket."""
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert socket_activation.listener("linux") is None


def wanted(table: settings_edit.Table, **base: str) -> settings_edit.Keys:
    return overrides.wanted(table, base, Path("/home/a b/token"), 7777, "demo", 4096, 512)


def test_the_token_is_in_no_key() -> None:
    assert wanted({})["apiKeyHelper",] == "cat '/home/a b/token'"
    assert wanted({})["env", "ANTHROPIC_AUTH_TOKEN"] == ""


def test_every_way_elsewhere_is_closed() -> None:
    assert wanted({})["env", "CLAUDE_CODE_USE_BEDROCK"] == ""
    assert wanted({}, NO_PROXY="corp.example")["env", "no_proxy"] == "corp.example,127.0.0.1,localhost"


@pytest.mark.parametrize("permissions", [{"defaultMode": "auto"}, {"disableAutoMode": "no"}])
def test_who_has_a_say_on_auto_mode_keeps_it(permissions: dict[str, str]) -> None:
    path = ("permissions", "disableAutoMode")
    assert path in wanted({"permissions": {"allow": []}})
    assert path not in wanted({"permissions": permissions})
