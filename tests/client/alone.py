"""A command in a network of its own, in which every address is this machine and every packet is looked at (Linux).

`unshare -mn python alone.py FILE COMMAND …` writes to FILE, as JSON, whom the command has called: a line for each name
that was looked up and for each address beyond 127.0.0.1 that was tried. Whatever a program is made of, its packets pass
here: the kernel sees to that. Unix sockets reach out of it, and with them the sidecar of a test.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

ROUTES = ("link set lo up", "route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo")
NAMES = {
    "/etc/resolv.conf": "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n",
    "/etc/nsswitch.conf": "hosts: files dns\n",
}
"""Whoever wants a name has to ask for it on the network."""
END = ("192.0.2.1", 9)
"""A packet to here is the recorder's own: what came before it has been seen."""
ALL_PROTOCOLS, SOL_PACKET, PACKET_STATISTICS, OUTGOING = 3, 263, 6, 4
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58


def command(file: Path) -> list[str]:
    """What to put in front of a command's words."""
    inside = ["-mn"] if os.geteuid() == 0 else ["--map-root-user", "-mn"]
    return ["unshare", *inside, sys.executable, __file__, str(file)]


def call(packet: bytes) -> str:
    """Whom a packet calls; empty for answers, and for this machine's own address."""
    if packet[0] >> 4 == 4:
        at, kind, to = (packet[0] & 15) * 4, packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20])
    else:
        at, kind, to = 40, packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
    (port,) = struct.unpack("!H", packet[at + 2 : at + 4])
    if kind == UDP and port == 53:
        return f"name {question(packet[at + 8 :])}"
    if to.startswith("127.") or to == "::1" or kind in (ICMP, ICMP6):
        return ""
    is_answer = kind == TCP and packet[at + 13] & 0x12 != 0x02  # anything but the first packet of a connection
    return "" if is_answer else f"{to}:{port}"


def question(message: bytes) -> str:
    """The name that a DNS message asks for."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode(errors="replace"))
        at += 1 + message[at]
    return ".".join(labels)


class Recorder(threading.Thread):
    """Looks at packets until the one that ends it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ALL_PROTOCOLS))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self.calls: Counter[str] = Counter()

    def run(self) -> None:
        end = f"{END[0]}:{END[1]}"
        while True:
            packet, sender = self._socket.recvfrom(1 << 16)
            if sender[2] == OUTGOING:  # on this interface each packet passes twice
                continue
            called = call(packet)
            if called == end:
                return
            self.calls.update([called] if called else [])

    def lost(self) -> int:
        """Packets that came faster than they were looked at."""
        return int(struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])


def main() -> int:
    for words in ROUTES:
        subprocess.run(["ip", *words.split()], check=True)
    with tempfile.TemporaryDirectory() as folder:
        for path, text in NAMES.items():
            file = Path(folder, Path(path).name)
            file.write_text(text)
            subprocess.run(["mount", "--bind", file, path], check=True)
        recorder = Recorder()
        recorder.start()
        code = subprocess.run(sys.argv[2:]).returncode
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        while recorder.is_alive():
            last.sendto(b"", END)
            select.select([], [], [], 0.01)
    assert not recorder.lost(), "packets were lost: the record says too little"
    Path(sys.argv[1]).write_text(json.dumps(recorder.calls))
    return code


if __name__ == "__main__":
    sys.exit(main())
