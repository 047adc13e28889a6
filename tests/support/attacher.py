"""A client for crowds: ready before the start, it attaches when its stdin ends, says how long it took, and holds on.

Run as a process (`python -IS attacher.py RUN_DIR LOGS [SECONDS]`). Says `here`, then `granted PID_OF_SIDECAR MS` or
the failure. Ends with SIGTERM, which is the release.
"""

import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from shim.errors import Failure
from shim.lease import attach, http, spawn  # noqa: F401  # wire: imported before the start, as all else
from sidecar.shared import protocol, run_directory


def main() -> None:
    directory, logs = run_directory.run_directory(sys.argv[1]), Path(sys.argv[2])
    request = protocol.LeaseRequest(os.urandom(32).hex(), os.getpid(), "attacher", "/", 1, "demo")
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else attach.LIMIT
    print("here", flush=True)
    os.read(0, 1)
    began = time.monotonic()
    try:
        lease = attach.attach(directory, request, lambda limit: spawn.start(directory, logs, "/", limit), seconds)
    except Failure as failure:
        print(failure.reason, flush=True)
        return
    took = (time.monotonic() - began) * 1000
    raw = lease._connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    print("granted", struct.unpack("3i", raw)[0], f"{took:.1f}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
