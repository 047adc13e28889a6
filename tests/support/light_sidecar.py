"""The real sidecar with a stand-in for the engine: for thousands of generations, each of which would load mlx.

Run as a process in two roles: as the sidecar (`light_sidecar.py --run-dir DIR --ready-fd N`), which starts this very
file as its engine (`light_sidecar.py FD`). The engine holds `model.lock` in the run directory for as long as a model
would be in memory, and notes it in `overlaps` when another does; it adds its number to `engines` in the logs' folder,
and to `stops` when it is told to stop. A file `protocol` there holds the one of the sidecar that is installed.

CLAUDE_LOCAL_TEST_LOAD_S, _ANSWER_S and _WRITE_S: how long it takes to load, to answer, and to write when it is told to
stop; CLAUDE_LOCAL_TEST_CHANGES as in `changed_sidecar`.
"""

import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

from sidecar import conversation, frames
from sidecar.shared import protocol

SAID = "light"


def engine(connection: socket.socket) -> None:
    run = Path(os.environ["CLAUDE_LOCAL_RUN_DIR"])
    note("engines")
    memory = os.open(run / "model.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with (run / "overlaps").open("a") as overlaps:
            overlaps.write(f"{os.getpid()}\n")
    decoder = frames.Decoder(frames.ToEngine)
    while data := connection.recv(1 << 16):
        for frame in decoder.feed(data):
            for answer in answers(frame):
                connection.sendall(frames.encode(answer))


def answers(frame: object) -> list[conversation.Frame]:
    match frame:
        case frames.Load(name=name, context=context):
            take("LOAD")
            return [frames.Ready(name, context, 0)]
        case frames.Generate(id=number):
            take("ANSWER")
            return [
                frames.Started(number, 1, 0),
                frames.TextDelta(number, SAID),
                frames.Finished(number, "end", 1, 0, 1),
            ]
        case frames.Stop():
            note("stops")
            take("WRITE")
            sys.exit()
    return []


def note(where: str) -> None:
    with (Path(os.environ["CLAUDE_LOCAL_LOG_DIR"]) / where).open("a") as notes:
        notes.write(f"{os.getpid()}\n")


def take(what: str) -> None:
    time.sleep(float(os.environ.get(f"CLAUDE_LOCAL_TEST_{what}_S", "0")))


def main() -> None:
    if sys.argv[1].isdigit():
        engine(socket.socket(fileno=int(sys.argv[1])))
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    installed = Path(os.environ["CLAUDE_LOCAL_LOG_DIR"]) / "protocol"
    if installed.exists():
        protocol.PROTOCOL = int(installed.read_text())
    from sidecar import serve
    from sidecar.supervisor import process
    from tests.support.changed_sidecar import change

    change(json.loads(os.environ.get("CLAUDE_LOCAL_TEST_CHANGES", "{}")))

    process.WORKER[:] = [sys.executable, "-I", __file__]
    serve.main()


if __name__ == "__main__":
    main()
