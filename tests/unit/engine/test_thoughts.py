"""Thoughts, in every model's own markers: told apart from the answer, never shown as text, read once.

The engine, the tokenizers and the grammars are real; only the model's wishes are made up.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.conversation import Conversation, Message, Sampling, Text, Thinking
from sidecar.engine.model import Model, load
from sidecar.engine.scheduling.stream import prepare
from sidecar.engine.tokenizing.encode_cache import Encoder
from sidecar.engine.tokenizing.special_tokens import Special
from sidecar.engine.tokenizing.thoughts import TABLE, Thoughts, thoughts_of
from sidecar.frames import Finished, Generate, Started, TextDelta, ThinkingDelta, ThinkingEnd, ToolArguments, ToolStart
from tests.conftest import FULL
from tests.support.models import FAMILIES, Family, make_tiny
from tests.unit.engine.test_answer_parser import parse
from tests.unit.engine.test_calls import READ, TOOLS, Wishes
from tests.unit.engine.test_scheduler import Engine

HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|return|>", "<|call|>")
COHERE = ("<|START|>", "<|BOT|>", "<|USER|>", "<|END_TURN|>")
COHERE_PARTS = ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>")
MODELS = {
    "gpt-oss": Family(
        "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}"
        "<|message|>{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        special=HARMONY,
        end="<|return|>",
    ),
    "Magistral": Family(
        "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.role == 'system' %}"
        "[SYSTEM]{{ m.content }}[/SYSTEM]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        special=("[INST]", "[/INST]", "[SYSTEM]", "[/SYSTEM]", "[THINK]", "[/THINK]", "</s>"),
        end="</s>",
    ),
    "Command A": Family(
        "{% for m in messages %}{% if m.role == 'assistant' %}<|START|><|BOT|><|START_RESPONSE|>{{ m.content }}"
        "<|END_RESPONSE|><|END_TURN|>{% else %}<|START|><|USER|>{{ m.content }}<|END_TURN|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|START|><|BOT|>{% endif %}",
        special=(*COHERE, *COHERE_PARTS),
        end="<|END_TURN|>",
    ),
    "R1 without tokens of its own": Family(
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{# answers in <think> and </think> #}{% endif %}",
    ),
    "Qwen 3": FAMILIES["qwen"],
}
FINAL = "<|channel|>final<|message|>"
WAYS = {
    "gpt-oss": ("<|channel|>analysis<|message|>@<|end|><|start|>assistant" + FINAL, FINAL),
    "Magistral": ("[THINK]@[/THINK]", ""),
    "Command A": ("<|START_THINKING|>@<|END_THINKING|><|START_RESPONSE|>", "<|START_RESPONSE|>"),
    "R1 without tokens of its own": ("<think>@</think>", ""),
    "Qwen 3": ("<think>@</think>", ""),
}
"""How each writes a thought and what follows it, and what it writes where it does not think."""
ASK = Message("user", (Text("go"),))


@pytest.fixture(scope="module", params=MODELS if FULL else ["gpt-oss", "Magistral"])
def thinker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Model]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "thinks", MODELS[request.param])
        yield request.param, load(make_tiny(tmp_path_factory.mktemp("thinks"), "thinks"), 1 << 33)


def answer(engine: Engine, text: str | list[int], conversation: Conversation, **more: Any) -> list[Any]:
    """What comes of an answer that the model wants to write."""
    model = engine.model
    number = len(engine.of(Started)) + 1
    how = {"max_tokens": 300, **more}
    stream = prepare(model, Generate(number, conversation, Sampling(0.0), **how), engine.context_window)
    tokens = model.tokenizer.encode(text, add_special_tokens=False) if isinstance(text, str) else text
    stream.processors.insert(0, Wishes([*tokens, min(model.tokenizer.eos_token_ids)]))
    engine.submit(stream)
    engine.until(lambda: engine.idle)
    return [frame for frame in engine.said if getattr(frame, "id", 0) == number]


def words(events: list[Any], kind: type) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.mark.parametrize("tools", [(), TOOLS], ids=["free", "held by a grammar"])
@pytest.mark.parametrize("thinking", [True, False])
def test_a_thought_is_a_thought_and_the_answer_is_read_once(
    thinker: tuple[str, Model], thinking: bool, tools: tuple[Any, ...]
) -> None:
    """Also where nobody has asked for thoughts, and gets none: the answer comes back without them."""
    name, model = thinker
    engine = Engine(model)
    before = WAYS[name][0] if thinking or not tools else WAYS[name][1]
    asked = Conversation("", (ASK,), tools, thinking=thinking)
    events = answer(engine, before.replace("@", "deep down") + "HELLO there", asked)
    assert words(events, TextDelta) == "HELLO there"
    assert words(events, ThinkingDelta) == ("deep down" if "@" in before else "")
    assert engine.of(Finished)[-1].reason == "end"
    signed = [Thinking("", event.signature) for event in events if isinstance(event, ThinkingEnd)] if thinking else []
    history = (ASK, Message("assistant", (*signed, Text("HELLO there"))), Message("user", (Text("and now?"),)))
    answer(engine, "", Conversation("", history, tools, thinking=thinking), max_tokens=1)
    first, second = engine.of(Started)
    assert second.cached_tokens >= first.prompt_tokens + engine.of(Finished)[0].output_tokens - 1


def test_a_call_and_json_come_after_the_thought(thinker: tuple[str, Model]) -> None:
    name, model = thinker
    before = WAYS[name][0].replace("@", "hm")
    for forced in ((), ("Read",)):
        asked = Conversation("", (ASK,), TOOLS, thinking=True)
        events = answer(Engine(model), before + READ, asked, forced=forced)
        assert [event.name for event in events if isinstance(event, ToolStart)] == ["Read"]
        assert "".join(event.json for event in events if isinstance(event, ToolArguments)) == '{"x": "a"}'
        assert (words(events, ThinkingDelta), words(events, TextDelta)) == ("hm", "")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    asked = Conversation("", (ASK,), thinking=True, answer_schema=schema)
    events = answer(Engine(model), before + '{"a": 17}', asked)
    assert (words(events, ThinkingDelta), words(events, TextDelta)) == ("hm", '{"a": 17}')


def test_the_answer_goes_on_from_words_of_the_clients(thinker: tuple[str, Model]) -> None:
    _, model = thinker
    begun = Conversation("", (ASK, Message("assistant", (Text("The answer"),))), TOOLS)
    assert words(answer(Engine(model), " is 42", begun), TextDelta) == " is 42"


def test_a_thought_that_takes_too_long_is_ended(thinker: tuple[str, Model]) -> None:
    name, model = thinker
    if not name.startswith("R1"):
        before = WAYS[name][0].split("@")[0]
        for tools in ((), TOOLS):
            asked = Conversation("", (ASK,), tools, thinking=True)
            events = answer(Engine(model), before + "x" * 400, asked, thinking_budget=5, max_tokens=60)
            assert len(words(events, ThinkingDelta)) < 60
            assert [type(event) for event in events].count(ThinkingEnd) == 1 and words(events, TextDelta)


@pytest.mark.parametrize("where", ["in the thought", "in the answer"])
def test_markers_that_are_spelled_out_are_words(thinker: tuple[str, Model], where: str) -> None:
    """A model may write about markers: such words are made of ordinary tokens."""
    name, model = thinker
    special, encoder = model.prompts.special, Encoder(model.tokenizer)
    markers = [*dict.fromkeys(special.pattern.findall("".join(WAYS[name]))), *[*special.words.values()][-3:]]
    cited = " and ".join([*markers, "HELLO"])
    begin, _, after = WAYS[name][0].partition("@")
    thought, said = (cited, "HELLO") if where == "in the thought" else ("hm", cited)
    text = f"{begin}{special.broken(thought)}{after}{special.broken(said)}"
    for tools in ((), TOOLS):
        asked = Conversation("", (ASK,), tools, thinking=True)
        events = answer(Engine(model), encoder.encode(text)[0].tolist(), asked, max_tokens=900)
        assert (words(events, ThinkingDelta), words(events, TextDelta)) == (thought, said)


CHANNELS = Special(dict(enumerate(["<|end|>", *HARMONY])))
GPT = TABLE[0]
CASES = [
    (FINAL + "yes", [("text", "yes")]),
    (
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant" + FINAL + "yes",
        [("thinking", "hm"), ("text", "yes")],
    ),
    ("<|channel|>analysis<|message|>hm" + FINAL + "yes", [("thinking", "hm"), ("text", "yes")]),
    ("<|channel|>final <|constrain|>json<|message|>{}<|return|>", [("text", "{}")]),
    (
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>analysis<|message|>hm<|end|>"
        "<|start|>assistant" + FINAL + "yes",
        [("text", "I look."), ("thinking", "hm"), ("text", "yes")],
    ),
    (" to=functions.x<|channel|>commentary json<|message|>{}<|call|>", [("text", " {}")]),
    ("<|message|>yes", [("text", "yes")]),
    ("yes", [("text", "yes")]),
    ("<|channel|>analysis<|message|>hm", [("thinking", "hm")]),
    ("<|channel|>fin", []),
]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(("text", "expected"), CASES)
def test_channels_read_the_same_in_any_pieces(text: str, expected: list[tuple[str, str]], size: int) -> None:
    """As an answer comes: tokens as a whole, words in pieces."""
    parts = [part for part in CHANNELS.pattern.sub(lambda found: f"\0{found[0]}\0", text).split("\0") if part]
    pieces = [
        piece
        for part in parts
        for piece in (
            [CHANNELS.marked(part)]
            if CHANNELS.pattern.fullmatch(part)
            else [part[at : at + size] for at in range(0, len(part), size)]
        )
    ]
    assert parse(pieces, 0, thoughts=GPT, special=CHANNELS)[1] == expected


BRACKETS = Special({1: "[THINK]", 2: "[/THINK]", 3: "[TOOL_CALLS]", 4: "<|im_end|>"})


@pytest.mark.parametrize(
    ("pieces", "stop", "expected"),
    [
        (["yes ", "^[THINK]", "hm", "^[/THINK]", " no"], (), [("text", "yes "), ("thinking", "hm"), ("text", " no")]),
        (["yes ", "[THINK]", " no"], (), [("text", "yes [THINK] no")]),
        (["^[THINK]", "[/THINK]", "^[/THINK]", "no"], (), [("thinking", "[/THINK]"), ("text", "no")]),
        (["a", "^[/THINK]", "b", "^[TOOL_CALLS]", "c", "^<|im_end|>"], (), [("text", "abc")]),
        (["a<|im_", "^<|im_end|>", "b"], ("<|im_end|>",), [("text", "a<|im_")]),
        (["a<|im_end|>b"], ("<|im_end|>",), [("text", "a")]),
    ],
)
def test_a_token_is_a_marker_and_its_words_are_words(
    pieces: list[str], stop: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    """A token that means nothing to a reader is not shown. A stop sequence is both."""
    fed = [BRACKETS.marked(piece[1:]) if piece[0] == "^" else piece for piece in pieces]
    assert parse(fed, 0, None, thoughts=Thoughts("[THINK]", "[/THINK]"), special=BRACKETS, stop=stop)[1] == expected


def test_what_a_model_thinks_with_is_found_by_its_words(tmp_path: Path) -> None:
    class Tokenizer:
        has_thinking = False

        def __init__(self, vocabulary: list[str], template: Any = None) -> None:
            self.get_vocab = lambda: dict.fromkeys(vocabulary, 0)
            self.chat_template = template

    def found(*how: Any) -> str | None:
        thoughts = thoughts_of(Tokenizer(*how))  # type: ignore[arg-type]
        return thoughts.begin if thoughts else None

    assert found(["[THINK]", "[/THINK]"]) == "[THINK]"
    assert found(["[THINK]"]) is None
    assert found(["<|channel|>", "<|message|>", "<|end|>"]) == GPT.begin
    assert found([], "say <think> and </think>") == "<think>"
    assert found([], {"default": "<think></think>"}) is None
    assert found([]) is None
