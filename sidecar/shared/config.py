"""The configuration: every value, its default and where it comes from.

Standard library only, since the shim reads it in the fast path. Environment variables beat
`config.toml`, which beats the defaults below. Built once, passed down, never assigned to.
"""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

NEVER = float("inf")
PREFIX = "CLAUDE_LOCAL_"
KV_BITS = {"16": (16, 16), "8": (8, 8), "8/4": (8, 4), "4": (4, 4)}
"""Formats of KV caches, the finest first: bits for each number of the keys and of the values."""
KV_GROUP = 32
"""Numbers of a quantised KV cache that share a scale and an offset: the fewest that mlx quantises together."""
CHOICES = {
    "kv_bits": ("auto", *KV_BITS),
    "profile": ("auto", "full", "lean", "bare"),
    "log_level": ("debug", "info", "warning", "error"),
}
"""The settings that are one of a few words."""
AUTO = "auto"
HOTTEST = 2.0
"""The highest temperature: above it models write noise."""
PORTS = range(1024, 65536)
"""Those that a user may have."""


class ConfigError(Exception):
    """A setting that cannot be used; the text says which one and what it may be."""


class Config(NamedTuple):
    """All settings. The key in config.toml is the field's name; the variable is CLAUDE_LOCAL_ + NAME."""

    model: str = "phi-3-mini"
    """Alias, hub id or local path of the default model."""
    grace: float = 300.0
    """Seconds from the last lease and request to the sidecar's exit: long enough to run the next command."""
    unload: float = 900.0
    """Seconds without a request after which the engine exits although terminals are open."""
    context: int = 0
    """Upper limit of the context window in tokens; 0 = what the model and the memory allow."""
    cache_gb: float = 0.0
    """Memory for cached prefixes in GB; 0 = a quarter of what is free once the model is loaded."""
    kv_bits: str = "auto"
    """auto | 16 | 8 | 8/4 | 4: bits for each number of a KV cache, 8/4 = keys in 8 and values in 4; auto = fewer where
    16 would leave too short a window."""
    temperature: str = AUTO
    """auto, or a number from 0, always the likeliest token, to HOTTEST: where a request names none; auto = what the
    model's author recommends."""
    disk_cache: str = ""
    """Where prefixes are kept on disk; empty = the platform's place, off = nowhere."""
    disk_cache_gb: float = 8.0
    """The most that they take there, never more than a tenth of what is free: some thirty agent prompts of 12,000
    tokens, for a model of middling size."""
    memory_caution_gb: float = 2.0
    """Free memory below which what is only kept for speed is given back."""
    memory_critical_gb: float = 1.0
    """Free memory below which no request begins: an ordinary desktop starts to swap about there."""
    memory_emergency_gb: float = 0.5
    """Free memory below which the model is given up at once."""
    memory_limit_gb: float = 0.0
    """The most that all our processes may hold together; 0 = what the machine has."""
    port: int = 7777
    """Of global mode and `claude-local serve`: free on most machines, and easy to remember."""
    profile: str = "auto"
    """auto | full | lean | bare: how much of its prompt Claude Code is asked to send; auto = what model and machine can
    bear."""
    no_install: bool = False
    """Refuse to install Claude Code privately when it is not on PATH."""
    log_level: str = "info"
    """debug | info | warning | error. Prompts are logged at none of them."""
    run_dir: str = ""
    """Socket and locks; empty = the platform's place (`run_directory.run_directory`)."""
    data_dir: str = ""
    """The private Claude Code install; empty = the platform's place."""
    log_dir: str = ""
    """Logs; empty = the platform's place."""

    @property
    def data(self) -> Path:
        return Path(self.data_dir) if self.data_dir else _home_directory("data")

    @property
    def prefixes(self) -> Path | None:
        """The folder of prefixes on disk; None = there is none."""
        if self.disk_cache.lower() in ("off", "no", "false", "0"):
            return None
        return (
            Path(self.disk_cache).expanduser().absolute() if self.disk_cache else _home_directory("cache") / "prefixes"
        )

    @property
    def own_temperature(self) -> float | None:
        """The user's; None = not set."""
        return None if self.temperature.lower() == AUTO else float(self.temperature)

    @property
    def logs(self) -> Path:
        return Path(self.log_dir) if self.log_dir else _home_directory("logs")


class Setting(NamedTuple):
    """A value, and who said so: a variable, a file, or nobody (empty)."""

    value: object
    origin: str = ""


def load(environment: Mapping[str, str] = os.environ) -> Config:
    """Read the configuration; raises ConfigError with one line that says what to change."""
    path = config_file(environment)
    text = _read(path)
    if strange := unknown_keys(environment, text):
        name, near = strange[0]
        hint = f"did you mean {near}?" if near else f"the keys are {', '.join(Config._fields)}."
        raise ConfigError(f"{path}: unknown key {name!r}; {hint}")
    return _checked(settings(environment, text))


def settings(environment: Mapping[str, str], text: str | None = None) -> dict[str, Setting]:
    """Every setting, from the environment and the text of config.toml (None = the file that is there); unknown keys
    are passed over. Raises ConfigError."""
    path = config_file(environment)
    table = _table(_read(path) if text is None else text, path)
    found = {}
    for name, default in Config._field_defaults.items():
        variable = f"{PREFIX}{name.upper()}"
        if variable in environment:
            found[name] = Setting(_parse(variable, environment[variable], default), variable)
        elif name in table:
            found[name] = Setting(_parse(f"{path}: {name}", table[name], default), str(path))
        else:
            found[name] = Setting(default)
    return found


def parsed(name: str, raw: str) -> str | int | float | bool:
    """A word as the setting's own type; raises ConfigError."""
    value = _parse(name, raw, Config._field_defaults[name])
    assert isinstance(value, str | int | float)
    return value


def check(text: str, environment: Mapping[str, str] = os.environ) -> Config:
    """What a config.toml of this text means; raises ConfigError."""
    return _checked(settings(environment, text))


def _checked(found: Mapping[str, Setting]) -> Config:
    values = {name: setting.value for name, setting in found.items()}
    for name, choices in CHOICES.items():
        if str(values[name]).lower() not in choices:
            raise ConfigError(f"{name}: {values[name]!r} is none of {', '.join(choices)}.")
        values[name] = str(values[name]).lower()
    config = Config(**values)  # type: ignore[arg-type]  # _parse gives each field the type of its default
    if not NEVER > config.memory_caution_gb >= config.memory_critical_gb >= config.memory_emergency_gb:
        raise ConfigError("memory_caution_gb, memory_critical_gb and memory_emergency_gb must fall in this order.")
    if not _is_temperature(config.temperature):
        raise ConfigError(f"temperature: {config.temperature!r} is neither auto nor a number from 0 to {HOTTEST:g}.")
    if config.port not in PORTS:
        raise ConfigError(f"port: {config.port} is none: choose one from {PORTS[0]} to {PORTS[-1]}.")
    return config


def _is_temperature(word: str) -> bool:
    try:
        return word.lower() == AUTO or 0 <= float(word) <= HOTTEST
    except ValueError:
        return False


def unknown_keys(environment: Mapping[str, str] = os.environ, text: str | None = None) -> list[tuple[str, str]]:
    """The keys of config.toml that mean nothing, each with the one that is nearly it, or ""."""
    path = config_file(environment)
    return _strange(_table(_read(path) if text is None else text, path), Config._fields)


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[tuple[str, str]]:
    """The same for variables that begin like ours."""
    # Compared without what they all begin with, which would make any two of them look alike.
    names = (name.removeprefix(PREFIX).lower() for name in environment if name.startswith(PREFIX))
    found = _strange(names, Config._fields)
    return [(f"{PREFIX}{name.upper()}", near and f"{PREFIX}{near.upper()}") for name, near in found]


def _strange(names: Iterable[str], known: Sequence[str]) -> list[tuple[str, str]]:
    strange = sorted(set(names) - set(known))
    if not strange:
        return []
    from difflib import get_close_matches  # nobody pays for it who makes no mistake

    return [(name, next(iter(get_close_matches(name, known, 1, 0.75)), "")) for name in strange]


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}. Correct it or move it away.") from None


def _table(text: str, path: Path) -> dict[str, object]:
    if not text:
        return {}
    import tomllib  # 4 ms, and most users have no such file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}. Correct it or move it away.") from None


def config_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where config.toml is looked for; the same on Linux and macOS, as command-line tools do."""
    base = environment.get("XDG_CONFIG_HOME") or os.path.join(_home(), ".config")
    return Path(base) / "claude-local" / "config.toml"


def scratch() -> Path:
    """Where mlx keeps the kernels that it compiles."""
    return _home_directory("cache") / "kernels"


def _parse(name: str, raw: object, default: object) -> object:
    if isinstance(default, bool):
        if raw in (True, False):
            return bool(raw)
        if str(raw).lower() in ("1", "true", "yes", "on", "0", "false", "no", "off", ""):
            return str(raw).lower() in ("1", "true", "yes", "on")
        raise ConfigError(f"{name}: {raw!r} is neither true nor false.")
    if isinstance(default, (int, float)) and not isinstance(raw, bool):
        try:
            value = NEVER if raw == "never" and isinstance(default, float) else type(default)(str(raw))
        except ValueError:
            value = -1
        if value >= 0:
            return value
        kind = "a number of seconds or GB, or never" if isinstance(default, float) else "a whole number"
        raise ConfigError(f"{name}: {raw!r} is not {kind}.")
    if isinstance(raw, str):
        return raw or default
    if default == AUTO and isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return f"{raw:g}"  # as TOML writes a number
    raise ConfigError(f"{name}: {raw!r} is not a text.")


def _home() -> str:
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise ConfigError("no home directory: set HOME.")
    return home


def _home_directory(kind: str, platform: str = sys.platform) -> Path:
    if platform == "darwin":
        place = {
            "data": "Library/Application Support/claude-local",
            "cache": "Library/Caches/claude-local",
            "logs": "Library/Logs/claude-local",
        }
        return Path(_home()) / place[kind]
    if kind == "data":
        return Path(os.environ.get("XDG_DATA_HOME") or os.path.join(_home(), ".local/share")) / "claude-local"
    if kind == "cache":
        return Path(os.environ.get("XDG_CACHE_HOME") or os.path.join(_home(), ".cache")) / "claude-local"
    return Path(os.environ.get("XDG_STATE_HOME") or os.path.join(_home(), ".local/state")) / "claude-local" / "logs"


KERNELS = "kernels"
"""The name of the folder of compiled kernels, wherever it lies."""


def kv_format_name(bits: str) -> str:
    """The format as people read it."""
    keys, _, values = bits.partition("/")
    return f"KV caches in {keys} bits" + f" (values in {values})" * bool(values)
