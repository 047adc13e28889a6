"""How fast this machine reads prompts with each model, remembered: a terminal is told before the model is loaded."""

import contextlib
import json
import os
from pathlib import Path

ENOUGH = 1024
"""Tokens that must have been read in one go: fewer measure the start and the end of it."""

BETTER = 1.1
"""Only a best that is so much better is written down."""


class Speeds:
    """Tokens in a second, by model. The best that was seen counts: others read at the same time, a machine that was
    busy or hot only ever make it slower, and a choice that rests on it should not go back and forth."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def best(self, model: str) -> int:
        """0 = not measured yet."""
        return self._read().get(model, 0)

    def seen(self, model: str, tokens: int, seconds: float) -> None:
        """So many tokens were read in so many seconds. What cannot be written is not remembered."""
        if tokens < ENOUGH or seconds <= 0:
            return
        known, speed = self._read(), int(tokens / seconds)
        if speed > BETTER * known.get(model, 0):
            with contextlib.suppress(OSError):
                self._write({**known, model: speed})

    def _read(self) -> dict[str, int]:
        try:
            table = json.loads(self._file.read_text("utf-8"))
            return {str(model): int(speed) for model, speed in table.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def _write(self, table: dict[str, int]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(table), "utf-8")
        temporary.replace(self._file)
