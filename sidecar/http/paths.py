"""Where a request goes, by its path alone, and what is said where there is nothing. Pure."""

import re

from sidecar.errors import ForeignApi, NotFound

_PUBLIC = re.compile(r"(?:/v1)*/((?:messages|models)(?:/.*)?)")
"""Programs put /v1 before the path, or have it in the address, or both, or neither."""
_OPENAI = re.compile(
    r"(?:/v1)*/(chat/completions|responses|completions|embeddings|moderations|assistants|threads|engines"
    r"|audio|images|batches|fine_tuning|realtime)(?:/.*)?"
)
"""The first words of OpenAI's paths, as far as they are not Anthropic's as well."""


def settled(path: str) -> str:
    """A path as our routes have it."""
    public = _PUBLIC.fullmatch(path)
    return f"/v1/{public[1]}" if public else path


def nothing_at(path: str) -> NotFound:
    """The error for a path where there is nothing."""
    if foreign := _OPENAI.fullmatch(path):
        return ForeignApi(
            f"claude-local does not speak OpenAI's API ({foreign[1]}) here, but Anthropic's: point the program's "
            "Anthropic provider at $ANTHROPIC_BASE_URL (POST /v1/messages), with $ANTHROPIC_AUTH_TOKEN as its key"
        )
    return NotFound(f"there is nothing at {path}")
