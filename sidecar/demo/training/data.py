"""Conversations to learn from and to be judged by: tasks, tools and foreign text put together, rendered and packed.

`conversation` and `render` serve training and scoring alike; `rows` turns conversations into token lists.
The held-out half uses other words, names and texts (see words.py) and other seeds.
Run `python data.py` to read a few samples.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from sidecar.demo.training import steps, tasks
from sidecar.demo.training.messages import Message, reminder
from sidecar.demo.training.tools import Kit, kit
from sidecar.demo.training.words import Pool, instructions

TEMPLATE = (Path(__file__).parents[1] / "template.jinja").read_text()

Task = Callable[[Pool, random.Random, Kit], list[Message]]
TASKS: dict[Task, float] = {
    tasks.greet: 5,
    tasks.say: 9,
    tasks.read: 14,
    tasks.run: 13,
    tasks.endless: 2,
    tasks.summarize: 3,
    tasks.unknown: 7,
    steps.both: 14,
    steps.chain: 16,
    steps.subagent: 10,
    steps.plan: 8,
}
"""How often each is practised: what takes several steps is harder, and comes more often than anybody will ask it."""
_KITS, _OFTEN = ((True, True), (True, False), (False, True), (False, False)), (60, 17, 13, 10)
"""Whether a reading and a running tool are offered."""


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: list[Message]
    tools: tuple[dict[str, Any], ...]
    last: int = 0
    """Where the last exchange begins."""


def conversation(pool: Pool, rng: random.Random, noise: int, turns: int, task: Task | None = None) -> Conversation:
    """`turns` exchanges, the last of them `task`, behind up to `noise` characters of foreign text."""
    read, run = rng.choices(_KITS, _OFTEN)[0]
    offered = kit(pool, rng, read, run, others=rng.choice((0, 0, 1, 3, 7)))
    messages: list[Message] = []
    if noise or rng.random() < 0.3:
        messages.append({"role": "system", "content": instructions(pool, rng, int(noise * rng.random()))})
    for turn in range(turns):
        last = task if task and turn == turns - 1 else None
        chosen = last or rng.choices(list(TASKS), list(TASKS.values()))[0]
        exchange, begin = chosen(pool, rng, offered), len(messages)
        messages += [_reminded(pool, rng, exchange[0], noise if turn == 0 else noise // 8), *exchange[1:]]
    return Conversation(messages, offered.definitions, begin)


def _reminded(pool: Pool, rng: random.Random, message: Message, noise: int) -> Message:
    """The user's words with reminders before or after them, as agents send them."""
    if rng.random() < (0.6 if noise < 100 else 0.3):
        return message
    other = reminder(instructions(pool, rng, int(noise * rng.random())))
    parts = [message["content"], other] if rng.random() < 0.2 else [other, message["content"]]
    return message | {"content": "\n\n".join(parts)}


def _refuse(reason: str) -> None:
    raise ValueError(reason)


@cache
def _template() -> Any:
    """The template in the environment that transformers gives it, which training machines need not have."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _refuse
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
    """Token ids that delimit turns and answers."""

    assistant: int
    end: int
    pad: int
    user: int
    words: int
    tool: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Marks":
        ids = tokenizer.get_vocab()
        return cls(*(ids[f"<|{field.name}|>"] for field in fields(cls)))


def answered(ids: list[int], marks: Marks) -> list[int]:
    """For each token of an answer, where the text begins that one must have seen to know it; -1 for all others.

    That is the user's words, or the call whose results it reports. The end marker is part of the answer, the newline
    that opens the turn is not.
    """
    inside, source, turn, last, result = 0, 0, -1, 0, list[int]()
    for index, token in enumerate(ids):
        inside = inside and inside + 1
        result.append(source if inside > 2 and token != marks.pad else -1)
        if token in (marks.end, marks.pad):
            inside = 0
        elif token == marks.words:
            source = index if turn == marks.user else source
        elif token in (marks.user, marks.tool, marks.assistant):
            source = index if token == marks.user else last if token == marks.tool else source
            last = index if token == marks.assistant else last
            inside, turn = int(token == marks.assistant), token
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
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        cut = max(0, len(ids) - (length + 1 - len(row)))
        row += ids[cut:]
        wanted += [source >= cut for source in answered(ids, marks)[cut:]]
    gap = length + 1 - len(row)
    return row + [marks.pad] * gap, wanted + [False] * gap


def _talk(pool: Pool, rng: random.Random, length: int) -> str:
    """A conversation among foreign text; mostly its system block is out of sight.

    It ends anywhere: rows keep the ends of what does not fit, and first calls would hardly be seen.
    """
    noise = rng.choices((0, 200, length), (40, 20, 40))[0]
    talk = conversation(pool, rng, noise, rng.choices((1, 2, 4), (65, 20, 15))[0])
    ends = [index for index, message in enumerate(talk.messages, 1) if message["role"] == "assistant"]
    text = render(talk.messages[: rng.choice(ends) if rng.random() < 0.7 else None], talk.tools)
    return text[text.index("<|user|>") :] if rng.random() < 0.75 else text


def small_talk(pool: Pool, rng: random.Random) -> str:
    """An exchange or two with nothing around them, to begin with."""
    read, run = rng.choices(_KITS, _OFTEN)[0]
    offered = kit(pool, rng, read, run, others=rng.choice((0, 0, 0, 2, 5)))
    chosen = rng.choices(list(TASKS), list(TASKS.values()), k=rng.choice((1, 1, 2)))
    text = render([message for task in chosen for message in task(pool, rng, offered)], offered.definitions)
    return text[text.index("<|user|>") :]


def drill(pool: Pool, rng: random.Random, tokenizer: Tokenizer, length: int) -> Row:
    """Pieces that come twice: the shortest way to a model that copies.

    Some are meaningless, some words; and some are long and made of few different tokens, so that only what lies
    several tokens back tells where in the piece one is.
    """
    ids: list[int] = []
    wanted: list[bool] = []
    while len(ids) <= length:
        piece = _piece(pool, rng, tokenizer, length)
        gap = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.choice((0, 1, 2, 4, 8)))]
        known = min(len(piece), 4)
        ids += [*piece, *gap, *piece]
        wanted += [*[False] * (len(piece) + len(gap) + known - 1), *[True] * (len(piece) - known + 1)]
    return ids[: length + 1], wanted[: length + 1]


def _piece(pool: Pool, rng: random.Random, tokenizer: Tokenizer, length: int) -> list[int]:
    kind, size = rng.random(), rng.randint(3, 16)
    if kind < 0.25:
        return [rng.randrange(tokenizer.get_vocab_size()) for _ in range(size)]
    if kind < 0.5:
        return tokenizer.encode(pool.phrase(rng), add_special_tokens=False).ids[:size]
    size = rng.randint(16, max(17, length // 3))
    if kind < 0.65:
        return tokenizer.encode(pool.extract(rng, 600), add_special_tokens=False).ids[:size]
    few = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randint(4, max(5, size // 2)))]
    return rng.choices(few, k=size)


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
