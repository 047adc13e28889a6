"""Models come from the hub whole, or with one sentence that says what to do; an interruption costs only itself."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import REPOSITORY, Hub


def start(home: Path, url: str, name: str = REPOSITORY, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HOME": str(home), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    command = [*before, sys.executable, "-I", "-m", "sidecar.models.resolve", name]
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


def test_a_file_that_is_changed_on_the_way_is_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    hub.corrupt = True
    [*_, said] = lines(start(tmp_path, hub.url))
    assert said["exit_code"] == 69 and "arrived damaged" in said["error"] and "try again" in said["error"]
    assert not list(tmp_path.rglob("*.part"))
    hub.corrupt = False
    *_, model = lines(start(tmp_path, hub.url))
    assert (Path(model["path"]) / "model.safetensors").read_bytes() == (hub.files / "model.safetensors").read_bytes()


def test_a_disk_that_fills_up_meanwhile_is_said(hub: Hub, tmp_path: Path) -> None:
    """A file system of its own, which somebody else fills while the download goes on."""
    namespace = ["unshare", "-m" if os.geteuid() == 0 else "-rm"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("this kernel gives nobody a mount of his own")
    size = sum(file.stat().st_size for file in hub.files.iterdir())
    weights = (hub.files / "model.safetensors").stat().st_size
    hub.stall_after = weights // 2
    script = f'mount -t tmpfs -o size={size + (1 << 20)} none "$HOME"; exec "$@"'
    first = start(tmp_path, hub.url, before=[*namespace, "sh", "-c", script, "sh"])
    assert hub.stalled.wait(60)
    home = Path(f"/proc/{first.pid}/root{tmp_path}")
    fill = home / "fill"
    with fill.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    hub.stall_after = None
    hub.resume.set()
    *_, said = lines(first)
    assert said["exit_code"] == 74 and "goes on from here" in said["error"], said


def test_only_the_rest_of_a_download_needs_room(hub: Hub, tmp_path: Path) -> None:
    weights = (hub.files / "model.safetensors").read_bytes()
    blobs = tmp_path / ".cache/huggingface/hub/models--someone--tiny-model/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(weights).hexdigest()}.part").write_bytes(weights[:-10])
    rest = sum(file.stat().st_size for file in hub.files.iterdir()) - len(weights) + 10
    said = with_room(hub, tmp_path, rest)
    assert "path" in said, said


def test_a_hub_out_of_reach_is_said_with_a_way_out(tmp_path: Path) -> None:
    [said] = lines(start(tmp_path, "http://127.0.0.1:1"))
    assert said["exit_code"] == 69
    assert "CLAUDE_LOCAL_MODEL=demo" in said["error"] and "cannot be reached" in said["error"]


def test_a_model_that_the_hub_does_not_have_is_said(hub: Hub, tmp_path: Path) -> None:
    [said] = lines(start(tmp_path, hub.url, "someone/else"))
    assert said["exit_code"] == 69 and "has no someone/else" in said["error"]


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, ["accept its licence", "/someone/tiny-model", "HF_TOKEN"]),
        (403, {"X-Error-Code": "GatedRepo"}, ["accept its licence", "/someone/tiny-model", "HF_TOKEN"]),
        (401, {}, ["does not let you read someone/tiny-model", "check the name", "HF_TOKEN"]),
        (403, {"X-Error-Message": "Forbidden"}, ["does not let you read", "HF_TOKEN"]),
        (404, {"X-Error-Code": "RepoNotFound"}, ["has no someone/tiny-model", "check the name"]),
        (429, {}, ["wait a few minutes", "HF_TOKEN"]),
        (500, {}, ["answered 500", "try again later"]),
    ],
)
def test_a_hub_that_refuses_is_said_with_what_to_do(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], says: list[str]
) -> None:
    hub.refusal = (status, headers)
    [said] = lines(start(tmp_path, hub.url))
    assert said["exit_code"] == 69
    assert all(part in said["error"] for part in says) and "\n" not in said["error"]


def test_a_token_that_is_not_accepted_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.refusal = (401, {"X-Error-Message": "Invalid credentials in Authorization header"})
    token = tmp_path / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_wrong")
    [said] = lines(start(tmp_path, hub.url))
    assert said["exit_code"] == 69 and "does not accept the token in HF_TOKEN: correct it" in said["error"]


def test_an_unknown_alias_lists_the_known_ones(tmp_path: Path) -> None:
    [said] = lines(start(tmp_path, "http://127.0.0.1:1", "phi-33"))
    assert said["exit_code"] == 64 and "phi-3-mini" in said["error"] and "demo" in said["error"]


def test_a_full_disk_is_said_before_anything_is_loaded(hub: Hub, tmp_path: Path) -> None:
    said = with_room(hub, tmp_path, 1000)
    assert said["exit_code"] == 74 and "free some space" in said["error"]
    assert not list(tmp_path.rglob("*.safetensors"))


def with_room(hub: Hub, home: Path, free: int) -> Any:
    """What is said last where the file system, asked how much is free, answers so; no disk is of that size."""
    script = (
        "import shutil, sys, collections; usage = collections.namedtuple('usage', 'free')\n"
        f"shutil.disk_usage = lambda _: usage({free})\n"
        "from sidecar.models.resolve import main; sys.exit(main())"
    )
    environment = {**os.environ, "HOME": str(home), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-I", "-c", script, REPOSITORY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout.splitlines()[-1])
