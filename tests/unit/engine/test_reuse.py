"""What is read again from memory or disk says the same as what is read afresh, on every kind of model."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.conversation import Conversation, Frame, Message, Sampling, Text
from sidecar.engine.cache.disk_store import open_disk
from sidecar.engine.cache.kv_layout import Layout
from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.model import Model, load
from sidecar.engine.scheduling.admission import Room
from sidecar.engine.scheduling.scheduler import Scheduler
from sidecar.engine.scheduling.stream import prepare
from sidecar.frames import Finished, Generate, Started, TextDelta
from tests.support.models import make_tiny

LOTS = 1 << 34
WINDOW = 4096
GROUPED = {"model_type": "llama", "num_key_value_heads": 2, "head_dim": 32}
SHAPES: dict[str, dict[str, Any]] = {
    "dense": {},
    "grouped-query": GROUPED,
    # Two layers that see 64 tokens, two that see all.
    "sliding-window": {
        **GROUPED,
        "num_hidden_layers": 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 64,
    },
    # A recurrent state, and attention that rolls after 64 tokens.
    "hybrid": {
        "model_type": "recurrent_gemma",
        "num_hidden_layers": 4,
        "num_key_value_heads": 1,
        "block_types": ["recurrent", "attention"],
        "attention_window_size": 64,
        "attention_bias": False,
        "conv1d_width": 4,
        "logits_soft_cap": 0.0,
        "tie_word_embeddings": True,
    },
    "experts": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2},
    "longrope": {
        "rope_scaling": {"type": "longrope", "long_factor": [1.0 + i for i in range(8)], "short_factor": [1.0] * 8},
        "original_max_position_embeddings": 256,
    },
}
SYSTEM = " ".join(f"word{index * 7919 % 997}" for index in range(120))


class Session:
    """A scheduler, and whoever talks to it."""

    def __init__(self, model: Model, prefixes: PrefixCache) -> None:
        self.frames: list[Frame] = []
        self.prefixes = prefixes
        self.scheduler = Scheduler(model, WINDOW, prefixes, self._hear, lambda: Room(LOTS, LOTS))

    def _hear(self, *frames: Frame) -> None:
        self.frames += frames

    def ask(self, *words: str) -> tuple[str, int, int]:
        """The greedy answer, the tokens of the prompt, and how many of them were known."""
        roles = ("user", "assistant")
        turns = tuple(Message(roles[index % 2], (Text(text),)) for index, text in enumerate(words))  # type: ignore[arg-type]
        self.frames.clear()
        request = Generate(1, Conversation(SYSTEM, turns), Sampling(0.0), 24)
        self.scheduler.submit(prepare(self.scheduler.model, request, WINDOW))
        while not self.scheduler.idle:
            self.scheduler.step()
        assert isinstance(self.frames[-1], Finished), self.frames
        [started] = [frame for frame in self.frames if isinstance(frame, Started)]
        answer = "".join(frame.text for frame in self.frames if isinstance(frame, TextDelta))
        return answer, started.prompt_tokens, started.cached_tokens


@pytest.mark.parametrize("shape", SHAPES)
def test_reused_caches_give_the_tokens_of_fresh_ones(shape: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model = load(make_tiny(tmp_path / "model", **SHAPES[shape]), LOTS)

    def opened() -> PrefixCache:
        layout = Layout(model.new_cache).name
        return PrefixCache(LOTS, model.new_cache, open_disk(tmp_path / "disk", LOTS, tmp_path / "model", shape, layout))

    session = Session(model, opened())
    first, length, known = session.ask("hello")
    assert known == 0
    turns = ("hello", first, "and what is this?")
    second, longer, known = session.ask(*turns)
    assert length - 1 <= known < longer, "it has not read the first turn again"
    other, _, known = session.ask("something else")
    assert known > 200, "the system prompt is shared"
    assert session.ask(*turns)[0] == second
    while session.prefixes.unwritten:
        session.prefixes.write()

    fresh = Session(model, PrefixCache(LOTS, model.new_cache))
    assert fresh.ask("something else")[::2] == (other, 0)
    fresh.prefixes.clear()
    assert fresh.ask(*turns)[::2] == (second, 0)

    later = Session(model, opened())
    answer, longer, known = later.ask(*turns)
    assert (answer, later.ask("something else")[0]) == (second, other)
    assert known >= length - 1
