"""Decoding: the running streams get their next tokens. Who begins and what is read in between is the scheduler's."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, StopSequences, generation_stream

from sidecar.engine.model import Model
from sidecar.engine.row import Cache
from sidecar.engine.stream import Stream
from sidecar.fit import CHUNK

MAX_ROWS = 16
"""Streams decoded at once; more wait. Batch memory is rows times the longest row."""


class Sampled(NamedTuple):
    """One token of one stream."""

    stream: Stream
    token: int
    end: Literal["stop", "length"] | None
    """Why it is the stream's last: it is an end token (which is no part of the answer), or max_tokens are reached."""
    cache: Cache | None
    """With the last one, the cache of its row, which holds prompt and answer. Lazy: evaluate it at once."""


class BatchDecoder:
    """All streams as one batch, by mlx-lm's batch generator."""

    def __init__(self, model: Model) -> None:
        self._batch = BatchGenerator(
            model.weights, completion_batch_size=MAX_ROWS, prefill_batch_size=MAX_ROWS, prefill_step_size=CHUNK
        )
        self._end = StopSequences([(token,) for token in model.tokenizer.eos_token_ids])
        self._rows: dict[int, Stream] = {}
        if mx.metal.is_available():
            mx.set_wired_limit(0)  # the batch generator has just raised it to the maximum

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def streams(self) -> Iterable[Stream]:
        return self._rows.values()

    def insert(self, stream: Stream, cache: Cache | None) -> None:
        """Decode a stream from now on. `cache` holds all its tokens but the last, and is the decoder's from now on."""
        prefix, last = stream.tokens[:-1], stream.tokens[-1]
        [row] = self._batch.insert(
            [[last]],
            max_tokens=[stream.max_tokens],
            caches=[cache] if prefix and cache else None,
            all_tokens=[prefix],
            samplers=[stream.sampler],
            logits_processors=[stream.processors],
            stop_sequences=[self._end],
        )
        self._rows[row] = stream

    def step(self) -> list[Sampled]:
        """The next token of each stream; one that has ended is out of the batch."""
        _, responses = self._batch.next()
        return [
            Sampled(
                self._rows.pop(response.uid) if response.finish_reason else self._rows[response.uid],
                response.token,
                response.finish_reason,
                response.prompt_cache,
            )
            for response in responses
        ]

    def remove(self, stream: Stream) -> tuple[list[int], Cache]:
        """Take a stream out before its end: its cache, and the tokens that it holds. Lazy: evaluate it at once."""
        [row] = [row for row, each in self._rows.items() if each is stream]
        del self._rows[row]
        with mx.stream(generation_stream):
            cache, tokens = self._batch.remove([row], return_prompt_caches=True)[row]
        return list(tokens), cache
