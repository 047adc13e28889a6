"""The models of this sidecar: names resolved once, one download shared by all who wait for it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE

import trio

from sidecar.memory.guard import GB
from sidecar.models.catalog import MODELS, Model
from sidecar.models.read_speeds import Speeds
from sidecar.models.resolve import EX_UNAVAILABLE, ModelFiles, ModelUnavailable, described
from sidecar.models.sizing import Limits, limits
from sidecar.shared.config import Config
from sidecar.shared.program import program

LIST_S = 10.0
"""How long a list of what is on disk is good for."""
LOOK_S = 20.0
"""How long making one may take: half a second, and a thousandth for each model."""


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that is whole on disk."""

    name: str
    files: ModelFiles
    limits: Limits


@dataclass(frozen=True, slots=True)
class Listed:
    """A model that can be asked for, as far as that is known without loading it."""

    date: str = ""
    """When it came onto this disk (RFC 3339); empty for one that is not there."""
    files: ModelFiles | None = None
    limits: Limits | None = None


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
        self._listed: tuple[float, dict[str, Listed]] = (-LIST_S, {})
        self.speeds = Speeds(config.data / "speeds.json")
        self.fetches: dict[str, Fetch] = {}
        """The resolutions under way, by name, for whoever shows progress."""

    def known(self, name: str) -> LocalModel | None:
        return self._models.get(name)

    async def listed(self, own: str) -> dict[str, Listed]:
        """Every name that can be asked for without a path, after `own`, which may be any."""
        on_disk, free = await self._on_disk(), self._free()
        curated = {alias: on_disk.get(model.hub) or Listed("", _published(model)) for alias, model in MODELS.items()}
        found = {**curated, **on_disk}
        names = dict.fromkeys([own, "demo", *found])
        return {name: self._limited(name, found.get(name, Listed()), free) for name in names}

    def _limited(self, name: str, listed: Listed, free: int) -> Listed:
        """With what the sidecar has made of a model, or would make of it now."""
        if known := self._models.get(name):
            return replace(listed, limits=known.limits)
        return replace(listed, limits=self._limits(listed.files, free)) if listed.files else listed

    def _limits(self, files: ModelFiles, free: int) -> Limits:
        config = self._config
        return limits(files, free, config.memory_caution_gb * GB, config.context, config.cache_gb, config.kv_bits)

    async def _on_disk(self) -> dict[str, Listed]:
        """What lies on disk. At most LIST_S seconds old: looking takes a process of its own and half a second."""
        async with self._listing:
            looked, on_disk = self._listed
            if trio.current_time() - looked >= LIST_S:
                on_disk = await _look()
                self._listed = trio.current_time(), on_disk
            return on_disk

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
                fits = self._limits(files, self._free())
                self._models[name] = LocalModel(name, files, fits)
            return self._models[name]


def _published(model: Model) -> ModelFiles:
    """What will lie on disk once it is fetched."""
    return described(Path(), model.text, model.bytes, model.half_bytes, model.context_window)


async def _look() -> dict[str, Listed]:
    """Empty when it takes too long: a folder of the cache may be on a disk that does not answer."""
    command = program("sidecar.models.resolve")
    with trio.move_on_after(LOOK_S):
        found = await trio.run_process(command, stdin=DEVNULL, capture_stdout=True, check=False)
        said = json.loads(found.stdout or b"{}").get("models", {})
        return {
            name: Listed(each["date"], ModelFiles(**each["files"]) if each["files"] else None)
            for name, each in said.items()
        }
    return {}


async def _resolve(name: str, fetch: Fetch) -> ModelFiles:
    command = program("sidecar.models.resolve", name)
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
