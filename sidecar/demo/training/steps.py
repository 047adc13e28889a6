"""What takes several calls: together, one after another, through a subagent, or after a plan was approved.

Like tasks.py, functions from randomness to one exchange.
"""

import random

from sidecar.demo.training import phrases
from sidecar.demo.training.messages import Call, Message, answer, calls, quoted, reminder, results, user
from sidecar.demo.training.outcomes import TOGETHER, failure, outcome, speech
from sidecar.demo.training.tools import Kit
from sidecar.demo.training.words import Pool

NO_TOOL = "I am the demo model. I have no tool for that here."
STARTED = "The subagent has started."
PLANNED = "That is my plan."

Step = tuple[str, Call, bool]
"""The words that ask for it, the call, and whether it is a reading one."""


def read_step(pool: Pool, rng: random.Random, kit: Kit) -> tuple[str, Call | None, bool]:
    """A path and the call that reads it, if there is a tool for that."""
    path = pool.path(rng)
    if kit.reader:
        return path, (kit.reader[0], {kit.reader[1]: path}), True
    return path, (kit.runner[0], {kit.runner[1]: f"cat {path}"}) if kit.runner else None, False


def use(pool: Pool, rng: random.Random, call: Call, reading: bool, kind: str) -> list[Message]:
    """One call; most of the time its result and the report on it, with a reminder in between now and then."""
    made = calls(rng, [call], kind)
    if rng.random() < 0.25:
        return [made]
    content, report = outcome(pool, rng, reading)
    return [made, *results(made, [content]), *_interruption(pool, rng), answer(report, "result")]


def _interruption(pool: Pool, rng: random.Random) -> list[Message]:
    return [user(reminder(pool.sentence(rng)))] if rng.random() < 0.12 else []


def both(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """Two things in one request: two calls in one answer, both results in the next."""
    first, *more = (_step(pool, rng, kit, bare) for bare in (False, True))
    second = more[0]
    if first is None or second is None:
        return [user("Read {} and {}".format(*(pool.path(rng) for _ in range(2)))), answer(NO_TOOL, "no tool")]
    if first[2] != second[2]:
        second = _named(second)
    ask = rng.choice(phrases.BOTH_ASKS).format(a=first[0], b=second[0])
    made = calls(rng, [first[1], second[1]], "two calls")
    if rng.random() < 0.2:
        return [user(ask), made]
    pairs = [outcome(pool, rng, step[2], TOGETHER) for step in (first, second)]
    report = answer("\n".join(report for _, report in pairs), "two results")
    return [user(ask), made, *results(made, [content for content, _ in pairs]), *_interruption(pool, rng), report]


def chain(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """One thing after another: each result is reported, and the next call made, in one answer."""
    count = rng.choices((2, 3, 4), (40, 50, 10))[0]
    steps = [step for index in range(count) if (step := _step(pool, rng, kit, index > 0))]
    if not steps:
        return [user(f"read {pool.path(rng)}, then {pool.path(rng)}"), answer(NO_TOOL, "no tool")]
    same = len({reading for _, _, reading in steps}) == 1 and rng.random() < 0.6
    words = [steps[0][0], *(step[0] if same else _named(step)[0] for step in steps[1:])]
    messages, report = [user(_sequence(rng, words))], ""
    for _, call, reading in steps:
        made = calls(rng, [call], "chain", report)
        content, report = outcome(pool, rng, reading)
        messages += [made, *results(made, [content])]
    return [*messages, answer(report, "result")]


def _step(pool: Pool, rng: random.Random, kit: Kit, bare: bool) -> Step | None:
    """A step; `bare`: without its verb."""
    if kit.reader and (not kit.runner or rng.random() < 0.6):
        path, call, reading = read_step(pool, rng, kit)
        assert call is not None
        step = (quoted(rng, path, 0.1), call, reading)
    elif kit.runner:
        command = pool.command(rng)
        step = (quoted(rng, command, 0.2), (kit.runner[0], {kit.runner[1]: command}), False)
    else:
        return None
    return step if bare else _named(step)


def _named(step: Step) -> Step:
    return (f"{'read' if step[2] else 'run'} {step[0]}", *step[1:])


def _sequence(rng: random.Random, words: list[str]) -> str:
    if rng.random() < 0.1:
        return "\n".join(f"{number}. {word}" for number, word in enumerate(words, 1))
    opening, link, last = rng.choice(phrases.SEQUENCES)
    text = opening + link.join(words[:-1]) + last + words[-1]
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text


def subagent(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """A task is handed on word for word; its report comes as the result, or later as a notification."""
    task = _errand(pool, rng)
    ask = user(rng.choice(phrases.SUBAGENT_ASKS).format(x=task, tool=kit.agent[0] if kit.agent else "Agent"))
    if not kit.agent:
        return [ask, answer(NO_TOOL, "no tool")]
    values = {
        "description": "Task for a subagent",
        "prompt": task,
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    made = calls(rng, [(kit.agent[0], {name: values[name] for name in kit.agent[1]})], "subagent")
    content, report = failure(pool, rng) if rng.random() < 0.05 else speech(pool, rng)
    if rng.random() < 0.6:
        return [ask, made, *results(made, [content]), answer(report, "result")]
    launched = f"Async agent launched {' '.join(pool.sentence(rng) for _ in range(3))}"
    messages = [ask, made, *results(made, [launched]), answer(STARTED, "subagent")]
    if rng.random() < 0.3:
        return messages
    said = report.removeprefix("The subagent says: ").removesuffix("…")
    notice = f"{pool.sentence(rng)}\n<task-notification>\n<result>{said}</result>\n</task-notification>"
    return [*messages, user(reminder(notice)), answer(f"The subagent says: {said}", "result")]


def _errand(pool: Pool, rng: random.Random) -> str:
    made = (f"say {pool.phrase(rng, 1, 8)}", f"read {pool.path(rng)}", f"run {pool.command(rng)}", "say hello")
    return rng.choices(made, (60, 20, 15, 5))[0].strip("\"'`. ")


def plan(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """In plan mode: the plan in words, the tool that hands it over, and once it is approved, what was planned."""
    bare = _step(pool, rng, kit, False) or (f"read {pool.path(rng)}", None, True)
    words, call, reading = bare
    ask = rng.choice(phrases.PLAN_ASKS).format(x=words)
    messages = [user(f"{reminder(f'Plan mode is active. {pool.sentence(rng)}')}\n\n{ask}")]
    said = f"My plan: {words}"
    left = {"role": "system", "content": "Exited plan mode."}
    if kit.search:
        values = {"query": "select:ExitPlanMode", "max_results": 1}
        made = calls(rng, [("ToolSearch", {name: values[name] for name in kit.search})], "plan", said)
        messages += [made, *results(made, ["ExitPlanMode" if kit.leave is not None else "No matching tools"])]
        said = ""
    if kit.leave is None:
        return [*messages, answer(said or PLANNED, "plan"), left]
    made = calls(rng, [("ExitPlanMode", dict.fromkeys(kit.leave, words))], "plan", said)
    messages += [made, *results(made, [f"User has approved {pool.sentence(rng)}"])]
    if rng.random() < 0.5:
        messages.append(left)
    return [*messages, *(use(pool, rng, call, reading, "plan") if call else [answer(NO_TOOL, "no tool")])]
