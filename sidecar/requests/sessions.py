"""The sessions whose requests came lately: which of a session's requests is its main conversation. Bounded."""

from collections import OrderedDict

from sidecar.anthropic.session import Conversation
from sidecar.conversation import Priority

KEPT = 256
"""Sessions; those that have been silent for longest are forgotten."""


class Sessions:
    """What is known of each."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], Conversation] = OrderedDict()

    def place(self, owner: str, name: str, size: int, tools: int) -> Priority:
        """See Conversation.place. `owner`: the terminal, whose sessions are its own; `name`: empty for a program of
        which nothing is known: all its requests are its main business."""
        if not name:
            return Priority.MAIN
        key = (owner, name)
        conversation = self._known.setdefault(key, Conversation())
        self._known.move_to_end(key)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return conversation.place(size, tools)
