"""Decoding: the running streams get their next tokens. Who begins and what is read in between is the scheduler's."""

import time
from collections.abc import Iterable
from typing import Literal, NamedTuple

import mlx.core as mx
from mlx_lm.generate import generation_stream
from mlx_lm.models.cache import KVCache, QuantizedKVCache

from sidecar.engine.batching.batch import Batch, Row
from sidecar.engine.batching.grouping import REGROUP, cost, grouped
from sidecar.engine.batching.prompt_lookup import Lookup, Speculation
from sidecar.engine.cache.kv_layout import Cache
from sidecar.engine.memory_costs import STEP
from sidecar.engine.model import Model
from sidecar.engine.scheduling.policy import MAX_ROWS
from sidecar.engine.scheduling.stream import Stream


class Sampled(NamedTuple):
    """What one stream got in one step."""

    stream: Stream
    tokens: list[int]
    """At least one."""
    end: Literal["stop", "length"] | None = None
    """Why the last one is the stream's last: it is an end token (no part of the answer), or max_tokens are reached."""
    cache: Cache | None = None
    """With the last one, the cache of its row, which holds prompt and answer."""


class Decoder:
    """All streams, in batches of similar length; a stream alone in its batch is decoded as by `generate_step`.

    Where rows cannot share a pass (`Model.one_by_one`) every batch has one, and they take turns, a token each.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._most = 1 if model.one_by_one else MAX_ROWS
        self.end = frozenset(model.tokenizer.eos_token_ids)
        self._batches: list[Batch] = []
        self._streams: dict[Row, Stream] = {}
        self._lookup: tuple[Row, Lookup] | None = None
        self._speculation = Speculation()
        self._steps, self._stepped_at = 0, 0.0

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def streams(self) -> Iterable[Stream]:
        return self._streams.values()

    @property
    def groups(self) -> list[int]:
        """How many streams share each pass."""
        return [len(batch) for batch in self._batches]

    def insert(self, stream: Stream, cache: Cache | None) -> int | None:
        """Decode a stream from now on. `cache` (None while nothing is read) is the decoder's from now on; what is not
        in it yet of the prompt, the last token at least, is read in the first pass.

        Returns the answer's first token, None if that ends it. `step` hands it out too, but only once the next one is
        under way, which on a CPU takes another pass.
        """
        read = stream.prompt_length - 1 - stream.unread
        row = Row(stream.sampler, stream.processors, stream.tokens[:read])
        self._streams[row] = stream
        with mx.stream(generation_stream):
            cache = cache or self._model.new_cache()
            batch = Batch(self._model.weights, row, cache, stream.tokens[read:])
            first = batch.peek()
            self._batches.append(batch)
            self._regroup()
        return first if first not in self.end else None

    def step(self) -> list[Sampled]:
        """The next token of each stream, or a few; one that has ended is out."""
        with mx.stream(generation_stream):
            results = [self._result(row, tokens) for row, tokens in self._advance()]
            self._steps += 1
            if self._steps % STEP == 0:
                mx.clear_cache()  # caches grow by copying themselves
        return results

    def remove(self, stream: Stream) -> tuple[list[int], Cache]:
        """Take a stream out before its end: its cache, and the tokens that it holds."""
        [row] = [row for row, each in self._streams.items() if each is stream]
        with mx.stream(generation_stream):
            return row.tokens, self._take(row)

    def paused(self) -> None:
        """Something else was done since the last step: the time until the next one is not a step's."""
        self._stepped_at = 0.0

    def _result(self, row: Row, tokens: list[int]) -> Sampled:
        stream = self._streams[row]
        if tokens[-1] in self.end:
            return Sampled(stream, tokens, "stop", self._take(row))
        if self._left(row) == 0:
            return Sampled(stream, tokens, "length", self._take(row))
        return Sampled(stream, tokens)

    def _left(self, row: Row) -> int:
        stream = self._streams[row]
        return stream.max_tokens - (len(row.tokens) - stream.prompt_length)

    def _take(self, row: Row) -> Cache:
        [batch] = [batch for batch in self._batches if row in batch.rows]
        if (taken := batch.take(row)) is batch:
            self._batches.remove(batch)
        del self._streams[row]
        self._regroup()
        return taken.cache

    def _regroup(self) -> None:
        rows = [row for batch in self._batches for row in batch.rows]
        lengths = [len(row.tokens) for row in rows]
        index = {row: number for number, row in enumerate(rows)}
        now = [[index[row] for row in batch.rows] for batch in self._batches]
        best, price = grouped(lengths, self._model.pass_tokens, self._most), self._model.pass_tokens
        if cost(best, lengths, price) < REGROUP * cost(now, lengths, price):
            self._batches = [self._gather([rows[number] for number in group]) for group in best]

    def _gather(self, rows: list[Row]) -> Batch:
        """One batch of these rows, out of those that hold them; the largest part stays where it is."""
        parts = list[Batch]()
        for batch in self._batches:
            for row in [row for row in batch.rows if row in rows]:
                parts.append(batch if all(other in rows for other in batch.rows) else batch.take(row))
        whole, *others = sorted(dict.fromkeys(parts), key=len, reverse=True)
        for other in others:
            whole.join(other)
        return whole

    # Passes

    def _advance(self) -> list[tuple[Row, list[int]]]:
        if len(self._batches) == 1 and len(self._batches[0]) == 1:
            return [self._advance_alone(self._batches[0])]
        self._stepped_at = 0.0
        for batch in self._batches:
            batch.advance()
        return [
            (row, [token]) for batch in self._batches for row, token in zip(batch.rows, batch.collect(), strict=True)
        ]

    def _advance_alone(self, batch: Batch) -> tuple[Row, list[int]]:
        """With nobody else to share a pass with, a row may use one for several tokens of its own."""
        [row] = batch.rows
        guesses = self._guesses(batch, row)
        if not guesses:
            batch.advance()
            tokens, now = batch.collect(), time.perf_counter()
            if _trims(batch):
                self._speculation.came(tokens[0], self._lookup_of(row).guess)
            if self._stepped_at:
                self._speculation.stepped(now - self._stepped_at)
            self._stepped_at = now
            return row, tokens
        right = batch.peek() == guesses[0]
        began = time.perf_counter()
        if right:
            tokens = batch.verify(guesses)
        else:
            batch.advance()  # later than it could have been
        self._speculation.tried(len(guesses), len(tokens) if right else 0, time.perf_counter() - began)
        self._stepped_at = 0.0
        return row, tokens if right else batch.collect()

    def _guesses(self, batch: Batch, row: Row) -> list[int]:
        """What may come next, at least two tokens or none."""
        most = min(self._speculation.length(), self._left(row))
        if most < 2 or not _trims(batch):
            return []
        guesses = self._lookup_of(row).guess(most)
        end = next((index for index, token in enumerate(guesses) if token in self.end), len(guesses))
        return guesses[:end] if end > 1 else []

    def _lookup_of(self, row: Row) -> Lookup:
        if self._lookup is None or self._lookup[0] is not row:
            self._lookup = row, Lookup(row.tokens)
        return self._lookup[1]


def _trims(batch: Batch) -> bool:
    """Whether what was guessed wrongly can be taken out of its caches again."""
    return all(type(layer) is KVCache or isinstance(layer, QuantizedKVCache) for layer in batch.cache)
