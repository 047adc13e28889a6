"""Models in the shared cache that nobody can read: they are listed as that, and are in nobody's way.

Any program may have written them: a converter that was wrong, an interrupted copy, somebody who means harm.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.client.conftest import machine
from tests.support.home import Home
from tests.support.hub import COMMIT

LIMIT_S = 60
"""For one word: a pipe that nobody writes to would be waited for until then."""

GOOD = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2}


def config(**changes: object) -> Callable[[Path], None]:
    return lambda snapshot: write(snapshot, json.dumps({**GOOD, **changes}))


def write(snapshot: Path, text: str) -> None:
    (snapshot / "config.json").write_text(text)


def pipe(name: str) -> Callable[[Path], None]:
    def make(snapshot: Path) -> None:
        (snapshot / name).unlink(missing_ok=True)
        os.mkfifo(snapshot / name)

    return make


def both(*steps: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(snapshot: Path) -> None:
        for step in steps:
            step(snapshot)

    return make


def reference(data: bytes | None) -> Callable[[Path], None]:
    """Of the branch: other bytes, or a pipe."""

    def make(snapshot: Path) -> None:
        file = snapshot.parents[1] / "refs" / "main"
        file.unlink()
        if data is None:
            os.mkfifo(file)
        else:
            file.write_bytes(data)

    return make


ODD = {
    "layers-null": config(num_hidden_layers=None),
    "layers-many": config(num_hidden_layers="some"),
    "heads-none": config(num_attention_heads=-0.5),
    "pattern-text": config(sliding_window_pattern="LLLG"),
    "interval-list": config(full_attention_interval=[1]),
    "window-endless": config(max_position_embeddings=float("inf")),
    "window-negative": config(max_position_embeddings=-1),
    "text-config-text": config(text_config="none"),
    "list": lambda snapshot: write(snapshot, "[]"),
    "no-json": lambda snapshot: write(snapshot, "{"),
    "deep": lambda snapshot: write(snapshot, "[" * 100_000),
    "binary": lambda snapshot: (snapshot / "config.json").write_bytes(b"\xff\xfe\x00"),
    "pipe-config": pipe("config.json"),
    "index-odd": both(config(), lambda place: (place / "model.safetensors.index.json").write_text('{"weight_map": 5}')),
    "pipe-reference": reference(None),
    "reference-binary": reference(b"\xff\xfe"),
}
FINE = {
    "good": config(),
    "text-config-null": config(text_config=None),
    "heads-of-each-layer": config(num_key_value_heads=[2, 4]),
    "pipe-index": both(config(), pipe("model.safetensors.index.json")),
    "pipe-tokenizer": both(config(max_position_embeddings=None), pipe("tokenizer_config.json")),
}
"""Odd, but it is known what is meant."""


@pytest.fixture(scope="module")
def user(tiny: Path) -> Iterator[Home]:
    with machine(grace=600) as place:
        home = Home("home", place)
        home.environment |= {"HF_HOME": str(home.folder / "hf"), "HF_HUB_OFFLINE": "1"}
        for name, spoil in {**ODD, **FINE}.items():
            folder = home.folder / "hf" / "hub" / f"models--odd--{name}"
            snapshot = folder / "snapshots" / COMMIT
            snapshot.mkdir(parents=True)
            (folder / "refs").mkdir()
            (folder / "refs" / "main").write_text(COMMIT)
            shutil.copy(tiny / "model.safetensors", snapshot)
            spoil(snapshot)
        yield home
        home.close()


def test_each_is_listed_as_unreadable_and_the_others_as_ever(user: Home) -> None:
    listed = user.call("models", "--json", timeout=LIMIT_S)
    assert (listed.returncode, listed.stderr) == (0, ""), listed
    found = {each["name"]: each for each in json.loads(listed.stdout)["models"]}
    assert {name for name, each in found.items() if each["disk"] == "unreadable"} == {f"odd/{name}" for name in ODD}
    assert {name for name, each in found.items() if each["disk"] == "whole"} >= {f"odd/{name}" for name in FINE}
    assert all(found[f"odd/{name}"]["complaint"] for name in ODD) and not found["odd/good"]["complaint"]
    drawn = user.call("models", timeout=LIMIT_S)
    assert drawn.returncode == 0 and "unreadable" in drawn.stdout and "phi-3-mini" in drawn.stdout


LONG = [pytest.param(name, marks=pytest.mark.full) for name in ("pipe-reference", "list", "index-odd")]


@pytest.mark.parametrize("name", ["layers-null", "pipe-config", *LONG])
def test_each_word_says_in_one_line_what_is_wrong_with_it(user: Home, name: str) -> None:
    for words in (("models", "use", f"odd/{name}"), ("run", "--model", f"odd/{name}", "hi")):
        result = user.call(*words, timeout=LIMIT_S)
        assert result.returncode in (64, 65, 69) and result.stderr.count("\n") == 1, result
        assert result.stderr.startswith("claude-local: ") and "Traceback" not in result.stderr
    assert "unreadable" in user.call("models", "show", f"odd/{name}", "--json", timeout=LIMIT_S).stdout
    environment = {**user.environment, "CLAUDE_LOCAL_MODEL": f"odd/{name}"}
    checked = user.call("doctor", "model", "memory", env=environment, timeout=LIMIT_S)
    assert checked.returncode == 1 and "failure" in checked.stdout and not checked.stderr, checked


def test_the_api_lists_the_others(user: Home) -> None:
    ask = (
        "import json, os, urllib.request as u; "
        "r = u.Request(os.environ['ANTHROPIC_BASE_URL'] + '/v1/models?limit=1000', "
        "headers={'x-api-key': os.environ['ANTHROPIC_AUTH_TOKEN']}); "
        "print(*[each['id'] for each in json.load(u.build_opener(u.ProxyHandler({})).open(r, timeout=30))['data']])"
    )
    listed = user.call("python3", "-c", ask, timeout=LIMIT_S)
    assert listed.returncode == 0, listed
    names = set(listed.stdout.split())
    assert {f"odd/{name}" for name in FINE} <= names and "phi-3-mini" in names
    assert not names & {"odd/list", "odd/no-json", "odd/pipe-config", "odd/pipe-reference"}
