"""The models of this sidecar: names resolved once, one download shared by all who wait for it."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from subprocess import DEVNULL, PIPE

import trio

from sidecar.config import Config
from sidecar.download import EX_UNAVAILABLE, ModelFiles, ModelUnavailable
from sidecar.fit import GB, Limits, limits
from sidecar.models import ALIASES
from sidecar.speeds import Speeds

LIST_S = 10.0
"""How long a list of what is on disk is good for."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that is whole on disk."""

    name: str
    files: ModelFiles
    limits: Limits


@dataclass(eq=False)
class Fetch:
    """One resolution under way: `done` and `total` bytes, and an event that is replaced at each change."""

    done: int = 0
    total: int = 0
    pid: int = 0
    """The process that downloads."""
    changed: trio.Event = field(default_factory=trio.Event)

    def tell(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self.changed.set()
        self.changed = trio.Event()


class Library:
    """Resolves names to models on disk."""

    def __init__(self, config: Config, free: Callable[[], int]) -> None:
        """`free`: bytes that a model could have, the present one's included, which leaves before another is loaded."""
        self._free = free
        self._config = config
        self._models: dict[str, LocalModel] = {}
        self._locks: dict[str, trio.Lock] = {}
        self._listing = trio.Lock()
        self._listed: tuple[float, dict[str, str]] = (-LIST_S, {})
        self.speeds = Speeds(config.data / "speeds.json")
        self.fetches: dict[str, Fetch] = {}
        """The resolutions under way, by name, for whoever shows progress."""

    def known(self, name: str) -> LocalModel | None:
        return self._models.get(name)

    async def names(self) -> dict[str, str]:
        """Every name that can be asked for without a path, and the date (RFC 3339) of what is on disk, else "". At
        most LIST_S seconds old: looking takes a process of its own and half a second."""
        async with self._listing:
            looked, on_disk = self._listed
            if trio.current_time() - looked >= LIST_S:
                command = [sys.executable, "-I", "-m", "sidecar.download"]
                found = await trio.run_process(command, stdin=DEVNULL, capture_stdout=True, check=False)
                on_disk = json.loads(found.stdout or b"{}").get("models", {})
                self._listed = trio.current_time(), on_disk
        return {"demo": "", **{alias: on_disk.get(id_, "") for alias, id_ in ALIASES.items()}, **on_disk}

    async def get(self, name: str) -> LocalModel:
        """The model, once it is on disk; raises ModelUnavailable. Whoever comes second waits for the first."""
        lock = self._locks.setdefault(name, trio.Lock())
        async with lock:
            if name not in self._models:
                self.fetches[name] = fetch = Fetch()
                try:
                    files = await _resolve(name, fetch)
                finally:
                    del self.fetches[name]
                    fetch.changed.set()
                    if not lock.statistics().tasks_waiting:
                        del self._locks[name]  # names that are no model's must not pile up
                caution = self._config.memory_caution_gb * GB
                config = self._config
                bits = None if config.kv_bits == "auto" else int(config.kv_bits)
                fits = limits(files, self._free(), caution, config.context, config.cache_gb, bits)
                self._models[name] = LocalModel(name, files, fits)
            return self._models[name]


async def _resolve(name: str, fetch: Fetch) -> ModelFiles:
    command = [sys.executable, "-I", "-m", "sidecar.download", name]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, stdin=DEVNULL, stdout=PIPE, check=False))
        fetch.pid = process.pid
        answer: dict[str, object] = {}
        pending = b""
        async for data in process.stdout:
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                if "done" in answer:
                    fetch.tell(int(str(answer["done"])), int(str(answer["total"])))
    if "path" in answer:
        return ModelFiles(**answer)  # type: ignore[arg-type]  # written by asdict at the other end
    reason = str(
        answer.get("error", f"looking for the model {name!r} ended with status {process.returncode}; see the log")
    )
    raise ModelUnavailable(reason, int(str(answer.get("exit_code", EX_UNAVAILABLE))))
