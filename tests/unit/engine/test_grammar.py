"""What one row may write: calls, what comes after them, and what becomes of a grammar that cannot be followed.

The tokenizer and the grammars are real; only the model's wishes are made up: it wants the next token of a given text.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from llguidance.hf import from_tokenizer
from mlx_lm.utils import load_tokenizer

from sidecar.conversation import Call, Tool
from sidecar.engine.structured_output.call_format import OURS, CallFormat
from sidecar.engine.structured_output.grammar import Grammars, Shape
from sidecar.engine.structured_output.logits_processors import GrammarProcessor
from sidecar.engine.structured_output.loops import LEAST, LEAST_DIGITS, Loops
from tests.support.models import write_tokenizer

TEXT: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
TOOLS = (Tool("Read", "", TEXT), Tool("Run", "", TEXT))
READ = OURS.render(Call("", "Read", {"x": "a"}))
RUN = OURS.render(Call("", "Run", {"x": "b"}))
LIKELY = 20.0


class Writer:
    """Writes what a model would that wants to write a given text."""

    def __init__(self, path: Path, family: str, calls: CallFormat = OURS) -> None:
        write_tokenizer(path, family)
        wrapper = load_tokenizer(path)
        [self.end] = wrapper.eos_token_ids
        self.size = len(wrapper)
        self.guide = from_tokenizer(wrapper._tokenizer, self.size, [self.end])
        self.grammars = Grammars(self.guide, wrapper, calls, self.size)

    def processor(self, shape: Shape, temperature: float = 0.0) -> GrammarProcessor:
        return GrammarProcessor(
            self.grammars.guide(shape), Loops(self.grammars.vocabulary), self.size, self.end, temperature
        )

    def write(self, shape: Shape, text: str, most: int = 2000) -> str:
        """Greedily: the token that is wanted where it may come, else the end, else the first that may."""
        self.held = self.processor(shape)
        wanted, written = [*self.guide.tokenize_str(text), self.end], list[int]()
        sampled: int | None = None
        while len(written) < most:
            logits = mx.zeros((1, self.size))
            logits[0, self.end] = LIKELY / 2
            if written == wanted[: len(written)]:
                logits[0, wanted[len(written)]] = LIKELY
            sampled = int(mx.argmax(self.held(sampled, logits)).item())
            if sampled == self.end:
                break
            written.append(sampled)
        return self.spell(written)

    def spell(self, tokens: Sequence[int]) -> str:
        return bytes(self.guide.decode_bytes([*tokens])).decode()


@pytest.fixture(scope="module", params=["phi3", "qwen"])
def writer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """With markers that are spelled out, and with markers that are tokens."""
    return Writer(tmp_path_factory.mktemp(request.param), request.param)


FORCED = Shape(TOOLS, ("Read", "Run"))


@pytest.mark.parametrize("shape", [FORCED, Shape(TOOLS)])
@pytest.mark.parametrize(
    ("wanted", "written"),
    [
        (READ, READ),
        (f"{READ}\nThe file says", READ),
        (f"{READ}\n\nThe file says", READ),
        (f"{READ} and more", READ),
        (f"{READ}\n{RUN}", f"{READ}\n{RUN}"),
        (f"{READ}\n{RUN}\nThe file says", f"{READ}\n{RUN}"),
        (f"{READ}\n{RUN}\n{READ}\n{RUN}", f"{READ}\n{RUN}\n{READ}"),
    ],
)
def test_after_a_call_comes_what_the_model_wants_or_the_end(
    writer: Writer, shape: Shape, wanted: str, written: str
) -> None:
    assert writer.write(shape, wanted).rstrip() == written


def test_the_result_that_a_model_makes_up_is_not_written(writer: Writer) -> None:
    """Its marker may begin like that of a call."""
    assert READ in (text := writer.write(FORCED, f"{READ}\n<tool_response>\nx")) and "resp" not in text


def test_one_call_is_all_where_one_is_wanted(writer: Writer) -> None:
    assert writer.write(Shape(TOOLS, ("Read", "Run"), parallel=False), f"{READ}\n{RUN}") == READ


def test_after_a_call_the_end_is_as_likely_as_all_that_is_no_call(writer: Writer) -> None:
    processor, sampled = writer.processor(FORCED, temperature=1.0), None
    for token in [None, *writer.guide.tokenize_str(READ)]:
        sampled = token
        logits = processor(sampled, mx.zeros((1, writer.size)))
    shares = mx.softmax(logits[0])
    [newline] = writer.guide.tokenize_str("\n")
    assert shares[newline].item() == pytest.approx(1 / writer.size, rel=1e-3)
    others = float(sum(share for token, share in enumerate(shares.tolist()) if token in (newline, writer.end)))
    assert others == pytest.approx(1.0, rel=1e-3)


def test_a_pattern_that_cannot_be_followed_is_loosened_where_it_was_met(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    huge = {**TEXT, "properties": {"x": {"type": "string", "pattern": "^((.{0,900}){0,900}){0,900}$"}}}
    shape = Shape((Tool("Read", "", huge),), ("Read",))
    whole = OURS.render(Call("", "Read", {"x": "a man of many words"}))
    assert writer.write(shape, whole) == whole
    assert not writer.held.failed
    [line] = [record.getMessage() for record in caplog.records if "too complex to be followed" in record.getMessage()]
    assert line.startswith("Read: ")
    caplog.clear()
    assert writer.write(shape, whole) == whole
    assert not caplog.records  # the next one begins with the looser grammar


def test_a_grammar_that_raises_ends_its_row_and_nothing_else(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Panic(BaseException):
        """As llguidance's own language raises it."""

    def panic(*_: Any) -> None:
        raise Panic("broken")

    processor = writer.processor(FORCED)
    monkeypatch.setattr(processor, "_allowed", panic)
    assert int(mx.argmax(processor(None, mx.zeros((1, writer.size)))).item()) == writer.end
    assert processor.failed and "broken" in caplog.text


def test_whatever_is_raised_while_a_schema_is_compiled_is_that_requests_fault(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        """As llguidance's own language raises it."""

    def panic(*_: Any) -> None:
        raise Panic("broken")

    monkeypatch.setattr(writer.grammars, "_rules", panic)
    with pytest.raises(ValueError, match="broken"):
        writer.grammars.guide(Shape((Tool("Other", "", TEXT),)))


# Loops


def answer(**properties: Any) -> Shape:
    return Shape(answer_schema={"type": "object", "properties": properties, "required": [*properties]})


STRINGS, NUMBERS = {"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}
THINGS = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}, "required": ["n"]}}


@pytest.mark.parametrize(
    ("shape", "begin", "piece"),
    [
        (answer(a={"type": "string"}), '{"a": "', " the fox and the dog"),
        (answer(a={"type": "string"}), '{"a": "', "!"),
        (answer(a=STRINGS), '{"a": [', '"apples and pears", '),
        (answer(a=NUMBERS), '{"a": [', "0, "),
        (answer(a=THINGS), '{"a": [', '{"n": "milk and eggs"}, '),
        (answer(a={"type": "number"}), '{"a": 0.', "3"),
        (answer(a={"type": "object", "additionalProperties": {"type": "string"}}), '{"a": {', '"k": "v", '),
        (Shape(TOOLS, ("Read",)), READ[: READ.index('"a"') + 1], " the fox and the dog"),
    ],
)
def test_a_loop_inside_json_ends_and_the_json_is_whole(writer: Writer, shape: Shape, begin: str, piece: str) -> None:
    text = writer.write(shape, begin + piece * 400)
    assert text.startswith(begin + piece * 4)
    value = json.loads(text if shape.answer_schema else text[text.index('{"x"') : text.rindex("}")])
    flat = json.dumps(value)
    assert len(writer.guide.tokenize_str(flat)) < 4 * LEAST
    if isinstance(value.get("a"), list):
        assert all(each == value["a"][0] for each in value["a"])  # nothing was cut off in the middle


HONEST = [
    "=" * 80,
    "\n".join(["0 0 0 0 0 0 0 0"] * 5),
    "ha ha ha ha ha ha",
    "    }\n  }\n}\n" * 4,
    "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 5,
    "\n".join(f"line {index} of a file that goes on and on" for index in range(60)),
]


@pytest.mark.parametrize("text", HONEST)
def test_what_is_repeated_honestly_is_written(writer: Writer, text: str) -> None:
    whole = OURS.render(Call("", "Read", {"x": text}))
    assert writer.write(FORCED, whole, 4000) == whole


def test_a_table_of_numbers_is_written(writer: Writer) -> None:
    rows = {"type": "array", "items": NUMBERS}
    whole = json.dumps({"a": [[0, 0, 0, 0, 1, 0, 0, 0]] * 4 + [[1, 1, 1, 1, 1, 1, 1, 1]]})
    assert writer.write(answer(a=rows), whole) == whole
    digits = json.dumps({"a": [1000000000000000000, 333333333333333333]})
    assert len(digits) > LEAST_DIGITS and writer.write(answer(a=NUMBERS), digits) == digits


def test_free_text_may_go_round_in_circles(writer: Writer) -> None:
    text = " the fox and the dog" * 60
    assert writer.write(Shape(TOOLS), text, 4000) == text
