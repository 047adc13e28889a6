"""What tools give back, as clients send it, and the report that the model has to write on it."""

import random

from sidecar.demo.training import phrases
from sidecar.demo.training.words import Pool

PRINTED_NOTHING = "The command printed nothing."
EMPTY = "The file is empty."

ALONE, TOGETHER = 320, 160
"""Characters shown of a result: of a single one, and of each of several. A line counts 40 at least."""


def outcome(pool: Pool, rng: random.Random, reading: bool, most: int = ALONE) -> tuple[str, str]:
    """A result of a reading or a running tool, and the report on it."""
    kind = rng.random()
    if kind < 0.12:
        return failure(pool, rng, most)
    if kind < 0.2:
        nothing = "" if reading else rng.choice(("", "\n", "(no output)", "(Bash completed with no output)"))
        return nothing, EMPTY if reading else PRINTED_NOTHING
    text = _body(pool, rng)
    report = ("The file says: " if reading else "The command printed: ") + shown(text, most)
    if reading and rng.random() < 0.6:
        width, first = rng.choice((0, 6)), rng.choice((1, 1, 1, rng.randint(2, 200)))
        text = "\n".join(f"{number:>{width}}\t{line}" for number, line in enumerate(text.split("\n"), first))
    if rng.random() < 0.2:
        text += "\n"
    if rng.random() < 0.15:
        text += f"\n\n<system-reminder>\n{pool.sentence(rng)}\n</system-reminder>\n"
    return text, report


def failure(pool: Pool, rng: random.Random, most: int = ALONE) -> tuple[str, str]:
    """An error, and the report on it: its first line."""
    words = {"w": rng.choice(pool.words), "v": rng.choice(pool.words), "p": pool.path(rng), "n": rng.randrange(256)}
    reason = rng.choice(phrases.ERRORS).format(**words, phrase=pool.phrase(rng))
    if rng.random() < 0.2:
        reason = " ".join([reason, *(pool.sentence(rng) for _ in range(rng.choice((1, 1, 2, 4))))])
    rest = "".join(f"\n{pool.phrase(rng, 1, 8)}" for _ in range(rng.choice((0, 0, 1, 2))))
    first = shown(f"Error: {reason}{rest}", most).split("\n")[0].removeprefix("Error: ")
    text = f"<tool_use_error>{reason}{rest}</tool_use_error>" if rng.random() < 0.3 else reason + rest
    return f"Error: {text}", f"That did not work: {first}"


def speech(pool: Pool, rng: random.Random) -> tuple[str, str]:
    """What a subagent says, bare or in the frame that a client puts around it, and the report on it."""
    text = _body(pool, rng)
    report = f"The subagent says: {shown(text)}"
    if rng.random() < 0.3:
        return text, report
    lines = "".join(f"\n  {line}" for line in text.split("\n"))
    return f"{pool.sentence(rng)} The report follows:{lines}\nagentId: {rng.randrange(10**8)}", report


def shown(content: str, most: int = ALONE) -> str:
    """The part of a result that the chat template renders; the same rule is in template.jinja."""
    lines = content.rstrip("\n ").split("\n")
    text = "\n".join(line.rstrip() for line in lines[: most // 40])
    cut = len(lines) > most // 40 or len(text) > most
    return text[:most].rstrip() + "…" if len(text) > most else text + "…" * cut


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
