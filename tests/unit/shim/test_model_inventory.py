"""Which models fit, and which one is recommended: arithmetic over what is free, without looking at any machine."""

import shutil
from pathlib import Path

import pytest

from shim.commands import model_inventory
from shim.commands.model_inventory import Item
from shim.commands.models import listing
from sidecar.memory.guard import GB
from sidecar.models import hub, resolve
from sidecar.models.catalog import MODELS
from sidecar.models.resolve import ModelUnavailable
from sidecar.models.sizing import AMPLE_WINDOW
from sidecar.shared.config import Config


def found(free_gb: float, settings: Config = Config(), cores: int = 0) -> list[Item]:  # noqa: B008  # immutable
    items = []
    for about in MODELS.values():
        files = resolve.described(Path(), about.text, about.bytes, 0, about.context_window)
        files = files.on_cpu(about.half_bytes) if cores else files
        items.append(
            model_inventory.fitted(Item(about.alias, about.hub, files, about), int(free_gb * GB), settings, cores)
        )
    return [*items, model_inventory.fitted(model_inventory.at("demo", resolve.DEMO), int(free_gb * GB), settings)]


@pytest.mark.parametrize(
    ("free_gb", "cores", "chosen"),
    [
        (64, 0, "qwen3.6-35b"),
        (26, 0, "qwen3.6-35b"),
        (22, 0, "qwen3-coder-30b"),
        (16, 0, "qwen3.5-9b"),
        (12, 0, "qwen3.5-9b"),
        (8, 0, "qwen3.5-4b"),
        (64, 1, "llama-3.2-1b"),
        (64, 2, "llama-3.2-1b"),
        (64, 6, "qwen3.5-4b"),
        (8, 16, "qwen3-4b"),
        (8, 2, "llama-3.2-1b"),
        (5, 0, "llama-3.2-1b"),
        (4.1, 0, "llama-3.2-1b"),
        (2.9, 0, "demo"),
        (2.5, 0, "demo"),
        (2.1, 0, ""),
        (0.1, 2, ""),
    ],
)
def test_the_best_that_leaves_room_for_an_agent_is_chosen(free_gb: float, cores: int, chosen: str) -> None:
    """`cores`: 0 = there is a GPU. A CPU is asked for no more than it can do."""
    assert model_inventory.choice(found(free_gb, cores=cores)) == chosen


def test_a_few_cores_are_not_asked_for_thirty_billion_parameters() -> None:
    items = {item.name: item for item in found(64, cores=2)}
    big, small = items["qwen3-coder-30b"].speed, items["llama-3.2-1b"].speed
    assert big and not big.is_bearable and small and small.is_bearable
    assert "reads about" in listing.pace(items["llama-3.2-1b"])
    assert listing.pace(found(64)[0]) == ""


@pytest.mark.parametrize("free_gb", [3, 6, 12, 24, 48])
def test_what_is_chosen_has_room_wherever_something_has(free_gb: float) -> None:
    items = found(free_gb)
    chosen = next(item for item in items if item.name == model_inventory.choice(items))
    assert chosen.limits and not chosen.tight and not chosen.lacking
    if any(item.ample for item in items):
        assert chosen.limits.context_window >= AMPLE_WINDOW


def test_what_is_lacking_is_told_and_the_users_limits_count() -> None:
    big = found(8)[0]
    assert big.limits is None and big.lacking == int(big.files.weights_bytes + 0.2 * GB + 2 * GB - 8 * GB)
    small = found(8, Config(context=5000, kv_bits="8/4"))[-2]
    assert small.limits and (small.limits.context_window, small.limits.kv_bits) == (5000, "8/4")
    assert listing.here(small) == "5k, 8/4-bit"


def test_other_kinds_in_the_hubs_cache_are_left_out(tmp_path: Path) -> None:
    for text, is_one in (
        ('{"architectures": ["LlamaForCausalLM"]}', True),
        ('{"architectures": ["BertModel"]}', False),
        ("{}", True),
    ):
        (tmp_path / "config.json").write_text(text)
        assert model_inventory._generates(tmp_path) is is_one
    for text in ("[]", ""):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelUnavailable):
            model_inventory._generates(tmp_path)


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
    assert model_inventory._cached("a/b/c") is None
    shutil.rmtree(tmp_path / "models--a--b--c")
    kept = {each.repository: (each.bytes, each.partial) for each in hub.stored()}
    assert kept == {"some/model": (5, False), "other/one": (3, True)}
    assert hub.remove("some/model") == 5 and [each.repository for each in hub.stored()] == ["other/one"]
