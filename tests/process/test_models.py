"""`claude-local models` against a stand-in of the hub: what is fetched, kept, listed, chosen and removed."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.conftest import machine
from tests.support.home import SHIM, Home
from tests.support.hub import REPOSITORY, Hub
from tests.support.screen import Screen


@pytest.fixture
def user(hub: Hub) -> Iterator[Home]:
    with machine(grace=2) as place:
        home = Home("home", place)
        del home.environment["CLAUDE_LOCAL_MODEL"]
        home.environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
        yield home
        home.close()


def weights(user: Home) -> Path:
    [file] = user.folder.rglob("snapshots/*/model.safetensors")
    return file


def listed(user: Home, name: str) -> dict[str, object]:
    table = json.loads(user.call("models", "--json").stdout)
    found: dict[str, object] = next((each for each in table["models"] if each["name"] == name), {})
    return found


def test_a_model_is_pulled_listed_used_and_removed(user: Home, hub: Hub) -> None:
    pulled = user.call("models", "pull", REPOSITORY)
    assert pulled.returncode == 0 and f"{REPOSITORY} is whole: " in pulled.stdout
    assert f"claude-local: downloading {REPOSITORY}: 100 % of " in pulled.stderr
    assert weights(user).read_bytes() == (hub.files / "model.safetensors").read_bytes()
    found = listed(user, REPOSITORY)
    assert found["disk"] == "whole" and found["fits"] and not found["default"]
    used = user.call("models", "use", REPOSITORY)
    assert used.returncode == 0 and "is fetched when" not in used.stdout
    assert listed(user, REPOSITORY)["default"]
    assert json.loads(user.call("config", "--json").stdout)["settings"]["model"]["value"] == REPOSITORY
    refused = user.call("models", "rm", REPOSITORY)
    assert refused.returncode == 64 and "--yes" in refused.stderr and weights(user).exists()
    removed = user.call("models", "rm", "--yes", REPOSITORY)
    assert removed.returncode == 0 and removed.stdout.startswith(f"removed {REPOSITORY}: ")
    assert not list(user.folder.rglob("*tiny-model*"))
    assert listed(user, REPOSITORY) == {}


def test_a_terminal_shows_how_far_it_is_and_a_killed_download_goes_on(user: Home, hub: Hub) -> None:
    size = (hub.files / "model.safetensors").stat().st_size
    hub.stall_after = size // 2
    with Screen(user, *SHIM, "models", "pull", REPOSITORY, columns=100) as screen:
        assert hub.stalled.wait(60)
        screen.wait_for(f"claude-local: downloading {REPOSITORY} [", "#", "% of ")
        [pid] = [each.pid for each in user.machine.processes() if "pull" in each.cmdline()[-2:]]
        subprocess.run(["kill", "-9", str(pid)], check=True)
        screen.wait_for_end()
    [part] = user.folder.rglob("*.part")
    assert 0 < part.stat().st_size < size
    assert listed(user, REPOSITORY) == {}  # what is not whole cannot be chosen
    hub.resume.set()
    again = user.call("models", "pull", REPOSITORY)
    assert again.returncode == 0
    [wanted] = hub.ranges
    assert int(wanted.removeprefix("bytes=").rstrip("-")) > 0
    assert weights(user).read_bytes() == (hub.files / "model.safetensors").read_bytes()


def test_pull_checks_what_is_there_and_fetches_what_is_damaged(user: Home, hub: Hub) -> None:
    user.call("models", "pull", REPOSITORY)
    other_format = weights(user).parent / "original" / "params.json"  # as other programs fetch it
    other_format.parent.mkdir()
    other_format.write_text("{}")
    whole = user.call("models", "pull", REPOSITORY)
    assert "checking what is here" in whole.stderr and "downloading" not in whole.stderr
    data = (hub.files / "model.safetensors").read_bytes()
    for damage in (bytes([data[0] ^ 1]) + data[1:], data[:-1] + bytes([data[-1] ^ 1]), data[:1000]):
        weights(user).resolve().write_bytes(damage)
        mended = user.call("models", "pull", REPOSITORY)
        assert mended.returncode == 0 and "model.safetensors is damaged, and fetched again" in mended.stderr
        assert weights(user).read_bytes() == data
    assert other_format.exists()


def test_a_model_that_may_not_be_read_hides_no_other(user: Home) -> None:
    """Fetched by another user, or by root in a container."""
    user.call("models", "pull", REPOSITORY)
    foreign = weights(user).parents[3] / "models--of--root"
    (foreign / "blobs").mkdir(parents=True)
    foreign.chmod(0)
    as_others = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]
    result = user.run(*(as_others if os.geteuid() == 0 else []), *SHIM, "models", "--json")
    foreign.chmod(0o700)
    assert result.returncode == 0, result
    assert REPOSITORY in [each["name"] for each in json.loads(result.stdout)["models"]]


def test_of_a_model_that_is_a_link_the_link_is_removed(user: Home) -> None:
    """Somebody has moved it to a bigger disk."""
    user.call("models", "pull", REPOSITORY)
    place = weights(user).parents[2]
    moved = place.rename(user.folder / "bigger")
    place.symlink_to(moved)
    removed = user.call("models", "rm", "--yes", REPOSITORY)
    assert removed.returncode == 0, removed
    assert not place.is_symlink() and list(moved.glob("snapshots/*/model.safetensors"))


def test_a_person_is_asked_before_anything_is_removed(user: Home) -> None:
    user.call("models", "pull", REPOSITORY)
    for answer, code, left in (("n", 64, True), ("y", 0, False)):
        with Screen(user, *SHIM, "models", "rm", REPOSITORY) as screen:
            screen.wait_for("[y/N]")
            screen.type(answer)
            screen.press("Enter")
            assert screen.wait_for_end() == code
        assert bool(list(user.folder.rglob("snapshots/*/model.safetensors"))) is left


@pytest.mark.full
def test_a_model_in_memory_is_not_removed(user: Home) -> None:
    user.environment["CLAUDE_LOCAL_MODEL"] = REPOSITORY
    assert user.call("true").returncode == 0
    user.start("sh", "-c", "read line")
    user.engine()
    refused = user.call("models", "rm", "--yes", REPOSITORY)
    assert refused.returncode == 69 and "claude-local stop" in refused.stderr
    assert weights(user).exists()


def test_the_first_use_says_each_step_and_the_next_ones_nothing(user: Home) -> None:
    user.environment["CLAUDE_LOCAL_MODEL"] = REPOSITORY
    first = user.call("true")
    assert first.returncode == 0
    said = first.stderr.splitlines()
    assert said[0].startswith(f"claude-local: downloading {REPOSITORY}")
    assert said[-1] == f"claude-local: {REPOSITORY} is here; it is loaded now"
    assert user.call("true").stderr == ""


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["pull"], 64, "pull needs the name of a model"),
        (["pull", "phi-3-mni"], 64, "did you mean phi-3-mini?"),
        (["pull", "someone/else"], 69, "has no someone/else: check the name"),
        (["pull", "a//b"], 64, "is no name of a model on the hub"),
        (["pull", "/nowhere"], 66, "is not a model: it has no config.json"),
        (["use", "/nowhere"], 66, "is not a model: it has no config.json"),
        (["use", "a//b"], 64, "is no name of a model on the hub"),
        (["rm", "demo"], 64, "not from the hub"),
        (["rm", "qwen3-4b"], 69, "is not on this disk"),
        (["pul", "x"], 64, "did you mean pull?"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(user: Home, words: list[str], code: int, says: str) -> None:
    result = user.call("models", *words)
    assert result.returncode == code and says in result.stderr, result
    assert result.stderr.startswith("claude-local: ") and result.stderr.count("\n") == 1
    assert not (user.folder / ".config").exists()


def test_a_folder_of_ones_own_can_be_the_default(user: Home, large: Path) -> None:
    (user.project / "mine").symlink_to(large)
    assert user.call("models", "use", "./mine").returncode == 0
    found = listed(user, str(user.project / "mine"))
    assert found["default"] and found["disk"] == "whole" and found["hub"] is None


def test_a_variable_that_wins_is_named(user: Home) -> None:
    user.environment["CLAUDE_LOCAL_MODEL"] = "demo"
    used = user.call("models", "use", "qwen3-4b")
    assert "claude-local models pull qwen3-4b" in used.stdout
    assert "CLAUDE_LOCAL_MODEL=demo is set in this shell, and wins" in used.stderr
