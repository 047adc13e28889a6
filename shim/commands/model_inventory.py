"""The models that can be had: what is known of each, what lies on disk, and what of it fits into this machine's memory.

Looks and reckons; it draws nothing and changes nothing.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from shim.lease.control_client import ask
from sidecar.memory import overhead
from sidecar.memory.guard import GB
from sidecar.memory.probe import Probe
from sidecar.models import cpu_speed, hub, resolve, sizing
from sidecar.models.catalog import MODELS, Model
from sidecar.models.cpu_speed import Speed
from sidecar.models.resolve import ModelFiles, ModelUnavailable
from sidecar.models.sizing import Limits
from sidecar.shared import machine, protocol
from sidecar.shared.config import Config

LONG = 16_384
"""Tokens of a conversation of an agent that has been at work for a while."""

GENERATES = ("ForCausalLM", "ForConditionalGeneration")
"""How the architectures of language models are named; the hub's cache holds other kinds as well."""


NOTHING = ModelFiles("", 0, 0, 0)
"""Of a model that cannot be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """One model. Sizes in bytes."""

    name: str
    hub: str
    """Empty for what is on this disk alone."""
    files: ModelFiles
    about: Model | None = None
    """What models.toml says of it."""
    stored: int = 0
    state: str = "absent"
    """absent | partial | whole | unreadable: what lies on disk."""
    complaint: str = ""
    """Why it is unreadable."""
    limits: Limits | None = None
    """None = it does not fit."""
    lacking: int = 0
    """How much less memory is free than it needs."""
    tight: bool = False
    """Whether it can be loaded, and a conversation in its window would already be too much."""
    speed: Speed | None = None
    """How fast it is here; None = nobody knows."""

    @property
    def long(self) -> int:
        """What it takes in a conversation of LONG tokens, in 16 bits."""
        return sizing.taken(self.files, LONG, "16")

    @property
    def ample(self) -> bool:
        """Whether an agent has room to work with it."""
        return self.limits is not None and self.limits.context_window >= sizing.AMPLE_WINDOW


def items(free: int, settings: Config) -> list[Item]:
    """Those with a short name, the best first, then the built-in one, then what else is on disk, then the default if
    it is none of these. `free`: bytes that a model could have."""
    known = {each.repository: each for each in hub.stored()}
    found = [_curated(about, known.pop(about.hub, None)) for about in MODELS.values()]
    found.append(at("demo", resolve.DEMO))
    found += [item for each in known.values() if (item := _other(each))]
    path = resolve.local_path(settings.model)
    if path and settings.model != "demo":
        found.append(at(settings.model, path))
    return [fitted(item, free, settings, cores()) for item in found]


def fitted(item: Item, free: int, settings: Config, cores: int = 0) -> Item:
    """The item with what the sidecar would make of it, on so many cores; 0 = there is a GPU. Pure."""
    if item.complaint and not item.files.weights_bytes:
        return item
    if item.about and cores:
        item = replace(item, speed=cpu_speed.speed(item.about.parameters, _active(item), cores))
    caution = settings.memory_caution_gb * GB
    lacking = int(item.files.memory_bytes + overhead.ENGINE_BYTES + caution - free)
    if lacking > 0:
        return replace(item, lacking=lacking)
    limits = sizing.limits(item.files, free, caution, settings.context, settings.cache_gb, settings.kv_bits)
    tight = sizing.taken(item.files, limits.context_window, limits.kv_bits) + caution > free
    return replace(item, limits=limits, tight=tight)


def choice(found: list[Item]) -> str:
    """The name that we would use here: the best of those with a short name that leaves room for an agent and, on a CPU
    alone, is fast enough; where none does, the best that fits, on a CPU the smallest; else the built-in one, and empty
    where not even that fits. Pure."""
    roomy = [item for item in found if item.limits and not item.tight]
    curated = [item for item in roomy if item.about]
    bearable = [item for item in curated if item.speed is None or item.speed.is_bearable]
    fits = [item for item in bearable if item.ample] or bearable or sorted(curated, key=_active)
    return next((item.name for item in (*fits, *roomy) if item.about or item.name == "demo"), "")


def cores() -> int:
    """What computes here, as `fitted` takes it."""
    return 0 if machine.accelerated() else machine.cores()


def free_memory(settings: Config) -> int:
    """Bytes that a model could have here: what is free, and what the present one holds, which leaves before."""
    status = ask("GET", protocol.STATUS_PATH)
    if status is None:
        return Probe(settings.memory_limit_gb * GB)().available
    memory = status["memory"]
    return int((float(memory["available_gb"]) + float(memory["engine_gb"])) * GB)


def snapshot(repository: str) -> Path | None:
    """Where the hub's cache holds a whole model; None when it does not. Raises hub.HubError, and ModelUnavailable for
    one that is there and is none."""
    path = hub.cached(repository)
    return path if path and _inspected(path) else None


def _active(item: Item) -> float:
    return (item.about.active or item.about.parameters) if item.about else 0.0


def _curated(about: Model, stored: hub.Stored | None) -> Item:
    files = resolve.described(Path(), about.text, about.bytes, about.half_bytes, about.context_window)
    item = Item(about.alias, about.hub, files, about)
    return _with_disk(item, stored) if stored else item


def _with_disk(item: Item, stored: hub.Stored) -> Item:
    try:
        path = _cached(stored.repository)
        files = _inspected(path) if path else None
    except (ModelUnavailable, hub.Unreadable) as error:
        return replace(item, stored=stored.bytes, state="unreadable", complaint=str(error))
    return replace(item, stored=stored.bytes, state="whole" if files else "partial", files=files or item.files)


def _other(stored: hub.Stored) -> Item | None:
    """None for what is no language model, or not whole."""
    name = stored.repository
    try:
        path = _cached(name)
        if not path or not _generates(path) or not (files := _inspected(path)):
            return None
    except (ModelUnavailable, hub.Unreadable) as error:
        return Item(name, name, NOTHING, None, stored.bytes, "unreadable", str(error))
    return Item(name, name, files, None, stored.bytes, "whole")


def _cached(repository: str) -> Path | None:
    """Raises hub.Unreadable."""
    try:
        return hub.cached(repository)
    except hub.Unreadable:
        raise
    except hub.HubError:
        return None  # a folder there that no repository can be called like


def at(name: str, path: Path) -> Item:
    """A model in a folder."""
    try:
        files = resolve.inspect(path)
    except ModelUnavailable as error:
        return Item(name, "", NOTHING, None, 0, "unreadable", str(error))
    return Item(name, "", files, None, files.weights_bytes, "whole")


def _inspected(path: Path) -> ModelFiles | None:
    """None where files are missing; raises ModelUnavailable where they are there and no model's."""
    try:
        return resolve.inspect(path)
    except ModelUnavailable as error:
        if error.exit_code == resolve.EX_DATAERR:
            raise
        return None


def _generates(path: Path) -> bool:
    """Raises ModelUnavailable where nobody can say."""
    try:
        kinds = resolve.configuration(path).get("architectures")
    except ModelUnavailable as error:
        if error.exit_code == resolve.EX_DATAERR:
            raise
        return False
    return not kinds or (isinstance(kinds, list) and any(str(kind).endswith(GENERATES) for kind in kinds))
