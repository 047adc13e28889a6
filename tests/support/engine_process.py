"""The engine process, spoken to as the sidecar does."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sidecar import conversation as neutral
from sidecar import frames
from sidecar.conversation import Conversation, Message, Text, Tool
from sidecar.frames import Failed, Finished, TextDelta

WINDOW = 6000


class EngineProcess:
    """The worker, spoken to as the sidecar does."""

    def __init__(self, model: Path, environment: dict[str, str] | None = None, **load: Any) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(120)
        command = [sys.executable, "-I", "-m", "sidecar.engine.worker", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )
        self._decoder = frames.Decoder(frames.FromEngine)
        self._pending: list[Any] = []
        self._last_id = 0
        self.send(frames.Load(str(model), model.name, WINDOW, 1 << 28, **load))
        self.first = self.receive()

    def send(self, frame: neutral.Frame) -> None:
        self._socket.sendall(frames.encode(frame))

    def receive(self) -> Any:
        """The next frame that is not a heartbeat; EOFError when the engine is gone."""
        while True:
            while self._pending:
                if not isinstance(frame := self._pending.pop(0), frames.Heartbeat):
                    return frame
            data = self._socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._pending += self._decoder.feed(data)

    def submit(
        self,
        conversation: Conversation,
        max_tokens: int = 16,
        temperature: float = 0.0,
        sampling: neutral.Sampling | None = None,
        **more: Any,
    ) -> int:
        """`sampling`: instead of a temperature alone."""
        self._last_id += 1
        sampling = sampling or neutral.Sampling(temperature=temperature)
        self.send(frames.Generate(self._last_id, conversation, sampling, max_tokens, **more))
        return self._last_id

    def answers(self, *requests: int) -> dict[int, list[Any]]:
        """All events of the requests, until each is finished or failed."""
        events: dict[int, list[Any]] = {request: [] for request in requests}
        open_ = set(requests)
        while open_:
            frame = self.receive()
            if frame.id in events:
                events[frame.id].append(frame)
                if isinstance(frame, Finished | Failed):
                    open_.discard(frame.id)
        return events

    def ask(self, conversation: Conversation, **how: Any) -> list[Any]:
        request = self.submit(conversation, **how)
        return self.answers(request)[request]

    def until(self, kind: type) -> Any:
        """The next frame of this kind, whatever else comes before it; a failure is one of the test."""
        while not isinstance(frame := self.receive(), kind):
            assert not isinstance(frame, Failed), frame
        return frame

    def close(self) -> None:
        self._socket.close()
        self.process.wait(30)


@contextlib.contextmanager
def running(model: Path, **load: Any) -> Iterator[EngineProcess]:
    engine = EngineProcess(model, **load)
    try:
        yield engine
    finally:
        engine.close()


def said(*words: str, system: str = "", tools: tuple[Tool, ...] = ()) -> Conversation:
    """A conversation in which user and assistant speak in turns."""
    roles = ("user", "assistant")
    turns = tuple(Message(roles[index % 2], (Text(text),)) for index, text in enumerate(words))  # type: ignore[arg-type]
    return Conversation(system, turns, tools)


def text(events: list[Any]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def only(kind: type, events: list[Any]) -> Any:
    [found] = [event for event in events if isinstance(event, kind)]
    return found


def long_text(words: int, seed: int = 0) -> str:
    return " ".join(f"word{(index * 7919 + seed) % 997}" for index in range(words))
