"""The model on disk, and whether it answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import shim
from shim.doctor.check import Finding, failure, ok, warning
from shim.doctor.context import Case
from shim.terminal.progress import size
from sidecar.models import catalog, cpu_speed, hub, resolve
from sidecar.models.catalog import MODELS
from sidecar.models.resolve import ModelFiles, ModelUnavailable, inspect, local_path

HASH_S = 300.0
"""For all bytes of a model: 40 GB from a fast disk."""
ANSWER_S = 300.0
"""For loading a model from a cold disk and one token."""
DEMO_NAME = "demo"

ASK = """
import json, os, time, urllib.error, urllib.request
began = time.monotonic()
table = {"model": os.environ["ANTHROPIC_MODEL"], "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
headers = {"content-type": "application/json", "anthropic-version": "2023-06-01",
           "authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]}
address = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
request = urllib.request.Request(address, json.dumps(table).encode(), headers)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    answer = json.load(direct.open(request))
except urllib.error.HTTPError as error:
    raise SystemExit(json.load(error)["error"]["message"])
print(json.dumps({"tokens": answer["usage"]["output_tokens"], "seconds": time.monotonic() - began}))
"""
"""Run as a command under claude-local, as a user's own program would be."""


class Known(NamedTuple):
    """What is known of a model without loading it."""

    name: str
    repository: str
    """Its id on the hub; empty for a folder and for demo."""
    path: Path | None
    """Where its files are; None = nowhere yet."""
    files: ModelFiles | None
    """None where it is not whole."""
    complaint: str = ""
    """Why not."""

    @property
    def weights(self) -> int:
        """Bytes; 0 = not known."""
        return self.files.weights_bytes if self.files else int(catalog.WEIGHTS.get(self.name, 0))


def known(name: str) -> Known:
    """Looks at the disk alone."""
    repository, path = "", local_path(name)
    try:
        if path is None:
            repository = resolve.repository(name)
            path = hub.cached(repository)
        return Known(name, repository, path, inspect(path) if path else None)
    except (ModelUnavailable, hub.HubError) as error:
        return Known(name, repository, path, None, str(error))


def complete(model: Known) -> Finding:
    """Every file against its hash, where the hub's cache knows one."""
    if model.complaint:
        return _broken(model)
    if model.files is None or model.path is None:
        much = f" ({size(model.weights)})" if model.weights else ""
        return ok(f"{model.name} is not on this disk yet: the first use downloads it{much}")
    if not model.repository:
        return ok(f"{model.path}, {size(model.weights)}; there are no hashes to compare with")
    if damaged := hub.damaged(model.path):
        names = ", ".join(file.name for file in damaged)
        return failure(f"{model.name}: {names} is not what the hub has", f"claude-local models pull {model.name}")
    return ok(f"{model.name}, {size(model.weights)}, every file as the hub has it")


def pace(model: Known, cores: int) -> Finding:
    """What it is computed with here, and how fast that will be. `cores`: 0 = there is a GPU."""
    if not cores:
        return ok("there is a GPU, which has kernels of its own for weights of every kind")
    if model.files is None or model.path is None:
        about = MODELS.get(model.name)
        if about is None:
            return ok(f"known once {model.name} is on this disk")
        return judge_pace(model.name, about.parameters, cores)
    if not model.files.widened_bytes:
        return ok(f"{model.name} is not packed: mlx multiplies float32 through a BLAS, other numbers one by one")
    packed = model.files.weights_bytes - model.files.widened_bytes
    bits = (resolve.configuration(model.path).get("quantization") or {}).get("bits") or 4
    return judge_pace(model.name, packed * 8 / bits / 1e9, cores)


def judge_pace(name: str, parameters: float, cores: int) -> Finding:
    """`parameters`: in billions, packed."""
    about = MODELS.get(name)
    active = about.active if about and about.active else parameters
    speed = cpu_speed.speed(parameters, active, cores)
    here = (
        f"{name} is packed, and there is no GPU: prompts are read with unpacked weights through numpy's BLAS, about "
        f"{speed.read:.0f} tokens/s; answers are written by mlx's plain kernels on {cores} "
        f"{'core' if cores == 1 else 'cores'}, about {speed.written:.1f} tokens/s"
    )
    if speed.is_bearable:
        return ok(here)
    return warning(f"{here}: too slow for an agent", "claude-local models says which model is fast enough here")


def _broken(model: Known) -> Finding:
    if model.path is None:
        text, _, fix = model.complaint.partition(": ")
        return failure(text, fix)
    if not model.repository:
        return failure(model.complaint, "point CLAUDE_LOCAL_MODEL at a folder with config.json and *.safetensors")
    return failure(f"{model.name} is not whole: {model.complaint}", f"claude-local models pull {model.name}")


def answer(case: Case, model: Known) -> Finding:
    """One token, asked for by a command as the user's own would. Nobody's model is replaced for it: where one is in
    memory, that is asked; where ours is not on disk, demo."""
    loaded = ((case.running() or {}).get("model") or {}).get("name")
    name = loaded or (model.name if model.files else DEMO_NAME)
    command = [sys.executable, "-IS", str(Path(shim.__file__ or "").with_name("__main__.py")), sys.executable, "-I"]
    environment = {**os.environ, "CLAUDE_LOCAL_MODEL": name}
    try:
        done = subprocess.run(
            [*command, "-c", ASK],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ANSWER_S,
        )
    except subprocess.TimeoutExpired:
        return failure(f"{name} gave no token within {ANSWER_S:.0f} s", "claude-local stop --now, and try again")
    remark = "" if loaded else ", loading included"
    if name != model.name:
        remark += f" (asked in place of {model.name}, so that nothing is downloaded or replaced)"
    return judge_answer(name, remark, done.returncode, done.stdout, done.stderr, case.settings.logs)


def judge_answer(name: str, remark: str, status: int, said: str, complaints: str, logs: Path) -> Finding:
    """`remark`: what is to be said of the time that it took."""
    if status:
        why = (complaints.strip().splitlines() or [f"ended with status {status}"])[-1].removeprefix("claude-local: ")
        return failure(f"{name} does not answer: {why}", f"look at the end of {logs / 'sidecar.log'}")
    about = json.loads(said)
    here = f"{name} answered in {about['seconds']:.1f} s{remark}"
    if about["tokens"] != 1:
        return failure(f"{here}, with {about['tokens']} tokens where one was asked for", "report this line")
    return ok(here)
