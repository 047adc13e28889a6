"""Settings: the environment beats the file, the file beats the defaults, and a mistake is named."""

from pathlib import Path

import pytest

from sidecar.shared import config
from sidecar.shared.config import NEVER, Config, ConfigError, load


def environment(tmp_path: Path, toml: str | None = None, **variables: str) -> dict[str, str]:
    if toml is not None:
        (tmp_path / "claude-local").mkdir()
        (tmp_path / "claude-local" / "config.toml").write_text(toml)
    return {"XDG_CONFIG_HOME": str(tmp_path), **variables}


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load(environment(tmp_path)) == Config()


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    config = load(environment(tmp_path, 'model = "demo"\ngrace = 7', CLAUDE_LOCAL_GRACE="never"))
    assert (config.model, config.grace) == ("demo", NEVER)


@pytest.mark.parametrize(
    ("toml", "temperature"),
    [("", None), ("temperature = 'auto'", None), ("temperature = 0.6", 0.6), ("temperature = 0", 0.0)],
)
def test_a_temperature_is_a_number_or_the_authors(tmp_path: Path, toml: str, temperature: float | None) -> None:
    assert load(environment(tmp_path, toml)).own_temperature == temperature
    variables = {} if temperature is None else {"CLAUDE_LOCAL_TEMPERATURE": str(temperature)}
    assert load({"XDG_CONFIG_HOME": str(tmp_path / "none"), **variables}).own_temperature == temperature


@pytest.mark.parametrize(("raw", "value"), [("1", True), ("yes", True), ("0", False), ("", False), ("off", False)])
def test_switches_take_the_usual_words(tmp_path: Path, raw: str, value: bool) -> None:
    assert load(environment(tmp_path, CLAUDE_LOCAL_NO_INSTALL=raw)).no_install is value


@pytest.mark.parametrize(
    ("toml", "variables", "says"),
    [
        ("grace = ", {}, "config.toml"),
        ("modle = 'x'", {}, "unknown key 'modle'"),
        ("model = 3", {}, "not a text"),
        (None, {"CLAUDE_LOCAL_GRACE": "soon"}, "CLAUDE_LOCAL_GRACE: 'soon'"),
        (None, {"CLAUDE_LOCAL_UNLOAD": "-1"}, "CLAUDE_LOCAL_UNLOAD"),
        ("port = 80", {}, "from 1024 to 65535"),
        (None, {"CLAUDE_LOCAL_PORT": "65536"}, "from 1024 to 65535"),
        (None, {"CLAUDE_LOCAL_CONTEXT": "1.5"}, "whole number"),
        (None, {"CLAUDE_LOCAL_LOG_LEVEL": "verbose"}, "none of debug"),
        (None, {"CLAUDE_LOCAL_KV_BITS": "6"}, "'6' is none of auto, 16, 8, 8/4, 4"),
        (None, {"CLAUDE_LOCAL_KV_BITS": "4/8"}, "kv_bits: '4/8' is none of auto"),
        ("kv_bits = 6", {}, "kv_bits: '6' is none of auto"),
        ("kv_bits = 8.4", {}, "kv_bits: .8.4. is none of auto"),
        (None, {"CLAUDE_LOCAL_TEMPERATURE": "warm"}, "neither auto nor a number from 0 to 2"),
        ("temperature = 2.5", {}, "neither auto nor a number from 0 to 2"),
        ("temperature = nan", {}, "neither auto nor a number from 0 to 2"),
        ("temperature = true", {}, "not a text"),
        (None, {"CLAUDE_LOCAL_NO_INSTALL": "perhaps"}, "neither true nor false"),
        (None, {"CLAUDE_LOCAL_MEMORY_CRITICAL_GB": "3"}, "must fall in this order"),
        (None, {"CLAUDE_LOCAL_MEMORY_CAUTION_GB": "never"}, "must fall in this order"),
        ("memory_emergency_gb = 1.5", {}, "must fall in this order"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, toml: str | None, variables: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(environment(tmp_path, toml, **variables))


@pytest.mark.parametrize(("toml", "bits"), [("8", "8"), ('"8"', "8"), ('"8/4"', "8/4"), ('"AUTO"', "auto")])
def test_a_choice_may_be_written_as_a_number_or_in_capitals(tmp_path: Path, toml: str, bits: str) -> None:
    assert load(environment(tmp_path, f"kv_bits = {toml}")).kv_bits == bits


def test_data_and_logs_of_macos_are_in_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/Users/me")
    assert config._home_directory("data", "darwin") == Path("/Users/me/Library/Application Support/claude-local")
    assert config._home_directory("logs", "darwin") == Path("/Users/me/Library/Logs/claude-local")
