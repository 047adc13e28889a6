"""Thoughts: how a model marks what it thinks, and where its answer begins. One table for all models.

What counts is which words a tokenizer or a template knows, not what a model is called.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlx_lm.tokenizer_utils import TokenizerWrapper

Edges = Mapping[str, tuple[tuple[str, str], ...]]
"""For each state the words that lead out of it, and whither. An answer begins in "start"; of what comes in "text" and
"thinking" it is made, and what comes in any other state is left out."""


@dataclass(frozen=True, slots=True)
class Thoughts:
    """A thought is `begin`, words and `end`; then comes `between`, and another thought, or `answer` and the answer."""

    begin: str
    end: str
    between: str = ""
    answer: str = ""
    edges: Edges = field(default_factory=dict)
    """Where these four are not all there is to it."""

    @property
    def closing(self) -> str:
        """What ends a thought and leaves nothing but the answer."""
        return self.end + self.between + self.answer

    def opened_in(self, opening: str) -> bool:
        """Whether a thought has begun in what the prompt already has of the answer."""
        return opening.rfind(self.begin) > opening.rfind(self.end)

    def answered_in(self, opening: str) -> bool:
        """The same of the answer itself."""
        return bool(self.answer) and opening.rfind(self.answer) > opening.rfind(self.begin)


_CHANNELS: Edges = {
    "start": (("<|channel|>", "channel"), ("<|message|>", "text"), ("<|start|>", "header"), ("to=", "header")),
    "header": (("<|channel|>", "channel"), ("<|message|>", "text")),
    "channel": (("analysis", "channel of thoughts"), ("<|message|>", "text")),
    "channel of thoughts": (("<|message|>", "thinking"),),
    "thinking": (("<|end|>", "header"), ("<|start|>", "header"), ("<|channel|>", "channel")),
    "text": (("<|end|>", "header"), ("<|start|>", "header"), ("<|channel|>", "channel")),
}
"""An answer is made of messages, each with a header that names its channel, and perhaps more."""
TABLE = (
    Thoughts(
        "<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant", "<|channel|>final<|message|>", _CHANNELS
    ),
    Thoughts("[THINK]", "[/THINK]"),
    Thoughts("<|START_THINKING|>", "<|END_THINKING|>", "", "<|START_RESPONSE|>"),
    Thoughts("<seed:think>", "</seed:think>"),
    Thoughts("<|inner_prefix|>", "<|inner_suffix|>"),
    Thoughts("◁think▷", "◁/think▷"),
    Thoughts("<thought>", "</thought>"),
    Thoughts("<think>", "</think>"),
)
"""gpt-oss; Magistral and Ministral; Command A; Seed-OSS; Apertus; Kimi-VL; EXAONE Deep; and those that write in plain
letters what others have tokens for. What mlx-lm knows of itself goes before."""
_NAMES = re.compile(r"<[^<>]+>|\[/?[A-Z]+\]|◁[^◁▷]+▷")


def thoughts_of(tokenizer: TokenizerWrapper) -> Thoughts | None:
    """How this model thinks; None where nothing says that it does."""
    if tokenizer.has_thinking:
        shown = tuple((word, "text") for word in tokenizer.structural_markers)
        edges = {"start": shown, "text": shown} if shown else {}
        return Thoughts(tokenizer.think_start, tokenizer.think_end, answer=shown[0][0] if shown else "", edges=edges)
    vocabulary, template = tokenizer.get_vocab(), tokenizer.chat_template
    template = template if isinstance(template, str) else ""
    for row in TABLE:
        names = _NAMES.findall(row.begin + row.end + row.answer)
        if all(name in vocabulary for name in names) or (row.begin in template and row.end in template):
            return row
    return None
