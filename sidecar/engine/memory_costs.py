"""What requests take of memory, and which of them may begin. Pure arithmetic over measured sizes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sidecar.memory.overhead import transient_limit

STEP = 256
"""Tokens by which mlx-lm's caches grow."""
CHUNK = 2048
"""Prompt tokens in one forward pass when nobody waits for it; larger gains nothing."""
SHORTEST_CHUNK = 32

REPLY = 1024
"""Tokens of answer to make room for: clients ask for 32,000 and get a few hundred. What grows beyond is the guard's."""

SURPRISE = 2
"""The most by which one pass is believed to differ from what was expected."""
FORGET = 0.97
"""Weight of all passes before each new one: what was measured fades after some thirty more."""


@dataclass(frozen=True, slots=True)
class Passes:
    """Bytes of a forward pass over n tokens that look back at c: `token`·n + `pair`·n·c.

    Both are fitted to the passes seen, by the least squares of the relative error; the sums are all that is kept of
    them. `pair` is about 0 where attention is fused.
    """

    token: float = 0.0
    pair: float = 0.0
    _sums: tuple[float, ...] = (0.0,) * 5

    def bytes(self, tokens: int, context: int) -> int:
        return int(tokens * (self.token + self.pair * context))

    def seen(self, tokens: int, context: int, taken: int, keep: float = 1.0) -> "Passes":
        """Fitted to one more pass; `keep`: the weight that the earlier ones keep."""
        u, v = tokens / taken, tokens * context / taken
        added = (u * u, u * v, v * v, u, v)
        uu, uv, vv, u1, v1 = sums = tuple(keep * old + new for old, new in zip(self._sums, added, strict=True))
        determinant = uu * vv - uv * uv
        token, pair = u1 / uu, 0.0
        if determinant > 1e-6 * uu * vv:
            token, pair = (u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant
        if pair < 0:
            token, pair = u1 / uu, 0.0
        if token < 0:
            token, pair = 0.0, v1 / vv
        return Passes(token, pair, sums)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a model takes beside its weights, in bytes. Measured at load."""

    per_token: int
    """Of caches that keep everything, all such layers together."""
    rolling: tuple[tuple[int, int], ...] = ()
    """(window, bytes per token) of caches that keep only the last tokens."""
    fixed: int = 0
    """Of a row's state that does not depend on its length."""
    passes: "Passes" = Passes()
    """What a forward pass takes for itself, for the tokens that it reads."""
    layer_token: int = 0
    """The same for each token that there was room for before: one layer at a time is copied when it is written to."""
    step: int = 0
    """What one decode step takes for itself, for each row."""
    transient_limit: int = transient_limit(0)

    def row(self, tokens: int, reading: int = 1) -> int:
        """The cache of one row; a rolling one is `reading` - 1 tokens longer after a chunk of so many."""
        whole = self.per_token * _steps(tokens)
        return whole + self.fixed + sum(each * min(tokens, window + reading - 1) for window, each in self.rolling)

    def state(self, tokens: int) -> int:
        """What of a row cannot be cut at another token: the part that is kept whole wherever it is kept."""
        return self.fixed + sum(each * min(tokens, window) for window, each in self.rolling)

    @property
    def trims(self) -> bool:
        """Whether a row can be cut back to any shorter one."""
        return not self.fixed and not self.rolling

    def transient(self, tokens: int, context: int) -> int:
        """What reading `tokens` takes for itself when the context is so long after them."""
        if not self.per_token and self.rolling:
            context = min(context, tokens + max(window for window, _ in self.rolling))
        return self.passes.bytes(tokens, context) + self.layer_token * _steps(context - tokens)

    def seen(self, tokens: int, context: int, taken: int, grew: bool = True) -> "Costs":
        """The costs, corrected by a pass that took so many bytes for itself. `grew`: whether the caches had to, since
        only then they are copied."""
        own = max(1, taken - (self.layer_token * _steps(context - tokens) if grew else 0))
        if expected := self.passes.bytes(tokens, context):
            # A fit of relative errors would believe one odd pass that took nothing above all others.
            own = min(max(own, expected // SURPRISE), expected * SURPRISE)
        return replace(self, passes=self.passes.seen(tokens, context, own, FORGET))

    def chunk(self, read: int) -> int:
        """How many tokens may be read at once behind `read` others."""
        size = CHUNK
        while size > SHORTEST_CHUNK and self.transient(size, read + size) > self.transient_limit:
            size -= 32
        return size


def _steps(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def whole_steps(read: int, size: int, end: int) -> int:
    """How many of `size` tokens to read next, of those up to `end`: no further than to the last whole step.

    The room in a cache then always ends at one, so it is known when it will have to grow, which takes a copy.
    """
    if read + size >= end:
        return end - read
    whole = (read + size) // STEP * STEP - read
    return whole if whole > 0 else size


@dataclass(frozen=True, slots=True)
class Demand:
    """One stream, as far as memory is concerned. Lengths in tokens."""

    prompt: int
    reply: int
    read: int = 0
    """How much of the prompt is read; all of it once it decodes."""
    cuts: tuple[int, ...] = ()
    """Where copies of the cache will be kept, of models whose caches cannot be cut back later."""
    chunk: int = CHUNK
    """It is read in pieces of at most so many tokens."""

    @property
    def decoding(self) -> bool:
        return self.read >= self.prompt

    @property
    def total(self) -> int:
        return self.prompt + self.reply


def peak(costs: Costs, streams: Sequence[Demand], kept: int = 0, kept_limit: int = 1 << 62) -> int:
    """The most that these streams and `kept` bytes of prefixes, at most `kept_limit`, will take at once.

    While a prompt is read, its row and the pass, beside the rows of the others. While they decode, a row each, as long
    as the longest where they share a pass; one layer of them is there twice while they grow, and one row when it leaves
    the others. What is kept of a prompt is a copy of it.
    """
    if not streams:
        return kept
    longest = max(stream.total for stream in streams)
    row = costs.row(longest)
    most = 0
    for stream in streams:
        if not stream.decoding:
            others = sum(_left(costs, other, other.prompt) for other in streams if other is not stream)
            most = max(most, (len(streams) - 1) * row + _reading(costs, stream, kept + others, kept_limit))
    shared = row if len(streams) > 1 else 0
    grows = len(streams) > 1 or _steps(longest) > _steps(streams[0].prompt - 1)
    growing = len(streams) * (row + costs.layer_token * longest * grows + costs.step)
    left = sum(_left(costs, stream, stream.prompt) for stream in streams)
    return max(most, min(kept + left, kept_limit) + growing + shared)


def _reading(costs: Costs, stream: Demand, kept: int, kept_limit: int) -> int:
    """The most that one row takes until its prompt is read, together with what is kept then."""
    read, row = stream.read, costs.row(stream.read)
    most = min(kept, kept_limit) + row
    while read < stream.prompt - 1:
        ahead = (cut - read for cut in stream.cuts if cut > read)
        size = min(costs.chunk(read), stream.chunk, *ahead)
        size = whole_steps(read, size, stream.prompt - 1) if costs.trims else min(size, stream.prompt - 1 - read)
        held = min(kept + _left(costs, stream, read), kept_limit)
        read += size
        before, row = row, costs.row(read, size)
        most = max(most, held + max(before, row) + costs.transient(size, read))
    return max(most, min(kept + _left(costs, stream, stream.prompt), kept_limit) + row)


def _left(costs: Costs, stream: Demand, read: int) -> int:
    """Bytes that are kept of a prompt by the time that `read` tokens of it are read, beside what was known of it.

    All of it at its end; before that, of rows that cannot be cut back, what there was at each cut.
    """
    at = [cut for cut in (*stream.cuts, stream.prompt) if stream.read < cut <= read]
    states = 0 if costs.trims else sum(costs.state(cut) for cut in at)
    return costs.per_token * (max(at, default=stream.read) - stream.read) + states


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a request that wants to begin."""

    act: Literal["begin", "wait", "refuse", "never"]
    keep: bool = True
    """Whether there is memory to keep its prompt's row as a prefix while it decodes."""
    evict: int = 0
    """Bytes of kept prefixes to give up first."""
    need: int = 0
    """Bytes that it would take alone, weights included."""


def admit(
    costs: Costs,
    new: Demand,
    running: Sequence[Demand],
    weights: int,
    kept: int,
    kept_limit: int,
    budget: int,
    ceiling: int,
) -> Verdict:
    """Whether `new` may begin beside `running`. Sizes in bytes.

    `kept`: prefixes in memory, at most `kept_limit`; `budget`: what the engine holds now and may still take;
    `ceiling`: what it could have if nobody else took anything.
    """
    streams = [*running, new]
    alone = weights + peak(costs, [new], 0, 0)
    if weights + peak(costs, streams, kept, kept_limit) <= budget:
        return Verdict("begin", True, 0, alone)
    left = budget - weights - peak(costs, streams, 0, 0)
    if left >= 0:
        return Verdict("begin", False, max(0, kept - left), alone)
    if alone <= budget and running:
        return Verdict("wait", False, 0, alone)
    return Verdict("refuse" if alone <= ceiling else "never", False, 0, alone)


def longest_prompt(costs: Costs, weights: int, ceiling: int, window: int) -> int:
    """Tokens of the longest prompt whose request could ever begin; 0 when none could."""
    low, high = 0, window
    while low < high:
        middle = (low + high + 1) // 2
        if weights + peak(costs, [Demand(middle, min(REPLY, window - middle))], 0, 0) <= ceiling:
            low = middle
        else:
            high = middle - 1
    return low
