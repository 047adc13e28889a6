"""Which models fit, and which one is recommended: arithmetic over what is free, without looking at any machine."""

import shutil
from pathlib import Path

import pytest

from shim.verbs import shelf
from shim.verbs.listing import here
from shim.verbs.shelf import Item
from sidecar import download, hub
from sidecar.config import Config
from sidecar.download import ModelUnavailable
from sidecar.fit import AMPLE_WINDOW, GB
from sidecar.models import MODELS


def found(free_gb: float, settings: Config = Config()) -> list[Item]:  # noqa: B008  # immutable
    items = []
    for about in MODELS.values():
        files = download.described(Path(), about.text, about.bytes, about.context_window)
        items.append(shelf.fitted(Item(about.alias, about.hub, files, about), int(free_gb * GB), settings))
    return [*items, shelf.fitted(shelf.at("demo", download.DEMO), int(free_gb * GB), settings)]


@pytest.mark.parametrize(
    ("free_gb", "accelerated", "chosen"),
    [
        (64, True, "qwen3.6-35b"),
        (26, True, "qwen3.6-35b"),
        (22, True, "qwen3-coder-30b"),
        (16, True, "qwen3.5-9b"),
        (12, True, "qwen3.5-9b"),
        (8, True, "qwen3.5-4b"),
        (64, False, "qwen3.6-35b"),
        (16, False, "qwen3.5-4b"),
        (8, False, "qwen3.5-4b"),
        (5, True, "llama-3.2-1b"),
        (4.1, True, "llama-3.2-1b"),
        (2.9, True, "demo"),
        (2.5, True, "demo"),
        (2.1, True, ""),
        (0.1, False, ""),
    ],
)
def test_the_best_that_leaves_room_for_an_agent_is_chosen(free_gb: float, accelerated: bool, chosen: str) -> None:
    assert shelf.choice(found(free_gb), accelerated) == chosen


@pytest.mark.parametrize("free_gb", [3, 6, 12, 24, 48])
def test_what_is_chosen_has_room_wherever_something_has(free_gb: float) -> None:
    items = found(free_gb)
    chosen = next(item for item in items if item.name == shelf.choice(items, True))
    assert chosen.limits and not chosen.tight and not chosen.lacking
    if any(item.ample for item in items):
        assert chosen.limits.context_window >= AMPLE_WINDOW


def test_what_is_lacking_is_told_and_the_users_limits_count() -> None:
    big = found(8)[0]
    assert big.limits is None and big.lacking == int(big.files.weights_bytes + 0.2 * GB + 2 * GB - 8 * GB)
    small = found(8, Config(context=5000, kv_bits="8/4"))[-2]
    assert small.limits and (small.limits.context_window, small.limits.kv_bits) == (5000, "8/4")
    assert here(small) == "5k, 8/4-bit"


def test_other_kinds_in_the_hubs_cache_are_left_out(tmp_path: Path) -> None:
    for text, is_one in (
        ('{"architectures": ["LlamaForCausalLM"]}', True),
        ('{"architectures": ["BertModel"]}', False),
        ("{}", True),
    ):
        (tmp_path / "config.json").write_text(text)
        assert shelf._generates(tmp_path) is is_one
    for text in ("[]", ""):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelUnavailable):
            shelf._generates(tmp_path)


def test_the_hubs_cache_is_read_as_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "place", lambda: tmp_path)
    whole = tmp_path / "models--some--model"
    for name in ("blobs", "snapshots/abc"):
        (whole / name).mkdir(parents=True)
    (whole / "blobs" / "a").write_bytes(b"12345")
    (whole / "snapshots" / "abc" / "model.safetensors").symlink_to("../../blobs/a")
    part = tmp_path / "models--other--one" / "blobs"
    part.mkdir(parents=True)
    (part / "b.part").write_bytes(b"123")
    (tmp_path / "models--no--weights" / "blobs").mkdir(parents=True)
    (tmp_path / "datasets--some--data" / "blobs").mkdir(parents=True)
    (tmp_path / "models--a--b--c" / "blobs").mkdir(parents=True)
    (tmp_path / "models--a--b--c" / "blobs" / "d.part").touch()
    assert shelf._cached("a/b/c") is None
    shutil.rmtree(tmp_path / "models--a--b--c")
    kept = {each.repository: (each.bytes, each.partial) for each in hub.stored()}
    assert kept == {"some/model": (5, False), "other/one": (3, True)}
    assert hub.remove("some/model") == 5 and [each.repository for each in hub.stored()] == ["other/one"]
