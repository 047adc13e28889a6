"""A prompt shaped like a coding agent's: instructions, tools, the folder's environment, the user's words.

Sizes as Claude Code sends them (of 49 kB: 15 % instructions, 66 % tools, 18 % environment); the words are those of the
standard library's sources. A seed says all:
the same one is the same prompt, another one shares nothing.
"""

import random
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.bench.client import Ask

INSTRUCTIONS, TOOLS, ENVIRONMENT = 0.15, 0.66, 0.18
TOOL_COUNT = 12
CHARACTERS = 3.55
"""Of source text for each token, less what the schemas and the template take: 12,000 asked for are 12,000."""
MODULES = ("argparse", "ast", "calendar", "cgitb", "codecs", "configparser", "decimal", "difflib", "doctest", "inspect")


@dataclass(frozen=True, slots=True)
class Agent:
    """One installation of an agent: what all its conversations have in common."""

    system: str
    tools: tuple[dict[str, Any], ...]
    tokens: int

    def turn(self, folder: str, words: str, *more: str, max_tokens: int = 8) -> Ask:
        """A conversation in `folder`, from the user's first words on; `more`: answer, words, answer, words …"""
        environment = passage(f"environment of {folder}", int(self.tokens * ENVIRONMENT))
        first = [{"type": "text", "text": environment}, {"type": "text", "text": words}]
        roles = ("assistant", "user")
        rest = ({"role": roles[place % 2], "content": text} for place, text in enumerate(more))
        session = f"{folder}: {words}"
        return Ask(({"role": "user", "content": first}, *rest), max_tokens, self.system, self.tools, session)


def agent(seed: str, tokens: int) -> Agent:
    """An agent whose first request is about `tokens` tokens long."""
    each = tokens * TOOLS / TOOL_COUNT
    tools = tuple(
        {
            "name": f"tool_{number}",
            "description": passage(f"{seed}, tool {number}", int(each) - 30),
            "input_schema": {
                "type": "object",
                "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}},
                "required": ["path"],
            },
        }
        for number in range(TOOL_COUNT)
    )
    return Agent(passage(f"{seed}, instructions", int(tokens * INSTRUCTIONS)), tools, tokens)


def passage(seed: str, tokens: int) -> str:
    """About so many tokens of text; the seed stands at its beginning, so that no two begin alike."""
    source = _library()
    length = max(1, int(tokens * CHARACTERS))
    start = random.Random(seed).randrange(len(source) - length)
    return f"{seed}\n{source[start : start + length]}"


@cache
def _library() -> str:
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [folder / f"{name}.py" for name in MODULES]
    text = "\n".join(file.read_text("utf-8") for file in files if file.exists())
    # Nothing that a template or a parser of calls could take for its own.
    return "".join(letter for letter in text if letter.isascii() and letter not in "<>{}[]|`")
