"""mlx-lm alone, greedy, on prompts rendered as ours are: what an answer is held against.

A process of its own, since MLX wants one thread: `python -m tests.support.bare MODEL TOKENS`, conversations on stdin.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from sidecar.conversation import Conversation
from sidecar.supervisor.environment import environment


class Bare(NamedTuple):
    """An answer."""

    text: str
    ended: bool
    """By itself, not by the limit."""
    tokens: int


def answers(model: Path, conversations: Sequence[Conversation], tokens: int) -> list[Bare]:
    """What it says to each, within so many tokens."""
    command = [sys.executable, "-m", "tests.support.bare", str(model), str(tokens)]
    told = subprocess.run(
        command,
        input=msgspec.json.encode(conversations),
        stdout=subprocess.PIPE,
        env=environment(),
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return [Bare(*each) for each in json.loads(told.stdout.splitlines()[-1])]


def main() -> None:
    import mlx_lm

    from sidecar.engine.prompting.prompt_builder import PromptBuilder

    weights, tokenizer = mlx_lm.load(sys.argv[1])
    prompts = PromptBuilder(tokenizer)
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Conversation])
    said = [_answer(weights, tokenizer, prompts.build(each).tokens, int(sys.argv[2])) for each in asked]
    print(f"\n{json.dumps(said)}")


def _answer(weights: Any, tokenizer: Any, prompt: list[int], tokens: int) -> Bare:
    from mlx_lm import stream_generate

    pieces = list(stream_generate(weights, tokenizer, prompt, max_tokens=tokens))
    return Bare("".join(piece.text for piece in pieces), pieces[-1].finish_reason == "stop", len(pieces))


if __name__ == "__main__":
    main()
