"""What the grammar costs: decode speed with tools offered beside the same without, interleaved in one run.

    .venv/bin/python -m tests.bench.grammar [rounds]

A model of 20 million random parameters with a vocabulary of 32,768 and 25 tools. Without tools the same words stand in
the system prompt, so that both read the same tokens; the answers are free text, as most of an agent's are, of the same
length. Prints medians of tokens per second over all streams, and the ratio.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from sidecar import frames
from sidecar.conversation import Conversation, Message, Text
from sidecar.engine.prompting.tool_prompt import describe
from sidecar.frames import Finished, TextDelta
from sidecar.supervisor.environment import environment
from tests.support.engine_process import EngineProcess
from tests.support.models import make_tiny
from tests.support.schemas import TOOLS

TOKENS = 160
SHAPE = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4}
WORDS = describe(list(TOOLS))
ASK = (Message("user", (Text("Write a long story."),)),)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(prefix="cl-", dir="/tmp") as folder:
        engine = EngineProcess(make_tiny(Path(folder), vocabulary=32768, **SHAPE), environment())
        for streams in (1, 4):
            speeds: dict[str, list[float]] = {"without": [], "with": []}
            for round_ in range(rounds + 1):
                for name, tools in (("without", ()), ("with", TOOLS)):
                    speed = measure(engine, streams, Conversation("" if tools else WORDS, ASK, tools))
                    if round_:  # the first one reads the prompts and compiles
                        speeds[name].append(speed)
            show(streams, speeds)
        engine.close()


def measure(engine: EngineProcess, streams: int, conversation: Conversation) -> float:
    """Tokens per second of all streams together, from the moment when all decode to the first one's end."""
    open_ = {engine.submit(conversation, max_tokens=TOKENS) for _ in range(streams)}
    speaking: set[int] = set()
    began, tokens = 0.0, 0
    while True:
        frame = engine.receive()
        if isinstance(frame, TextDelta | frames.ThinkingDelta):
            tokens += bool(began)
            speaking.add(frame.id)
            began = began or (time.perf_counter() if len(speaking) == streams else 0.0)
        if isinstance(frame, Finished):
            assert frame.output_tokens == TOKENS, frame
            seconds = seconds_since(began) if len(open_) == streams else 0.0
            if seconds:
                speed = tokens / seconds
            open_.discard(frame.id)
            if not open_:
                return speed


def seconds_since(began: float) -> float:
    return time.perf_counter() - began


def show(streams: int, speeds: dict[str, list[float]]) -> None:
    without, with_ = (statistics.median(speeds[name]) for name in ("without", "with"))
    print(
        f"{streams} streams: {without:7.1f} tokens/s without tools, {with_:7.1f} with, ratio {with_ / without:.3f}"
        f" (rounds {', '.join(f'{b / a:.2f}' for a, b in zip(speeds['without'], speeds['with'], strict=True))})"
    )


if __name__ == "__main__":
    main()
