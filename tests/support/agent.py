"""What a coding agent sends, in size and shape, in words of ours: long instructions, many tools, a place, a wish."""

import random
from typing import Any

_WORDS = ["read", "write", "before", "file", "test", "change", "never", "prefer", "user", "search", "when", "unless"]
_NAMES = ["Run", "Read", "Edit", "Write", "Find", "Search", "Agent", "Plan", "Ask", "Fetch", "Todo", "Skill"]


def prose(size: int, seed: int) -> str:
    """About so many characters of text in paragraphs; the same for the same seed."""
    rng, text = random.Random(seed), ""
    while len(text) < size:
        text += " ".join(rng.choices(_WORDS, k=40)).capitalize() + ".\n\n"
    return text.strip()


def tools(size: int = 2600) -> list[dict[str, Any]]:
    """Twelve tools, about 32 KB of JSON in all."""
    return [
        {
            "name": name,
            "description": prose(size - 500, seed),
            "input_schema": {
                "type": "object",
                "properties": {
                    "target": {"type": "string", "description": prose(200, seed + 100)},
                    "limit": {"type": "integer", "description": prose(100, seed + 200)},
                },
                "required": ["target"],
                "additionalProperties": False,
            },
        }
        for seed, name in enumerate(_NAMES)
    ]


def request(folder: str, words: str, scale: float = 1.0, state: str = "") -> dict[str, Any]:
    """The body of an agent's first request in `folder`; 49 KB at scale 1.

    The system prompt names the folder in its middle, as agents with a memory do; most of the environment is the same
    in every folder. `state`: what version control says.
    """

    def sized(size: int) -> int:
        return int(size * scale)

    instructions = [
        prose(sized(3400), 50),
        f"Your notes are in `/home/user/.agent/projects/{folder.replace('/', '-')}/notes/`, which exists already.",
        prose(sized(3100), 51),
    ]
    environment = [
        f"# Environment\n - Folder: {folder}\n - Under version control: yes\n - Shell: bash\n{prose(sized(600), 52)}",
        prose(sized(7800), 53),
        "Today is a day in May.",
    ]
    reminded = f"<system-reminder>\n{state} branch of {folder}\n{prose(sized(500), 54)}\n</system-reminder>"
    return {
        "model": "claude-local",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "You are an agent."}, {"type": "text", "text": "\n\n".join(instructions)}],
        "tools": tools(sized(2600)),
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": reminded}, {"type": "text", "text": words}]},
            {"role": "system", "content": [{"type": "text", "text": "\n\n".join(environment)}]},
        ],
    }
