"""Decode speed and time to first token through the whole stack, beside bare mlx-lm on the same model, interleaved.

    .venv/bin/python -m tests.bench.decode MODEL_DIRECTORY [rounds]

Ours: client → relay's protocol on the Unix socket → sidecar → engine. Theirs: `mlx_lm.stream_generate` in a process of
its own, same BLAS. Prints medians and the ratio ours ÷ theirs; absolute figures mean little on a shared machine.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sidecar.engine_process import environment
from tests.process.test_sidecar import REAL, TOKEN, Sidecar, UnixConnection

TOKENS = 256
PROMPT = "Write a long story. " * 20

BARE = """
import json, sys, time, mlx_lm
model, tokenizer = mlx_lm.load(sys.argv[1])
for line in sys.stdin:
    words, tokens = json.loads(line)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": words}], add_generation_prompt=True)
    began, first, count = time.perf_counter(), 0.0, 0
    for count, _ in enumerate(mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=tokens), 1):
        first = first or time.perf_counter()
    print(json.dumps([first - began, (count - 1) / (time.perf_counter() - first)]), file=sys.stderr, flush=True)
"""


def main() -> None:
    model, rounds = str(Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(prefix="cl-", dir="/tmp") as folder:
        sidecar = Sidecar(Path(folder), REAL, model)
        sidecar.start()
        sidecar.lease().until("ready")
        command = [sys.executable, "-I", "-c", BARE, model]
        bare = subprocess.Popen(
            command,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        results: dict[str, list[list[float]]] = {"ours": [], "mlx-lm": []}
        for round_ in range(rounds + 1):
            words = f"Round {round_}. {PROMPT}"
            results["ours"].append(ours(sidecar, words))
            results["mlx-lm"].append(theirs(bare, words))
        bare.kill()
        bare.communicate()
        sidecar.close()
    show({name: values[1:] for name, values in results.items()})  # the first round compiles and warms


def ours(sidecar: Sidecar, words: str) -> list[float]:
    """Seconds to the first text, then tokens per second."""
    connection = UnixConnection(sidecar.socket)
    messages = [{"role": "user", "content": words}]
    body = {"model": sidecar.model, "max_tokens": TOKENS, "stream": True, "temperature": 0, "messages": messages}
    began = time.perf_counter()
    connection.request("POST", "/v1/messages", json.dumps(body), {"authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    first, usage = 0.0, 0
    while line := answer.readline():
        if b"text_delta" in line:
            first = first or time.perf_counter()
        if line.startswith(b"data: ") and b"output_tokens" in line:
            usage = json.loads(line[6:]).get("usage", {}).get("output_tokens", 0)
    ended = time.perf_counter()
    connection.close()
    return [first - began, (usage - 1) / (ended - first)]


def theirs(bare: subprocess.Popen[str], words: str) -> list[float]:
    assert bare.stdin is not None and bare.stderr is not None
    bare.stdin.write(json.dumps([words, TOKENS]) + "\n")
    bare.stdin.flush()
    while not (line := bare.stderr.readline()).startswith("["):
        assert line, "mlx-lm ended"
    return list(json.loads(line))


def show(results: dict[str, list[list[float]]]) -> None:
    medians: dict[str, list[Any]] = {}
    for name, values in results.items():
        medians[name] = [statistics.median(column) for column in zip(*values, strict=True)]
        print(f"{name:8} first token {medians[name][0] * 1000:7.1f} ms   decode {medians[name][1]:7.1f} tokens/s")
    first, decode = (ours / theirs for ours, theirs in zip(medians["ours"], medians["mlx-lm"], strict=True))
    print(f"ratio    first token {first:7.2f}      decode {decode:7.2f}")


if __name__ == "__main__":
    main()
