"""The Models API: what can be asked for by name. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from sidecar.errors import InvalidRequest, NotFound

UNKNOWN = "1970-01-01T00:00:00Z"
"""What the API says of a date that it does not know."""
_PAGE, _LONGEST_PAGE = 20, 1000


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    context_window: int | None = None
    """Tokens; None until the model has been looked at."""
    output_limit: int | None = None
    created_at: str = UNKNOWN


MINE = ("claude-", "anthropic/claude-", "anthropic.claude-")
"""How names begin that mean the invocation's own model: clients have them built in, some with the vendor's before."""


def meant(wanted: str, own: str) -> str:
    """The name of the model that is asked for."""
    return own if wanted.startswith(MINE) else wanted


def describe(model: Model) -> dict[str, Any]:
    """As this API's clients read it, and OpenAI's."""
    return {
        "type": "model",
        "object": "model",
        "created": int(datetime.fromisoformat(model.created_at).timestamp()),
        "owned_by": "claude-local",
        "id": model.id,
        "display_name": model.id.rpartition("/")[2].replace("-", " "),
        "created_at": model.created_at,
        "max_input_tokens": model.context_window,
        "max_tokens": model.output_limit,
        "lifecycle": "active",
        "capabilities": None,
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
    }


def page(models: Sequence[Model], query: str) -> dict[str, Any]:
    """One page of the list; `query` may hold limit, after_id and before_id. Raises InvalidRequest."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = _limit(asked.get("limit", str(_PAGE)))
    ids = [model.id for model in models]
    first, last = 0, len(models)
    if after := asked.get("after_id"):
        first = _index(ids, "after_id", after) + 1
    if before := asked.get("before_id"):
        last = _index(ids, "before_id", before)
    found = list(models[first:last])
    # Backwards from before_id, else forwards.
    shown = found[-limit:] if before and not after else found[:limit]
    return {
        "object": "list",
        "data": [describe(model) for model in shown],
        "has_more": len(shown) < len(found),
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
    }


def find(models: Sequence[Model], name: str, own: str) -> dict[str, Any]:
    """What is known of a model, by any name that means it. Raises NotFound."""
    for model in models:
        if model.id == meant(name, own):
            return describe(replace(model, id=name))
    raise NotFound(f"model: {name}")


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _LONGEST_PAGE:
        return int(text)
    raise InvalidRequest(f"limit: it must be a number from 1 to {_LONGEST_PAGE}")


def _index(ids: list[str], field: str, wanted: str) -> int:
    if wanted not in ids:
        raise InvalidRequest(f"{field}: there is no model {wanted}")
    return ids.index(wanted)
