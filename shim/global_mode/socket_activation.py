"""The listening socket that systemd or launchd holds for us, taken over when they start us."""

import ctypes
import os
import socket
import sys

from shim.global_mode.service_units import SOCKET_NAME

FIRST = 3
"""SD_LISTEN_FDS_START: sd_listen_fds(3)."""


def listener(platform: str = sys.platform) -> socket.socket | None:
    """The socket, or None when nobody passed one. Only one of loopback's is taken."""
    descriptor = _from_launchd() if platform == "darwin" else _from_systemd()
    if descriptor is None:
        return None
    os.set_inheritable(descriptor, False)
    passed = socket.socket(fileno=descriptor)
    if passed.family != socket.AF_INET or passed.getsockname()[0] != "127.0.0.1":
        passed.close()
        return None
    passed.setblocking(True)
    return passed


def _from_systemd() -> int | None:
    """sd_listen_fds(3): for us only if the process id is ours. The variables are for nobody after us."""
    number, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    return FIRST if pid == str(os.getpid()) and number.isdigit() and int(number) >= 1 else None


def _from_launchd(library: str | None = None) -> int | None:
    """launch_activate_socket(3): an array of descriptors, which is the caller's to free."""
    system = ctypes.CDLL(library)
    descriptors, count = ctypes.POINTER(ctypes.c_int)(), ctypes.c_size_t()
    if system.launch_activate_socket(SOCKET_NAME.encode(), ctypes.byref(descriptors), ctypes.byref(count)):
        return None  # ESRCH, ENOENT: not started by launchd, or not with this socket
    found = [descriptors[number] for number in range(count.value)]
    system.free(descriptors)
    for other in found[1:]:
        os.close(other)
    return found[0] if found else None
