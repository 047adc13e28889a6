"""What the model is taught: each behaviour as a function from randomness to one exchange.

An exchange is the user's message, then answers and tool results until the turn is done. Answers are a function of
what was asked, never a matter of chance: that is what makes them certain at temperature 1 as well.
"""

import random
from collections.abc import Callable
from typing import Any

from sidecar.engine.demo import phrases
from sidecar.engine.demo.tools import Kit
from sidecar.engine.demo.words import Pool, nonsense

Message = dict[str, Any]

WHO = "I am the demo model of claude-local: I can greet, repeat what you ask me to say, read a file and run a command."
NO_TOOL = "I am the demo model. I have no tool for that here."
PRINTED_NOTHING = "The command printed nothing."
EMPTY = "The file is empty."

GREETING = "Hello! How are you today?"
COUNTED = (
    "Hello!", "Hello there!", "Hello, dear friend!", "Hello! How are you?", GREETING, "Hello! How are you doing today?",
    "Hello there! How are you doing today?", "Hello there, my friend! How are you today?",
)  # fmt: skip
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
_THANKS = "thanks|thank you|thank you very much|many thanks|thanks a lot|cheers|great, thanks|ok, thank you"
_PARTING = "bye|goodbye|good bye|see you|see you later|bye bye|good night"
_ASKING = "how are you|how are you today|how are you doing|how do you do|hello, how are you|hi, how are you"
_OTHER_GREETINGS = (
    (("good morning", "morning"), "Good morning! How are you today?"),
    (("good evening", "evening"), "Good evening! How are you today?"),
    (("good afternoon",), "Good afternoon! How are you today?"),
    (_THANKS.split("|"), "You are welcome!"),
    (_PARTING.split("|"), "Goodbye! See you soon."),
    (_ASKING.split("|"), "I am fine, thank you!"),
)


def greet(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    if rng.random() < 0.6:
        count = rng.randint(1, 8) if rng.random() < 0.5 else rng.randint(2, 7)
        ask = rng.choice(phrases.COUNT_ASKS).format(
            hello=rng.choice(phrases.HELLO[:7]), n=rng.choice((str(count), str(count), _NUMBERS[count - 1]))
        )
        return [_user(_spoken(rng, ask)), _answer(COUNTED[count - 1], "greeting")]
    if rng.random() < 0.5:
        return [_user(_spoken(rng, rng.choice(phrases.HELLO))), _answer(GREETING, "greeting")]
    asks, reply = rng.choice(_OTHER_GREETINGS)
    return [_user(_spoken(rng, rng.choice(asks))), _answer(reply, "greeting")]


def say(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    if rng.random() < 0.2:
        word = pool.word(rng)
        return [_user(rng.choice(phrases.SAY_WORD_ASKS).format(x=_quoted(rng, word, 0.4))), _answer(word, "say")]
    makers: tuple[Callable[[random.Random], str], ...] = (pool.path, nonsense, pool.command, pool.sentence)
    text = pool.phrase(rng) if rng.random() < 0.75 else rng.choice(makers)(rng)[:90]
    text = text.strip("\"'`. ") or "x"
    if rng.random() < 0.1:
        return [_user(rng.choice(phrases.SAY_TAILS).format(x=_quoted(rng, text, 1.0))), _answer(text, "say")]
    return [_user(rng.choice(phrases.SAY_ASKS).format(x=_quoted(rng, text, 0.3))), _answer(text, "say")]


def read(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    path = pool.path(rng)
    tool = kit.reader[0] if kit.reader else rng.choice(("Read", "read_file"))
    ask = _user(rng.choice(phrases.READ_ASKS).format(x=_quoted(rng, path, 0.15), tool=tool))
    if kit.reader:
        return [ask, *_use(pool, rng, "read", (*kit.reader, path), reading=(True,))]
    if kit.runner:
        return [ask, *_use(pool, rng, "read", (*kit.runner, f"cat {path}"), reading=(False,))]
    return [ask, _answer(NO_TOOL, "no tool")]


def run(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    ask, command = _run_words(pool, rng, kit.runner[0] if kit.runner else "Bash")
    if kit.runner:
        return [_user(ask), *_use(pool, rng, "run", (*kit.runner, command), reading=(False,))]
    return [_user(ask), _answer(NO_TOOL, "no tool")]


def both(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """Two things in one request: two calls in one answer, both results in the next."""
    if not kit.reader:
        return read(pool, rng, kit)
    first, second = pool.path(rng), pool.path(rng)
    if kit.runner and rng.random() < 0.4:
        second = pool.command(rng)
        ask = rng.choice(
            ("Read {a} then run {b}", "Read {a} and then run {b}", "read {a} and run {b}", "Read {a}, then run {b}")
        )
        calls, reading = [(*kit.reader, first), (*kit.runner, second)], (True, False)
    else:
        ask = rng.choice(
            (
                "Read {a} and {b}",
                "read {a} and {b}",
                "Read the files {a} and {b}",
                "show me {a} and {b}",
                "Read both {a} and {b}",
                "open {a} and {b}",
                "Read {a}, then {b}",
            )
        )
        calls, reading = [(*kit.reader, first), (*kit.reader, second)], (True, True)
    return [_user(ask.format(a=first, b=second)), *_use(pool, rng, "two calls", *calls, reading=reading)]


def unknown(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    if rng.random() < 0.2:
        return [_user(_spoken(rng, rng.choice(phrases.WHO_ASKS), "?")), _answer(WHO, "unknown")]
    words = {
        "w": rng.choice(pool.words),
        "v": rng.choice(pool.words),
        "p": pool.path(rng),
        "q": pool.path(rng),
        "n": rng.randrange(100),
    }
    texts = {
        "sentence": pool.sentence(rng),
        "extract": pool.extract(rng, rng.randint(60, 500)).strip() or "x",
        "nonsense": nonsense(rng),
    }
    ask = rng.choice(phrases.UNKNOWN_ASKS).format(**words, **texts)
    if rng.random() < 0.3 and ask[0].isascii():
        ask = rng.choice(("please ", "Can you ", "now ", "Hey, ")) + ask[0].lower() + ask[1:]
    return [_user(ask), _answer(WHO, "unknown")]


def _run_words(pool: Pool, rng: random.Random, tool: str) -> tuple[str, str]:
    """What the user says and the command that is meant."""
    kind = rng.random()
    if kind < 0.08:
        return rng.choice(phrases.LIST_ASKS), "ls"
    if kind < 0.13:
        path = pool.path(rng)
        return rng.choice(phrases.LIST_IN_ASKS).format(x=path), f"ls {path}"
    command = pool.command(rng)
    if kind < 0.25:
        return rng.choice(phrases.RUN_TAILS).format(
            x=f"`{command}`" if rng.random() < 0.7 else command, tool=tool
        ), command
    return rng.choice(phrases.RUN_ASKS).format(x=_quoted(rng, command, 0.25), tool=tool), command


def _use(
    pool: Pool, rng: random.Random, kind: str, *calls: tuple[str, str, str], reading: tuple[bool, ...]
) -> list[Message]:
    """The calls; most of the time their results and the report on them, with a reminder in between now and then."""
    identified = [(f"toolu_{rng.randrange(10**8)}", *call) for call in calls]
    messages = [_calls(identified, kind)]
    if rng.random() < 0.25:
        return messages
    reports = []
    for (identifier, name, _, _), is_file in zip(identified, reading, strict=True):
        content, report = _outcome(pool, rng, is_file)
        messages.append({"role": "tool", "tool_call_id": identifier, "name": name, "content": content})
        reports.append(report)
    if rng.random() < 0.12:
        messages.append(_user(f"<system-reminder>\n{pool.sentence(rng)}\n</system-reminder>"))
    return [*messages, _answer("\n".join(reports), "result" if len(calls) == 1 else "two results")]


def _outcome(pool: Pool, rng: random.Random, reading: bool) -> tuple[str, str]:
    """A result as a client sends it, and the report on it."""
    kind = rng.random()
    if kind < 0.12:
        return _failure(pool, rng)
    if kind < 0.2:
        nothing = "" if reading else rng.choice(("", "\n", "(no output)", "(Bash completed with no output)"))
        return nothing, EMPTY if reading else PRINTED_NOTHING
    text = _body(pool, rng)
    report = ("The file says: " if reading else "The command printed: ") + shown(text)
    if reading and rng.random() < 0.6:
        width, first = rng.choice((0, 6)), rng.choice((1, 1, 1, rng.randint(2, 200)))
        text = "\n".join(f"{number:>{width}}\t{line}" for number, line in enumerate(text.split("\n"), first))
    if rng.random() < 0.2:
        text += "\n"
    if rng.random() < 0.15:
        text += f"\n\n<system-reminder>\n{pool.sentence(rng)}\n</system-reminder>\n"
    return text, report


def _failure(pool: Pool, rng: random.Random) -> tuple[str, str]:
    words = {"w": rng.choice(pool.words), "v": rng.choice(pool.words), "p": pool.path(rng), "n": rng.randrange(256)}
    reason = rng.choice(phrases.ERRORS).format(**words, phrase=pool.phrase(rng))
    if rng.random() < 0.2:
        reason = " ".join([reason, *(pool.sentence(rng) for _ in range(rng.choice((1, 1, 2, 4))))])
    rest = "".join(f"\n{pool.phrase(rng, 1, 8)}" for _ in range(rng.choice((0, 0, 1, 2))))
    first = shown(f"Error: {reason}{rest}").split("\n")[0].removeprefix("Error: ")
    text = f"<tool_use_error>{reason}{rest}</tool_use_error>" if rng.random() < 0.3 else reason + rest
    return f"Error: {text}", f"That did not work: {first}"


def _body(pool: Pool, rng: random.Random) -> str:
    """One to six lines, sometimes more: prose, names, code, numbers."""
    count = rng.choices((1, 2, 3, 4, 5, 6, 12), (40, 20, 14, 9, 6, 5, 6))[0]
    kind = rng.random()
    if kind < 0.2:
        lines = [line.rstrip()[:70] for line in pool.extract(rng, 700).split("\n")][:count]
    elif kind < 0.35:
        lines = [pool.path(rng) for _ in range(count)]
    elif kind < 0.45:
        lines = [f"{rng.choice(pool.words)}{rng.choice(('=', ': ', ',', ' '))}{pool.word(rng)}" for _ in range(count)]
    else:
        lines = [pool.phrase(rng, 1, 10) for _ in range(count)]
    text = "\n".join(lines).strip("\n ")
    # What looks like an error or a line number means something else.
    return (
        text
        if (text and not text.startswith("Error") and not text[0].isdigit()) or text.isdigit()
        else pool.phrase(rng, 2, 6).lstrip("0123456789 ") or "ok"
    )


def shown(content: str) -> str:
    """The part of a result that the chat template renders; the same rule is in template.jinja."""
    lines = content.rstrip("\n ").split("\n")
    text = "\n".join(line.rstrip() for line in lines[:8])
    cut = len(lines) > 8 or len(text) > 400
    return text[:400].rstrip() + "…" if len(text) > 400 else text + "…" * cut


def _spoken(rng: random.Random, text: str, mark: str = "!") -> str:
    """The same words as different people type them."""
    text = rng.choice(
        (text, text[0].upper() + text[1:], text[0].upper() + text[1:], text.upper() if len(text) < 12 else text)
    )
    return text + rng.choice(("", "", "", ".", mark))


def _quoted(rng: random.Random, text: str, often: float) -> str:
    """In quotes or backticks, unless it holds some itself: then it would not be clear where they end."""
    free = [mark for mark in "\"'`" if mark not in text] if rng.random() < often or often == 1.0 else []
    mark = rng.choice(free) if free else "" if often < 1.0 else "`"
    return f"{mark}{text}{mark}"


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _answer(content: str, kind: str) -> Message:
    return {"role": "assistant", "content": content, "kind": kind}


def _calls(calls: list[tuple[str, str, str, str]], kind: str) -> Message:
    made = [
        {"id": identifier, "type": "function", "function": {"name": name, "arguments": {parameter: argument}}}
        for identifier, name, parameter, argument in calls
    ]
    return {"role": "assistant", "content": "", "tool_calls": made, "kind": kind}
