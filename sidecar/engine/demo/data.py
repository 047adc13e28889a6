"""Conversations to learn from and to be judged by: tasks, tools and foreign text put together, rendered and packed.

`conversation` and `render` serve training and scoring alike; `rows` turns conversations into token lists.
The held-out half uses other words, names and texts (see words.py) and other seeds.
Run `python data.py` to read a few samples.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from sidecar.engine.demo import tasks
from sidecar.engine.demo.tasks import Message
from sidecar.engine.demo.tools import Kit, kit
from sidecar.engine.demo.words import Pool, instructions

TEMPLATE = (Path(__file__).parent / "template.jinja").read_text()

Task = Callable[[Pool, random.Random, Kit], list[Message]]
TASKS: dict[Task, float] = {
    tasks.greet: 11,
    tasks.say: 27,
    tasks.read: 23,
    tasks.run: 20,
    tasks.both: 6,
    tasks.unknown: 13,
}
_KITS = ((True, True), (True, False), (False, True), (False, False))


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: list[Message]
    tools: tuple[dict[str, Any], ...]


def conversation(pool: Pool, rng: random.Random, noise: int, turns: int, task: Task | None = None) -> Conversation:
    """`turns` exchanges, the last of them `task`, behind up to `noise` characters of foreign text."""
    read, run = rng.choices(_KITS, (60, 12, 12, 16))[0]
    offered = kit(pool, rng, read, run, others=rng.choice((0, 0, 1, 3, 7)))
    messages: list[Message] = []
    if noise or rng.random() < 0.3:
        messages.append({"role": "system", "content": instructions(pool, rng, int(noise * rng.random()))})
    for turn in range(turns):
        last = task if task and turn == turns - 1 else None
        chosen = last or rng.choices(list(TASKS), list(TASKS.values()))[0]
        exchange = chosen(pool, rng, offered)
        messages += [_reminded(pool, rng, exchange[0], noise if turn == 0 else noise // 8), *exchange[1:]]
    return Conversation(messages, offered.definitions)


def _reminded(pool: Pool, rng: random.Random, message: Message, noise: int) -> Message:
    """The user's words with reminders before or after them, as agents send them."""
    if rng.random() < (0.6 if noise < 100 else 0.3):
        return message
    reminder = f"<system-reminder>\n{instructions(pool, rng, int(noise * rng.random()))}\n</system-reminder>"
    parts = [message["content"], reminder] if rng.random() < 0.2 else [reminder, message["content"]]
    return message | {"content": "\n\n".join(parts)}


@cache
def _template() -> Any:
    """The template in the environment that transformers gives it, which training machines need not have."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE)


def render(messages: list[Message], tools: tuple[dict[str, Any], ...], add_generation_prompt: bool = False) -> str:
    """The prompt, as `tokenizer.apply_chat_template(…, tokenize=False)` writes it."""
    text: str = _template().render(
        messages=messages, tools=list(tools) or None, add_generation_prompt=add_generation_prompt
    )
    return text


def answer(message: Message) -> str:
    """What the model has to write for this message, without the end marker."""
    return render([message], ()).removeprefix("<|assistant|>\n").removesuffix("<|end|>\n")


@dataclass(frozen=True, slots=True)
class Marks:
    """Token ids that delimit answers."""

    assistant: int
    end: int
    pad: int
    users: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Marks":
        ids = tokenizer.get_vocab()
        return cls(ids["<|assistant|>"], ids["<|end|>"], ids["<|pad|>"], frozenset((ids["<|user|>"], ids["<|words|>"])))


def answered(ids: list[int], marks: Marks) -> list[bool]:
    """For each token, whether it is part of an answer; the end marker is, the newline that opens the turn is not.

    Answers before the first sight of a user's words do not count: what they copy is cut off, and nobody could know it.
    """
    inside, sighted, result = 0, False, []
    for token in ids:
        inside = inside and inside + 1
        sighted = sighted or token in marks.users
        result.append(inside > 2 and sighted)
        if token == marks.assistant:
            inside = 1
        elif token == marks.end:
            inside = 0
    return result


SHORT = 200
"""Rows up to this many tokens hold nothing but exchanges."""
Row = tuple[list[int], list[bool]]
"""Token ids, and for each whether the model has to get it right."""


def talks(pool: Pool, rng: random.Random, tokenizer: Tokenizer, length: int) -> Row:
    """Conversations one after the other, which are noise to each other.

    One that does not fit keeps its end, as a window that slides would leave it.
    """
    row: list[int] = []
    wanted: list[bool] = []
    marks = Marks.of(tokenizer)
    while len(row) < max(1, length - 40):
        text = small_talk(pool, rng) if length <= SHORT else _talk(pool, rng, length)
        ids = tokenizer.encode(text, add_special_tokens=False).ids[-(length + 1 - len(row)) :]
        row += ids
        wanted += answered(ids, marks)
    gap = length + 1 - len(row)
    return row + [marks.pad] * gap, wanted + [False] * gap


def _talk(pool: Pool, rng: random.Random, length: int) -> str:
    """A conversation among foreign text; half of the time its system block is out of sight."""
    noise = rng.choices((0, 200, length), (40, 20, 40))[0]
    talk = conversation(pool, rng, noise, rng.choices((1, 2, 4), (65, 20, 15))[0])
    text = render(talk.messages, talk.tools)
    return text[text.index("<|user|>") :] if rng.random() < 0.5 else text


def small_talk(pool: Pool, rng: random.Random) -> str:
    """An exchange or two with nothing around them, to begin with."""
    read, run = rng.choices(_KITS, (60, 12, 12, 16))[0]
    offered = kit(pool, rng, read, run, others=rng.choice((0, 0, 0, 2, 5)))
    chosen = rng.choices(list(TASKS), list(TASKS.values()), k=rng.choice((1, 1, 2)))
    text = render([message for task in chosen for message in task(pool, rng, offered)], offered.definitions)
    return text[text.index("<|user|>") :]


def drill(pool: Pool, rng: random.Random, tokenizer: Tokenizer, length: int) -> Row:
    """Meaningless pieces that come twice: the shortest way to a model that copies."""
    ids: list[int] = []
    wanted: list[bool] = []
    while len(ids) <= length:
        size = rng.randint(3, 16)
        if rng.random() < 0.5:
            piece = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(size)]
        else:
            piece = tokenizer.encode(pool.phrase(rng), add_special_tokens=False).ids[:size]
        gap = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.choice((0, 1, 2, 4, 8)))]
        ids += [*piece, *gap, *piece]
        wanted += [*[False] * (len(piece) + len(gap) + 1), *[True] * (len(piece) - 1)]
    return ids[: length + 1], wanted[: length + 1]


def rows(pool: Pool, seed: int, tokenizer: Tokenizer, length: int, drills: float) -> Iterator[Row]:
    """Endless rows of `length` + 1 tokens, a share of them drills."""
    rng = random.Random(seed)
    while True:
        yield (drill if rng.random() < drills else talks)(pool, rng, tokenizer, length)


if __name__ == "__main__":
    sampler = random.Random(1)
    for _ in range(12):
        sample = conversation(Pool("train"), sampler, 0, 1)
        print(render(sample.messages, sample.tools), "-" * 40)
