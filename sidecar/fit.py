"""What fits: predictions of memory and the decisions made on them. Pure arithmetic over measured or configured sizes.

The sidecar decides with it which model may be loaded and how long its context is, the engine which request may begin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sidecar.config import KV_BITS
from sidecar.download import ModelFiles
from sidecar.models import MODELS

GB = 1e9
SHORTEST_WINDOW = 4096
"""Below this no agent's first request fits, so a smaller window would only hide the real problem."""
AMPLE_WINDOW = 24_576
"""An agent's first request twice. A longer window is not worth what quantised caches cost of the model's
precision."""
LONGEST_ANSWER = 32000
"""What Claude Code asks of models that it does not know."""
STEP = 256
"""Tokens by which mlx-lm's caches grow."""
CHUNK = 2048
"""Prompt tokens in one forward pass when nobody waits for it; larger gains nothing."""
SHORTEST_CHUNK = 32
UNPACKED_BYTES = 16 << 20
"""What a CPU unpacks at once of a layer whose weights are packed: a part of what a pass takes for itself."""
ENGINE_BYTES = 200_000_000
"""The engine without a model: Python, mlx, the tokenizer and its grammar tables (0.12 GB were measured on Linux with a
small vocabulary, and large ones take some 50 MB more)."""
REPLY = 1024
"""Tokens of answer to make room for: clients ask for 32,000 and get a few hundred. What grows beyond is the guard's."""


def transient_limit(weights: int) -> int:
    """Bytes that a forward pass may take for itself, which must matter little beside the model.

    Where attention is not fused, chunks therefore get shorter as the context gets longer. On the CPU chunks of 128 are
    read within 5 % of the speed of 2048.
    """
    return max(64 << 20, weights // 16)


@dataclass(frozen=True, slots=True)
class Limits:
    """Told to every client at launch and enforced by the engine; fixed for the life of the sidecar."""

    context_window: int
    output_limit: int
    cache_bytes: int
    kv_bits: str = "16"
    """Bits for each number of a KV cache, a name of KV_BITS; 16 = as the model computes them."""


def limits(
    files: ModelFiles,
    available: int,
    caution: float,
    context: int = 0,
    cache_gb: float = 0.0,
    kv_bits: str = "auto",
) -> Limits:
    """`available`: bytes free before the model is loaded, `caution`: what stays free of them; `context`, `cache_gb`,
    `kv_bits`: the user's own limits, 0 or auto = none. The window and the caches' format are chosen together."""
    room = max(0, available - taken(files, 0, "16") - int(caution))
    longest = min(files.context_window, context or files.context_window)
    bits = kv_bits if kv_bits != "auto" else _kv_bits(files, room, min(longest, AMPLE_WINDOW))
    bits = bits if files.kv_group else "16"
    window = min(longest, max(_by_memory(files, room, bits), SHORTEST_WINDOW))
    cache = int(min(cache_gb * 1e9, room)) if cache_gb else room // 4
    return Limits(window, min(LONGEST_ANSWER, window // 4), max(cache, window * kv_bytes(files, bits)), bits)


def kv_bytes(files: ModelFiles, bits: str) -> int:
    """Bytes of one token in caches of so many bits: each group of numbers has a scale and an offset beside them."""
    if bits == "16" or not files.kv_group:
        return files.bytes_per_token
    numbers = files.bytes_per_token // files.kv_width  # half of them keys
    return numbers * sum(KV_BITS[bits]) // 16 + 2 * files.kv_width * numbers // files.kv_group


def named(bits: str) -> str:
    """The format as people read it."""
    keys, _, values = bits.partition("/")
    return f"KV caches in {keys} bits" + f" (values in {values})" * bool(values)


def taken(files: ModelFiles, tokens: int, bits: str) -> int:
    """Bytes that one conversation of so many tokens takes, the model included."""
    fixed = files.memory_bytes + ENGINE_BYTES + transient_limit(files.memory_bytes)
    fixed += UNPACKED_BYTES if files.widened_bytes else 0
    return fixed + tokens * kv_bytes(files, bits)


def _by_memory(files: ModelFiles, room: int, bits: str) -> int:
    # One full row twice: as it is decoded, and as the cached prefix of the next turn.
    return room // (2 * kv_bytes(files, bits)) if files.bytes_per_token else files.context_window


def _kv_bits(files: ModelFiles, room: int, wanted: int) -> str:
    """As many bits as leave the wanted window; where none do, as few as there are."""
    return next((bits for bits in KV_BITS if _by_memory(files, room, bits) >= wanted), list(KV_BITS)[-1])


# Loading

WEIGHTS = {model.alias: model.bytes for model in sorted(MODELS.values(), key=lambda model: -model.bytes)}
"""Bytes of the models that have a short name, largest first."""


def load_refusal(name: str, weights: int, available: int, caution: float, advice: str) -> str | None:
    """Why a model of so many bytes must not be loaded into so much available memory; None when it may."""
    needed, room = weights + ENGINE_BYTES, available - caution
    if needed <= room:
        return None
    fitting = [alias for alias, size in WEIGHTS.items() if size + ENGINE_BYTES <= room and size < weights]
    smaller = fitting[0] if fitting else "demo" if weights > 0.1 * GB else ""
    use = f", or use a smaller model: CLAUDE_LOCAL_MODEL={smaller} fits" if smaller else ""
    return (
        f"{name} takes {needed / GB:.1f} GB, but only {available / GB:.1f} GB of memory are free, of which "
        f"{caution / GB:.1f} GB stay free for everything else: {advice}{use}"
    )


# Requests


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
