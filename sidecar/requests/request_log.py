"""The last requests: where their tokens came from, and why not more of them were known. Bounded; holds no answer."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from sidecar.conversation import Priority
from sidecar.frames import Finished, Generate, Started
from sidecar.requests.prompt_diff import Outline, difference

RECENT = 20
"""Requests that the status shows."""
SESSIONS = 32
"""Conversations whose last request is remembered, to tell how the next one differs."""
SLACK = 512
"""Tokens at the end of a prompt that may be read again without a reason being looked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One request that was answered. Tokens and seconds."""

    id: str
    session: str
    priority: Priority
    model: str
    from_memory: int
    from_disk: int
    read: int
    output: int
    waited_s: float
    """Until the answer began."""
    wrote_s: float
    why: str
    """What differs first from the session's request before; empty when nothing does."""

    def __str__(self) -> str:
        known = f"{self.from_memory} from memory, {self.from_disk} from disk, {self.read} read"
        prompt = self.from_memory + self.from_disk + self.read
        return (
            f"{prompt} prompt tokens ({known}), first token after {self.waited_s:.2f} s, "
            f"then {self.output} tokens in {self.wrote_s:.2f} s{'; what differs: ' if self.why else ''}{self.why}"
        )

    def describe(self) -> dict[str, Any]:
        """As `claude-local status` shows it."""
        return {
            "id": self.id,
            "session": self.session,
            "priority": self.priority.name.lower(),
            "model": self.model,
            "prompt_tokens": self.from_memory + self.from_disk + self.read,
            "from_memory": self.from_memory,
            "from_disk": self.from_disk,
            "read": self.read,
            "output_tokens": self.output,
            "first_token_s": round(self.waited_s, 3),
            "wrote_s": round(self.wrote_s, 3),
            "why": self.why,
        }


@dataclass(slots=True)
class _Last:
    outline: Outline
    prompt_tokens: int = 0
    """Of the last request that was answered; 0 before that."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A request under way."""

    id: str
    model: str
    todo: Generate
    why: str
    known: int
    """Tokens that the session's request before had read, if this one goes on from it; else 0."""


class History:
    """What has been asked lately."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, Priority, str], _Last] = OrderedDict()
        self._recent: deque[Record] = deque(maxlen=RECENT)
        self._from_memory = self._from_disk = self._read = self._written = 0

    def begin(self, request_id: str, model: str, todo: Generate, outline: Outline) -> Visit:
        """Compare a request with the one before it in its session. `outline`: its conversation's."""
        key = (todo.session, todo.priority, model)
        last = self._last.get(key)
        why = difference(last.outline, outline) if last else ""
        goes_on = last is not None and not why and len(outline.messages) >= len(last.outline.messages)
        visit = Visit(request_id, model, todo, why, last.prompt_tokens if last and goes_on else 0)
        self._last[key] = _Last(outline, last.prompt_tokens if last else 0)
        self._last.move_to_end(key)
        while len(self._last) > SESSIONS:
            self._last.popitem(last=False)
        return visit

    def end(self, visit: Visit, started: Started, finished: Finished, waited_s: float, wrote_s: float) -> Record:
        """An answer is complete."""
        todo = visit.todo
        why = visit.why
        if finished.cached_tokens + SLACK < visit.known:
            why = "nothing, but what had been read was no longer kept"
        record = Record(
            visit.id,
            todo.session[:8],
            todo.priority,
            visit.model,
            finished.cached_tokens - started.disk_tokens,
            started.disk_tokens,
            finished.prompt_tokens - finished.cached_tokens,
            finished.output_tokens,
            waited_s,
            wrote_s,
            why,
        )
        if last := self._last.get((todo.session, todo.priority, visit.model)):
            last.prompt_tokens = finished.prompt_tokens
        self._recent.append(record)
        self._from_memory += record.from_memory
        self._from_disk += record.from_disk
        self._read += record.read
        self._written += record.output
        return record

    def find(self, request_id: str) -> Record | None:
        """A request that was answered lately."""
        return next((record for record in reversed(self._recent) if record.id == request_id), None)

    def tokens(self) -> dict[str, int]:
        """Of all answered requests: where those of their prompts came from, and how many were written."""
        return {
            "from_memory": self._from_memory,
            "from_disk": self._from_disk,
            "read": self._read,
            "written": self._written,
        }

    def recent(self) -> list[dict[str, Any]]:
        """The last ones, the newest last."""
        return [record.describe() for record in self._recent]
