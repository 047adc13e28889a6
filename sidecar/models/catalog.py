"""The models that have a short name: what catalog.toml says of them. Data alone; looks at no disk and no hub."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """One of them. What each field means stands at the top of catalog.toml."""

    alias: str
    hub: str
    parameters: float
    weights: int
    tools: str
    licence: str
    good_for: str
    config: dict[str, Any]
    """Of the published config.json, the numbers that decide sizes."""
    bits: int = 4
    active: float = 0.0
    """0 = all of them."""
    vision: int = 0

    @property
    def text(self) -> dict[str, Any]:
        """The part of the configuration that describes the language model."""
        return {**self.config, **self.config.get("text_config", {})}

    @property
    def bytes(self) -> int:
        """Of its files of weights."""
        return self.weights + self.vision

    @property
    def half_bytes(self) -> int:
        """Of the scales and offsets beside its packed weights: 32 bits for each 64 numbers."""
        return self.weights * 32 // (64 * self.bits + 32)

    @property
    def context_window(self) -> int:
        """The most tokens that it was made for."""
        return int(self.text["max_position_embeddings"])


def _read() -> dict[str, Model]:
    table = tomllib.loads((Path(__file__).parent / "catalog.toml").read_text("utf-8"))
    return {alias: Model(alias, **fields) for alias, fields in table.items()}


MODELS = _read()
"""By alias, the best for an agent first."""

ALIASES = {alias: model.hub for alias, model in MODELS.items()}


WEIGHTS = {model.alias: model.bytes for model in sorted(MODELS.values(), key=lambda model: -model.bytes)}
"""Bytes of the models that have a short name, largest first."""
