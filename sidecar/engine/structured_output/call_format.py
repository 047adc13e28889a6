"""The call format: how a model writes a tool call. Pure text; knows nothing of grammars or tokenizers.

Every format here puts the arguments down as one JSON object, so that a grammar can hold them to a JSON Schema and they
can be passed on while they are written. A model's own format is learnt by looking at what its template writes; formats
of another kind (XML, Python calls) are not used: such a model gets ours, since no grammar could vouch for theirs.
"""

import json
from dataclasses import dataclass
from typing import Any

from sidecar.conversation import Call

PROBE: tuple[dict[str, Any], dict[str, Any]] = (
    {"name": "xfirstx", "arguments": {"xkeyx": "xvaluex", "xnumberx": 1}},
    {"name": "xsecondx", "arguments": {"xkeyx": "xothervaluex", "xnumberx": 2}},
)
"""Two calls to have rendered, for `learn`."""


@dataclass(frozen=True, slots=True)
class CallFormat:
    """A call is `start + head + NAME + middle + ARGUMENTS + tail + end`, with `between` from one to the next."""

    start: str
    head: str
    middle: str
    tail: str
    end: str
    between: str
    item_separator: str = ", "
    key_separator: str = ": "

    def render(self, call: Call) -> str:
        """A call exactly as the grammar lets the model write it."""
        return f"{self.start}{self.head}{call.name}{self.middle}{self._dumps(call.arguments)}{self.tail}{self.end}"

    def _dumps(self, arguments: Any) -> str:
        return json.dumps(arguments, ensure_ascii=False, separators=(self.item_separator, self.key_separator))


OURS = CallFormat("<tool_call>", '\n{"name": "', '", "arguments": ', "}\n", "</tool_call>", "\n")
"""The most widely trained format (Qwen, Hermes), for templates that know no tools."""


def learn(text: str, start: str, end: str) -> CallFormat | None:
    """The format in which `text` holds the two calls of PROBE; None when it is not one of ours.

    `start`, `end`: the markers around a call, as mlx-lm knows them for this tokenizer; `end` may be empty.
    """
    first, second = (text.find(call["name"]) for call in PROBE)
    opened = text.rfind(start, 0, max(first, 0))
    brace = text.find("{", first + len(PROBE[0]["name"]))
    if not start or opened < 0 or brace < 0 or second < brace:
        return None
    try:
        _, closed = json.JSONDecoder().raw_decode(text, brace)
    except ValueError:
        return None
    after = text.find(end, closed) if end else closed
    again = text.rfind(start, closed, second)
    if after < 0 or again < after:
        return None
    for item_separator, key_separator in ((", ", ": "), (",", ":")):
        found = CallFormat(
            start=start,
            head=text[opened + len(start) : first],
            middle=text[first + len(PROBE[0]["name"]) : brace],
            tail=text[closed:after],
            end=end,
            between=text[after + len(end) : again],
            item_separator=item_separator,
            key_separator=key_separator,
        )
        calls = [found.render(Call("", call["name"], call["arguments"])) for call in PROBE]
        if text[opened:].startswith(found.between.join(calls)):
            return found
    return None
