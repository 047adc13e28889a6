"""Models come from the hub whole, or with one sentence that says what to do; an interruption costs only itself."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models import make_tiny
from tests.process.hub import Hub, serving

REPOSITORY = "someone/tiny-model"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose weights are large enough to be resumed."""
    return make_tiny(tmp_path_factory.mktemp("large"), hidden_size=256, intermediate_size=512, num_hidden_layers=4)


@pytest.fixture
def hub(large: Path) -> Iterator[Hub]:
    with serving(Hub(REPOSITORY, large)) as hub:
        yield hub


def start(home: Path, url: str, name: str = REPOSITORY) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-I", "-m", "sidecar.download", name]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str]) -> list[Any]:
    said, _ = process.communicate(timeout=120)
    return [json.loads(line) for line in said.splitlines()]


def test_a_model_is_downloaded_with_progress_and_then_needs_no_hub(hub: Hub, tmp_path: Path) -> None:
    *progress, model = lines(start(tmp_path, hub.url))
    path = Path(model["path"])
    assert (path / "model.safetensors").read_bytes() == (hub.files / "model.safetensors").read_bytes()
    assert progress and progress[-1]["done"] == progress[-1]["total"] > model["weights_bytes"]
    asked = len(hub.requests)
    assert lines(start(tmp_path, hub.url)) == [model]
    assert len(hub.requests) == asked


def test_an_interrupted_download_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    size = (hub.files / "model.safetensors").stat().st_size
    hub.stall_after = size // 2
    first = start(tmp_path, hub.url)
    assert hub.stalled.wait(60)
    blobs = tmp_path / ".cache" / "huggingface" / "hub"
    while not any(file.stat().st_size > 0 for file in blobs.rglob("*.part")):
        assert first.poll() is None
    first.kill()
    first.communicate()
    hub.resume.set()
    *_, model = lines(start(tmp_path, hub.url))
    assert model["weights_bytes"] == size
    [wanted] = hub.ranges
    assert int(wanted.removeprefix("bytes=").rstrip("-")) > 0
    assert (Path(model["path"]) / "model.safetensors").read_bytes() == (hub.files / "model.safetensors").read_bytes()


def test_a_file_that_arrives_damaged_is_not_used(hub: Hub, tmp_path: Path) -> None:
    weights = (hub.files / "model.safetensors").stat().st_size
    part = tmp_path / ".cache/huggingface/hub/models--someone--tiny-model/blobs"
    part.mkdir(parents=True)
    etag = hashlib.sha256((hub.files / "model.safetensors").read_bytes()).hexdigest()
    (part / f"{etag}.part").write_bytes(bytes(weights // 2))
    [*_, said] = lines(start(tmp_path, hub.url))
    assert said["exit_code"] == 69 and "arrived damaged" in said["error"]
    assert "path" in lines(start(tmp_path, hub.url))[-1]


def test_a_hub_out_of_reach_is_said_with_a_way_out(tmp_path: Path) -> None:
    [said] = lines(start(tmp_path, "http://127.0.0.1:1"))
    assert said["exit_code"] == 69
    assert "CLAUDE_LOCAL_MODEL=demo" in said["error"] and "cannot be reached" in said["error"]


def test_a_model_that_the_hub_does_not_have_is_said(hub: Hub, tmp_path: Path) -> None:
    [said] = lines(start(tmp_path, hub.url, "someone/else"))
    assert said["exit_code"] == 69 and "has no someone/else" in said["error"]


def test_a_gated_model_says_where_to_accept_its_licence(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    [said] = lines(start(tmp_path, hub.url))
    assert said["exit_code"] == 69 and "accept its licence" in said["error"]


def test_an_unknown_alias_lists_the_known_ones(tmp_path: Path) -> None:
    [said] = lines(start(tmp_path, "http://127.0.0.1:1", "phi-33"))
    assert said["exit_code"] == 64 and "phi-3-mini" in said["error"] and "demo" in said["error"]


def test_a_full_disk_is_said_before_anything_is_loaded(hub: Hub, tmp_path: Path) -> None:
    """The check asks the file system; here it gets an answer that no disk has."""
    script = (
        "import shutil, sys, collections; usage = collections.namedtuple('usage', 'free')\n"
        "shutil.disk_usage = lambda _: usage(1000)\n"
        "from sidecar.download import main; sys.exit(main())"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-I", "-c", script, REPOSITORY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 74 and "free some space" in json.loads(done.stdout)["error"]
    assert not list(tmp_path.rglob("*.safetensors"))
