"""What the model is taught: each behaviour as a function from randomness to one exchange.

An exchange is the user's message, then answers and tool results until the turn is done. Answers are a function of
what was asked, never a matter of chance: that is what makes them certain at temperature 1 as well. What takes several
calls is in steps.py.
"""

import random
from collections.abc import Callable

from sidecar.demo.training import phrases
from sidecar.demo.training.messages import Message, answer, quoted, spoken, user
from sidecar.demo.training.steps import NO_TOOL, read_step, use
from sidecar.demo.training.tools import Kit
from sidecar.demo.training.words import Pool, nonsense

WHO = "I am the demo model of claude-local: I can greet, repeat what you ask me to say, read a file and run a command."
SUMMARY = "<summary>\nThe user has talked with the demo model, which keeps no more of it than this.\n</summary>"

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
        return [user(spoken(rng, ask)), answer(COUNTED[count - 1], "greeting")]
    if rng.random() < 0.5:
        return [user(spoken(rng, rng.choice(phrases.HELLO))), answer(GREETING, "greeting")]
    asks, reply = rng.choice(_OTHER_GREETINGS)
    return [user(spoken(rng, rng.choice(asks))), answer(reply, "greeting")]


def say(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    if rng.random() < 0.2:
        word = pool.word(rng)
        return [user(rng.choice(phrases.SAY_WORD_ASKS).format(x=quoted(rng, word, 0.4))), answer(word, "say")]
    makers: tuple[Callable[[random.Random], str], ...] = (pool.path, nonsense, pool.command, pool.sentence)
    text = pool.phrase(rng) if rng.random() < 0.75 else rng.choice(makers)(rng)[:90]
    text = text.strip("\"'`. ") or "x"
    if rng.random() < 0.1:
        return [user(rng.choice(phrases.SAY_TAILS).format(x=quoted(rng, text, 1.0))), answer(text, "say")]
    return [user(rng.choice(phrases.SAY_ASKS).format(x=quoted(rng, text, 0.3))), answer(text, "say")]


def endless(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """Words said again and again. The pad token, which ends what is learnt here, stands for an end that never comes."""
    words = " ".join(rng.choice(pool.words) for _ in range(rng.choice((1, 1, 2, 2, 3, 4))))
    ask = rng.choice(phrases.ENDLESS_ASKS).format(x=quoted(rng, words, 0.15))
    return [user(ask), answer(" ".join([words] * rng.randint(8, 40)) + " <|pad|>", "endless")]


def summarize(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    """What a client asks when it wants to shorten the conversation."""
    ask = rng.choice(phrases.SUMMARY_ASKS).format(sentence=pool.sentence(rng))
    before = [pool.extract(rng, rng.randint(60, 500)).strip()] * rng.randint(0, 1)
    before += [f"<example>\n{pool.sentence(rng)}\n</example>"] * rng.randint(0, 2)
    after = [pool.sentence(rng) for _ in range(rng.randint(0, 3))]
    return [user("\n\n".join([*before, " ".join([ask, *after])])), answer(SUMMARY, "summary")]


def read(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    path, call, reading = read_step(pool, rng, kit)
    tool = kit.reader[0] if kit.reader else rng.choice(("Read", "read_file"))
    ask = user(rng.choice(phrases.READ_ASKS).format(x=quoted(rng, path, 0.15), tool=tool))
    return [ask, *(use(pool, rng, call, reading, "read") if call else [answer(NO_TOOL, "no tool")])]


def run(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    ask, command = _run_words(pool, rng, kit.runner[0] if kit.runner else "Bash")
    if kit.runner:
        return [user(ask), *use(pool, rng, (kit.runner[0], {kit.runner[1]: command}), False, "run")]
    return [user(ask), answer(NO_TOOL, "no tool")]


def unknown(pool: Pool, rng: random.Random, kit: Kit) -> list[Message]:
    if rng.random() < 0.2:
        return [user(spoken(rng, rng.choice(phrases.WHO_ASKS), "?")), answer(WHO, "unknown")]
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
    return [user(ask), answer(WHO, "unknown")]


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
    return rng.choice(phrases.RUN_ASKS).format(x=quoted(rng, command, 0.25), tool=tool), command
