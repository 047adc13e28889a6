"""A model's name becomes a complete directory on disk.

Runs as a process of its own (`python -m sidecar.models.resolve NAME`), so that the hub library's memory and threads
stay out of the sidecar and giving up is a kill. Says JSON lines on stdout: `{"done", "total"}` in bytes while it
downloads, then either the fields of `ModelFiles` or `{"error", "exit_code"}`. Without a name it says which models are
on disk, whole or in part: `{"models": {name: {"date", "files"}}}`, where files is null for one that is not whole.
"""

import difflib
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

from sidecar.models.catalog import ALIASES
from sidecar.shared import machine
from sidecar.shared.config import KV_GROUP

DEMO = Path(__file__).parents[1] / "demo"
"""The built-in model, part of this package."""
Tell = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all, while something is downloaded."""

# sysexits.h
EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_IOERR = 64, 65, 66, 69, 74


class ModelUnavailable(Exception):
    """The model cannot be had; the text says what to do."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A complete model directory and what its configuration says."""

    path: str
    weights_bytes: int
    context_window: int
    """The most tokens that the model was made for."""
    bytes_per_token: int
    """Predicted growth of the KV cache at full precision; layers with a sliding window do not grow."""
    kv_width: int = 2
    """Bytes of one number in it."""
    kv_group: int = 0
    """Numbers that share a scale where the cache is quantised; 0 = this model's cannot be."""
    widened_bytes: int = 0
    """What a CPU needs more for the weights: it computes with packed ones in 32 bits, and widens all that has 16."""

    @property
    def memory_bytes(self) -> int:
        """What the weights take once they are loaded."""
        return self.weights_bytes + self.widened_bytes

    def on_cpu(self, half: int) -> "ModelFiles":
        """The same where a CPU computes with packed weights, beside which `half` bytes are in half precision."""
        return replace(self, widened_bytes=half, bytes_per_token=self.bytes_per_token * 4 // self.kv_width, kv_width=4)


def resolve(name: str, tell: Tell) -> ModelFiles:
    """Find the model, downloading what is missing; raises ModelUnavailable."""
    if path := local_path(name):
        return inspect(path)
    return _from_hub(repository(name), tell)


def local_path(name: str) -> Path | None:
    """Where a model is that no hub is asked for: the built-in one, or a path; None for all others."""
    if name == "demo":
        return DEMO
    return Path(name).expanduser() if name.startswith(("/", "~")) else None


def repository(name: str) -> str:
    """The hub id that an alias stands for, or the name itself if it can be one; raises ModelUnavailable."""
    found = ALIASES.get(name, name)
    if "/" not in found:
        known = ["demo", *ALIASES]
        close = difflib.get_close_matches(name.lower(), known, 1)
        hint = f"did you mean {close[0]}? There are" if close else "use one of"
        text = f"no model is called {name!r}: {hint} {', '.join(known)}, a hub id (owner/name) or a path"
        raise ModelUnavailable(text, EX_USAGE)
    return found


def inspect(path: Path) -> ModelFiles:
    """Check that a directory holds a whole model, without loading it; raises ModelUnavailable, with EX_DATAERR where
    its files are not what a model's are."""
    config = configuration(path)
    try:
        text = {**config, **(config.get("text_config") or {})}
        return described(path, text, *_check_weights(path), _window(text, path))
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
    ) as error:
        raise ModelUnavailable(f"{path}/config.json is not understood: {error}", EX_DATAERR) from None


def configuration(path: Path) -> dict[str, Any]:
    """What a model's config.json says; raises ModelUnavailable."""
    try:
        return _table(path / "config.json")
    except FileNotFoundError:
        raise ModelUnavailable(f"{path} is not a model: it has no config.json", EX_NOINPUT) from None
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}/config.json cannot be read: {error}", EX_DATAERR) from None


def _table(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises OSError, and ValueError for anything else, which may be a pipe that nobody
    writes to."""
    if file.exists() and not file.is_file():
        raise ValueError("it is no ordinary file")
    try:
        table = json.loads(file.read_text("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(table, dict):
        raise ValueError("it is no JSON object")
    return table


def described(path: Path, config: dict[str, Any], weights: int, half: int, window: int) -> ModelFiles:
    """What follows from the configuration of a language model; raises what arithmetic on anything may raise.

    `weights`: bytes of all of them; `half`: of what is in half precision beside packed ones, 0 where none are packed.
    """
    per_token = kv_bytes_per_token(config)
    if window < 1 or per_token < 0:
        raise ValueError(f"a window of {window} tokens, {per_token} bytes for each")
    files = ModelFiles(str(path), weights, window, per_token, _kv_width(config), kv_group(config))
    return files.on_cpu(half) if half and not machine.accelerated() else files


def kv_bytes_per_token(config: dict[str, Any]) -> int:
    """Predicted bytes that one token adds to the KV cache, from config.json's usual keys; too high when in doubt."""
    layers = int(config.get("num_hidden_layers", 0))
    heads = int(config.get("num_attention_heads", 1))
    if types := config.get("layer_types"):
        layers = sum(kind == "full_attention" for kind in types)
    elif interval := config.get("full_attention_interval"):
        layers //= int(interval)
    elif pattern := config.get("sliding_window_pattern"):
        layers = -(-layers // int(pattern))
    elif "attention_window_size" in config:  # recurrent_gemma: every attention is local
        layers = 0
    shared = config.get("num_key_value_heads") or heads
    widest = max(shared) if isinstance(shared, list) else shared  # of layers that differ
    return 2 * layers * int(widest) * _head_dim(config) * _kv_width(config)


def _head_dim(config: dict[str, Any]) -> int:
    return int(config.get("head_dim") or config.get("hidden_size", 0) // int(config.get("num_attention_heads", 1)))


def _kv_width(config: dict[str, Any]) -> int:
    return 4 if (config.get("torch_dtype") or config.get("dtype")) == "float32" else 2


PLAIN_KV = frozenset({"llama", "mistral", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe"})
"""Architectures whose every layer keeps keys and values in mlx-lm's plain cache, the only kind that it can quantise."""


def kv_group(config: dict[str, Any]) -> int:
    """The size of the groups in which this model's heads are quantised; 0 = its KV caches cannot be."""
    types = config.get("layer_types") or ()
    if config.get("model_type") not in PLAIN_KV or any(kind != "full_attention" for kind in types):
        return 0
    return KV_GROUP if _head_dim(config) and _head_dim(config) % KV_GROUP == 0 else 0


def _window(config: dict[str, Any], path: Path) -> int:
    if window := config.get("max_position_embeddings"):
        return int(window)
    try:
        limit = _table(path / "tokenizer_config.json").get("model_max_length")
    except (OSError, ValueError):
        limit = None
    # transformers writes 1e30 for "unknown"
    return int(limit) if limit and limit < 1e8 else 8192


UNSEEN = ("vision", "visual")
"""In the names of what only sees, which is not loaded."""


def _check_weights(path: Path) -> tuple[int, int]:
    """Bytes of weights, and of those in half precision beside packed ones; a file that is missing, cut off or not
    safetensors at all is named."""
    from safetensors import SafetensorError, safe_open

    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(_table(index)["weight_map"].values()))
    else:
        names = sorted(file.name for file in path.glob("model*.safetensors"))
    if not names:
        raise ModelUnavailable(f"{path} has no weights in safetensors files", EX_NOINPUT)
    numbers: Counter[str] = Counter()
    for name in names:
        if not (path / name).is_file():
            raise ModelUnavailable(f"{path / name} is missing", EX_NOINPUT)
        try:
            with safe_open(path / name, framework="numpy") as file:
                for key in file.keys():  # noqa: SIM118  # it is no mapping
                    if not any(unseen in key for unseen in UNSEEN):
                        tensor = file.get_slice(key)
                        numbers[tensor.get_dtype()] += prod(tensor.get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelUnavailable(f"{path / name} is corrupt ({error}): delete it and try again", EX_DATAERR) from None
    half = 2 * (numbers["F16"] + numbers["BF16"]) if numbers["U32"] else 0
    return sum((path / name).stat().st_size for name in names), half


def _from_hub(repository: str, tell: Tell) -> ModelFiles:
    from sidecar.models import hub  # half a second of imports that a local model does without

    try:
        if snapshot := hub.cached(repository):
            return inspect(snapshot)
    except ModelUnavailable:
        pass  # an interrupted download
    except hub.HubError as error:
        raise ModelUnavailable(str(error), EX_USAGE) from None
    try:
        return inspect(hub.fetch(repository, tell))
    except hub.DiskFull as error:
        raise ModelUnavailable(str(error), EX_IOERR) from None
    except hub.HubError as error:
        raise ModelUnavailable(str(error), EX_UNAVAILABLE) from None


def stored() -> dict[str, dict[str, Any]]:
    """The built-in model and those of the hub's cache, with their dates (RFC 3339) and what their folders say. One that
    nobody could load is left out: whatever is odd about it must not hide the others."""
    from sidecar.models import hub

    found: dict[str, dict[str, Any]] = {"demo": {"date": "", "files": asdict(inspect(DEMO))}}
    for each in hub.stored():
        date = datetime.fromtimestamp(int(each.changed), UTC).isoformat()
        try:
            path = hub.cached(each.repository)
            found[each.repository] = {"date": date, "files": asdict(inspect(path)) if path else None}
        except ModelUnavailable as error:
            if error.exit_code != EX_DATAERR:  # a download that was interrupted
                found[each.repository] = {"date": date, "files": None}
        except (hub.HubError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            continue
    return found


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Resolve the model named on the command line and say so in JSON lines."""
    if len(sys.argv) == 1:
        _say({"models": stored()})
        return 0
    try:
        _say(asdict(resolve(sys.argv[1], lambda done, total: _say({"done": done, "total": total}))))
    except ModelUnavailable as error:
        _say({"error": str(error), "exit_code": error.exit_code})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
