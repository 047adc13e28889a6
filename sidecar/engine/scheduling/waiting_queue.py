"""Who has not begun: the waiting requests, which of them is next, and which of them wait for another's reading.

Decides over streams what `policy` decides over values; that a request begins is the scheduler's doing.
"""

import time
from collections import Counter
from collections.abc import Sequence

from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.memory_costs import Demand, Verdict
from sidecar.engine.scheduling.admission import Admission
from sidecar.engine.scheduling.policy import MAX_ROWS, Rank, Shares, entrants, has_place, rank, waits
from sidecar.engine.scheduling.step_plan import Pace, piece
from sidecar.engine.scheduling.stream import Stream
from sidecar.frames import Queued

ASK_S = 0.5
"""Between two looks at memory for requests that must wait, unless a stream ends before."""
LOOKS = 8
"""Requests for which memory is looked at, at once: the first in turn, and smaller ones behind it."""
SHARED = 64
"""Tokens to be read for two prompts alike, from which on one of them waits for the other to read them."""


class Line:
    """The waiting requests of one model. `reading` and `decoding`, everywhere: the streams that have begun."""

    def __init__(self, memory: Admission, prefixes: PrefixCache, pace: Pace, shares: Shares) -> None:
        self.waiting: list[Stream] = []
        self._memory = memory
        self._prefixes = prefixes
        self._pace = pace
        self._shares = shares
        self._ask_at = 0.0
        self._awaited: Stream | None = None
        """The first that memory made wait: those that overtake it must leave room for it."""
        self._overtakers: list[Stream] = []

    def add(self, stream: Stream) -> None:
        stream.arrived = time.monotonic()
        self.waiting.append(stream)

    def remove(self, request: int) -> None:
        self.waiting = [stream for stream in self.waiting if stream.id != request]

    def ask_again(self) -> None:
        """Something has ended: there may be memory for those that wait for some."""
        self._ask_at = 0.0

    def next(self, reading: Sequence[Stream], decoding: Sequence[Stream]) -> tuple[Stream, Verdict] | None:
        """Take out the first in turn for which there is a place and an answer from memory; None when there is none."""
        if self._awaited not in self.waiting:
            self._awaited, self._overtakers = None, []
        if not self.waiting or time.monotonic() < self._ask_at:
            return None
        waiting = self._able(reading, decoding)
        ranks, others = ([self.rank(stream) for stream in each] for each in (waiting, reading))
        for stream in [waiting[index] for index in entrants(ranks, others)][:LOOKS]:
            stream.chunk = piece(False, self._pace)
            self._hand_over(stream, reading)
            verdict = self._memory.ask(stream, self._demands(reading, decoding))
            if verdict.act == "wait" or (verdict.act == "begin" and not self._may_overtake(stream, reading, decoding)):
                self._awaited, stream.held = self._awaited or stream, True
                continue
            self.waiting.remove(stream)
            return stream, verdict
        if self._awaited:
            self._ask_at = time.monotonic() + ASK_S
        return None

    def turns(self, reading: Sequence[Stream]) -> list[tuple[Rank, int]]:
        """Whose turn it is to be read, and how much of each is left. Who waits for another's reading lends it its
        rank."""
        ranks = [self.rank(stream) for stream in reading]
        for follower, leader in self._followed(reading).items():
            index = reading.index(leader)
            ranks[index] = min(ranks[index], self.rank(follower))
        return [(turn, stream.unread) for turn, stream in zip(ranks, reading, strict=True)]

    def wanting(self, reading: Sequence[Stream], decoding: Sequence[Stream]) -> set[str]:
        """The sessions that have something to be read, and could have it read if it were their turn."""
        able = [stream for stream in self._able(reading, decoding) if not stream.held]
        return {stream.session for stream in [*reading, *able]}

    def queue(self, reading: Sequence[Stream], decoding: Sequence[Stream]) -> tuple[Queued, ...]:
        """Who waits, the next first. Callable on any thread, with copies of the lists."""
        now, pace = time.monotonic(), self._pace
        waiting = sorted((self.rank(each), each.id, each) for each in list(self.waiting))
        line = [(turn, each.unread) for turn, _, each in waiting]
        before = [(self.rank(each), each.unread) for each in reading]
        expected = waits(line, before, pace.beside(bool(decoding)), MAX_ROWS - len(reading) - len(decoding), pace.row_s)
        return tuple(
            Queued(each.priority, each.prompt_length, now - each.arrived, seconds, each.id)
            for (_, _, each), seconds in zip(waiting, expected, strict=True)
        )

    def rank(self, stream: Stream) -> Rank:
        return rank(stream.want(time.monotonic()), self._shares.ahead(stream.session), self._pace.rate)

    def _able(self, reading: Sequence[Stream], decoding: Sequence[Stream]) -> list[Stream]:
        """Those who have a place, and nobody who reads for them."""
        now, followed = time.monotonic(), self._followed(reading)
        rows = Counter(stream.session for stream in [*reading, *decoding])
        return [each for each in self.waiting if each not in followed and has_place(each.want(now), rows)]

    def _followed(self, reading: Sequence[Stream]) -> dict[Stream, Stream]:
        """Those whose prompts begin with what another is about to read: by whom. Nothing is read twice at once."""
        leaders, following = [each for each in reading if each.keep], {}
        for stream in self.waiting if leaders else ():
            common = {each: stream.shared(each, self._prefixes.cuts) for each in leaders}
            leader = max(leaders, key=lambda each: common[each] if common[each] > each.read else 0)
            if common[leader] > leader.read and common[leader] - leader.cached >= SHARED:
                following[stream] = leader
        return following

    def _hand_over(self, stream: Stream, reading: Sequence[Stream]) -> None:
        """Keep what others have read so far of what `stream` begins with, so that it is found."""
        for each in reading:
            if each.keep and each.cache and self._prefixes.cuts and stream.shared(each, True) > each.cached:
                self._prefixes.add(each.tokens[: each.read], each.cache, each.priority)

    def _may_overtake(self, stream: Stream, reading: Sequence[Stream], decoding: Sequence[Stream]) -> bool:
        if self._awaited is None or self._awaited is stream:
            return True
        others = self._demands(
            [each for each in reading if each in self._overtakers],
            [each for each in decoding if each in self._overtakers],
        )
        if not self._memory.leaves_room_for(self._awaited, others, stream):
            return False
        self._overtakers.append(stream)
        return True

    def _demands(self, reading: Sequence[Stream], decoding: Sequence[Stream]) -> list[Demand]:
        costs, begun = self._memory.costs, [(each, each.read) for each in reading]
        return [each.demand(costs, read) for each, read in [*begun, *((each, each.prompt_length) for each in decoding)]]
