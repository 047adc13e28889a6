"""The list of models: each with what it takes, whether it is on disk, in the catalogue or loaded."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from sidecar.memory.guard import GB
from sidecar.models.catalog import MODELS
from sidecar.models.library import Library
from sidecar.models.sizing import SHORTEST_WINDOW
from sidecar.shared.config import Config

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 64,
    "max_position_embeddings": 9000,
}


def put(cache: Path, name: str, config: Any) -> None:
    """A model in the hub's cache."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1")
    (snapshot / "config.json").write_text(json.dumps(config))
    save_file({"a": numpy.zeros(4, numpy.float32)}, str(snapshot / "model.safetensors"))


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    cache = tmp_path / "hub"
    put(cache, "org/good", CONFIG)
    put(cache, "org/odd", {"text_config": None, "num_hidden_layers": None})
    put(cache, next(iter(MODELS.values())).hub, CONFIG)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return Library(Config(data_dir=str(tmp_path)), lambda: int(64 * GB))


async def test_every_model_of_the_list_says_how_much_it_takes(library: Library) -> None:
    listed = await library.listed("demo")
    assert next(iter(listed)) == "demo" and {"demo", "org/good", *MODELS} <= listed.keys()
    for name, each in listed.items():
        assert each.limits and each.limits.context_window >= SHORTEST_WINDOW, name
        assert 0 < each.limits.output_limit < each.limits.context_window


async def test_what_is_on_disk_says_more_than_the_catalogue(library: Library) -> None:
    listed = await library.listed("demo")
    best = next(iter(MODELS))
    for name in ("org/good", best, MODELS[best].hub):
        limits = listed[name].limits
        assert limits and limits.context_window == 9000 and listed[name].date
    assert not listed[[*MODELS][1]].date


async def test_an_odd_model_hides_no_other(library: Library) -> None:
    assert "org/odd" not in await library.listed("demo")


async def test_a_name_of_which_nothing_is_known_is_listed_all_the_same(library: Library) -> None:
    """It is the terminal's own, and may be on its way."""
    listed = await library.listed("/my/model")
    assert next(iter(listed)) == "/my/model" and listed["/my/model"].limits is None
