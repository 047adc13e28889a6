"""What a model makes of the tasks of tests/support/tasks.py: valid, right, ended by itself, without going round in a
circle.

Asks the engine as the sidecar does, in the words of `tests.process.test_engine`; knows nothing of who wants to know.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema

from sidecar.conversation import Conversation, Message, Sampling, Text
from sidecar.frames import Failed, Finished, Started, TextDelta, ToolArguments, ToolStart
from tests.support.engine_process import EngineProcess
from tests.support.tasks import FACTS, QUESTIONS, TOOLS, TURNS, WISHES, Question

SYSTEM = "You are a helpful assistant."
CALL_TOKENS, ANSWER_TOKENS, FACT_TOKENS, TURN_TOKENS = 64, 200, 200, 100
GREEDY = Sampling(temperature=0.0)
SCHEMAS = {tool.name: tool.schema for tool in TOOLS}
_CIRCLE = re.compile(r"(.{1,150}?)\1{3,}", re.DOTALL)
CIRCLE = 60
"""Letters that four or more repetitions must take together: rows of signs are honest."""


@dataclass
class Outcome:
    """One answer."""

    asked: str
    reason: str = ""
    tokens: int = 0
    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    valid: bool = False
    right: bool = False
    prompt: int = 0
    read: int = 0
    """Tokens of its prompt, and those of them that were not known."""
    cut: str = ""
    """The tool whose call was not whole."""

    @property
    def ended(self) -> bool:
        return self.reason in ("end", "tool", "stop")

    @property
    def loops(self) -> bool:
        """Whether it says the same again and again."""
        written = self.text + "".join(text for _, text in self.calls)
        return any(len(found.group()) >= CIRCLE for found in _CIRCLE.finditer(written))


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """One line of a table."""
    calls = [each for each in outcomes if each.calls]
    parts = {
        "answers": len(outcomes),
        "with calls": len(calls),
        "calls": sum(len(each.calls) for each in calls),
        "valid": sum(each.valid for each in outcomes),
        "right": sum(each.right for each in outcomes),
        "ended by themselves": sum(each.ended for each in outcomes),
        "max_tokens": sum(not each.ended for each in outcomes),
        "loops": sum(each.loops for each in outcomes),
        "tokens": sum(each.tokens for each in outcomes),
    }
    if not calls:
        del parts["with calls"], parts["calls"]
    return f"{name:10}: " + ", ".join(f"{what} {count}" for what, count in parts.items())


def forced(engine: EngineProcess, wishes: Sequence[Any] = WISHES, sampling: Sampling = GREEDY) -> list[Outcome]:
    """One of all tools must be called."""
    return _called(engine, wishes, sampling, forced=tuple(SCHEMAS))


def free(engine: EngineProcess, wishes: Sequence[Any] = WISHES, sampling: Sampling = GREEDY) -> list[Outcome]:
    """All tools are there, and the model chooses."""
    return _called(engine, wishes, sampling)


def structured(
    engine: EngineProcess, questions: Sequence[Question] = QUESTIONS, sampling: Sampling = GREEDY
) -> list[Outcome]:
    """Each answer is JSON of its own kind."""
    asked = [said(each.text, answer_schema=each.schema) for each in questions]
    outcomes = _all(engine, asked, sampling, ANSWER_TOKENS)
    for outcome, question in zip(outcomes, questions, strict=True):
        outcome.valid = fits(outcome.text, question.schema)
        outcome.right = outcome.valid and question.holds.lower() in outcome.text.lower()
    return outcomes


def facts(
    engine: EngineProcess,
    questions: Sequence[tuple[str, str]] = FACTS,
    sampling: Sampling = GREEDY,
    most: int = FACT_TOKENS,
) -> list[Outcome]:
    """Questions to be answered in words."""
    outcomes = _all(engine, [said(text) for text, _ in questions], sampling, most)
    for outcome, (_, word) in zip(outcomes, questions, strict=True):
        _judge(outcome, word)
    return outcomes


def turns(
    engine: EngineProcess, words: Sequence[tuple[str, str]] = TURNS, sampling: Sampling = GREEDY
) -> list[Outcome]:
    """One conversation, a turn after the other."""
    outcomes: list[Outcome] = []
    for text, word in words:
        [outcome] = _all(engine, [said(text, outcomes)], sampling, TURN_TOKENS)
        _judge(outcome, word)
        outcomes.append(outcome)
    return outcomes


def said(text: str, before: Sequence[Outcome] = (), **more: Any) -> Conversation:
    """What somebody says, after what has been said."""
    spoken = [(each.asked, each.text) for each in before]
    roles = ("user", "assistant")
    words = [*(word for pair in spoken for word in pair), text]
    return Conversation(SYSTEM, tuple(Message(roles[at % 2], (Text(word),)) for at, word in enumerate(words)), **more)


PARTS: dict[str, tuple[Callable[..., list[Outcome]], Sequence[Any]]] = {
    "forced": (forced, WISHES),
    "structured": (structured, QUESTIONS),
    "facts": (facts, FACTS),
    "turns": (turns, TURNS),
    "free": (free, WISHES),
}
"""How each part is asked, and what there is to ask."""


def fits(text: str, schema: dict[str, Any]) -> bool:
    """Whether this is JSON that the schema accepts."""
    try:
        return bool(jsonschema.Draft202012Validator(schema).is_valid(json.loads(text)))
    except ValueError:
        return False


def _judge(outcome: Outcome, word: str) -> None:
    outcome.valid = bool(outcome.text.strip())
    outcome.right = outcome.valid and bool(re.search(rf"(?i)\b(?:{word})", outcome.text))


def _called(engine: EngineProcess, wishes: Sequence[Any], sampling: Sampling, **how: Any) -> list[Outcome]:
    asked = [said(wish, tools=TOOLS) for _, wish, _ in wishes]
    outcomes = _all(engine, asked, sampling, CALL_TOKENS, **how)
    for outcome, (tool, _, word) in zip(outcomes, wishes, strict=True):
        outcome.valid = bool(outcome.calls) and all(fits(text, SCHEMAS[name]) for name, text in outcome.calls)
        outcome.right = bool(outcome.calls) and _means(outcome.calls[0], tool, word)
    return outcomes


def _means(call: tuple[str, str], tool: str, word: str) -> bool:
    return call[0] == tool and word.lower() in call[1].lower()


def _all(
    engine: EngineProcess, asked: Sequence[Conversation], sampling: Sampling, max_tokens: int, **how: Any
) -> list[Outcome]:
    requests = [engine.submit(each, max_tokens, sampling=sampling, **how) for each in asked]
    events = engine.answers(*requests)
    return [_outcome(each, events[request]) for request, each in zip(requests, asked, strict=True)]


def _outcome(conversation: Conversation, events: Sequence[Any]) -> Outcome:
    last = conversation.messages[-1].blocks[0]
    assert isinstance(last, Text)
    outcome = Outcome(last.text)
    for event in events:
        _take(outcome, event)
    return outcome


def _take(outcome: Outcome, event: Any) -> None:
    match event:
        case TextDelta(text=text):
            outcome.text += text
        case ToolStart(name=name):
            outcome.calls.append((name, ""))
        case ToolArguments(json=text):
            outcome.calls[-1] = (outcome.calls[-1][0], outcome.calls[-1][1] + text)
        case Started():
            outcome.prompt, outcome.read = event.prompt_tokens, event.prompt_tokens - event.cached_tokens
        case Finished():
            outcome.reason, outcome.tokens = event.reason, event.output_tokens
            outcome.cut = getattr(event, "cut", "")
        case Failed():
            outcome.reason = f"failed: {event.message}"
