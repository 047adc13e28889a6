"""Who runs next: prompts are read one slice at a time beside the running streams, which are decoded as one batch.

`Scheduler.step` decides with `plan`, a pure function, then acts. Reading prompts is our own loop, since mlx-lm's chunks
would freeze every stream for seconds.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import mlx.core as mx
from mlx_lm.generate import generation_stream

from sidecar.engine.decoder import MAX_ROWS, Decoder
from sidecar.engine.model import Model
from sidecar.engine.plan import Pace, plan
from sidecar.engine.prefix import PrefixCache
from sidecar.engine.stream import Stream, TooLong, prepare
from sidecar.fit import GB, Verdict, admit, longest_prompt, peak
from sidecar.frames import Failed, Finished, Frame, Generate, Progress, Started

log = logging.getLogger(__name__)

MAX_READING = 4
"""Prompts being read at once: each holds a cache of its own."""
MEASURED = 256
"""Prompt tokens from which on a pass says what passes take: smaller ones measure fixed costs."""
SLACK = 1.25
"""How much more than expected a pass may take before it has to wait: without it no pass could show that it needs more,
and the expectation would sink until every pass waits."""
ASK_S = 0.5
"""Between two looks at memory for a request that must wait, unless a stream ends before."""


class Room(NamedTuple):
    """Bytes that the engine may still take now, and the most that it could ever hold."""

    free: int
    ceiling: int


@dataclass(eq=False)
class Scheduler:
    """All streams of one model. Every method is called on the engine's one mlx thread."""

    model: Model
    context_window: int
    prefixes: PrefixCache
    send: Callable[..., None]
    """Takes any number of frames; one call is one write."""
    room: Callable[[], Room]
    waiting: list[Stream] = field(default_factory=list)
    reading: list[Stream] = field(default_factory=list)
    output_tokens: int = 0

    def __post_init__(self) -> None:
        self._pace = Pace(self.model.pace)
        self._costs = self.model.costs
        self._weights = mx.get_active_memory()
        self._memory_limit = mx.set_memory_limit(1 << 40)
        mx.set_memory_limit(self._memory_limit)
        self._ask_at, self._ended = 0.0, 0
        self.predicted = 0
        """Bytes that the engine was expected to hold at most, when a request was last let in."""
        self.peak = 0
        """The most that it held before the present pass: each pass is measured by itself."""
        self.decoding = Decoder(self.model)
        self._said: list[Frame] = []

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.reading or self.decoding)

    def submit(self, request: Generate) -> None:
        """Render the prompt and queue the request; one that cannot run is answered with Failed at once."""
        try:
            stream = prepare(self.model, request, self.context_window)
        except TooLong as error:
            self.send(Failed(request.id, "too_long", str(error)))
        except ValueError as error:
            self.send(Failed(request.id, "invalid", str(error)))
        else:
            self.waiting.append(stream)

    def cancel(self, request: int) -> None:
        """Forget a request; what was read of its prompt is kept."""
        self.waiting = [stream for stream in self.waiting if stream.id != request]
        for stream in [stream for stream in self.reading if stream.id == request]:
            self.reading.remove(stream)
            if stream.cache is not None and stream.read:
                self.prefixes.add(stream.tokens[: stream.read], stream.cache, stream.priority, last=True)
        for stream in [stream for stream in self.decoding.streams if stream.id == request]:
            self._retire(stream)
        mx.clear_cache()
        self._ask_at = 0.0

    def step(self) -> None:
        """One slice of reading and a few decode steps. After an exception the process must end."""
        ended = self._ended
        self._begin_waiting()
        todo = plan([stream.unread for stream in self.reading], bool(self.decoding), self._pace.rate)
        if todo.reader is not None:
            self._read(self.reading[todo.reader], todo.tokens)
        for _ in range(todo.decodes):
            if self.decoding:
                self._decode()
        if self._ended != ended:
            mx.clear_cache()
            self._ask_at = 0.0

    def _begin_waiting(self) -> None:
        while self.waiting and len(self.reading) < MAX_READING and len(self.reading) + len(self.decoding) < MAX_ROWS:
            if time.monotonic() < self._ask_at:
                return
            stream = self.waiting[0]
            verdict = self._ask(stream)
            if verdict.act == "wait":
                self._ask_at = time.monotonic() + ASK_S
                return
            self.waiting.pop(0)
            if verdict.act == "begin":
                self.prefixes.shed(self.prefixes.nbytes - verdict.evict)
                stream.keep = verdict.keep
                self._begin(stream)
            else:
                self._refuse(stream, verdict)

    def _ask(self, stream: Stream) -> Verdict:
        """Whether memory allows the request; by prediction, so that nothing has been taken yet when it does not."""
        mx.clear_cache()  # what the pool holds is free as well
        costs, room, held = self._costs, self.room(), mx.get_active_memory()
        running = [each.demand(costs, each.read) for each in self.reading]
        running += [each.demand(costs, each.prompt_length) for each in self.decoding.streams]
        stream.chunk = plan([stream.prompt_length], False, self._pace.rate).tokens
        new = stream.demand(costs, self.prefixes.match(stream.tokens))
        kept, limit = self.prefixes.nbytes, self.prefixes.budget
        verdict = admit(costs, new, running, self._weights, kept, limit, held + room.free, room.ceiling)
        streams = [*running, new]
        kept -= verdict.evict
        most = peak(costs, streams, kept, limit) if verdict.keep else kept + peak(costs, streams, 0, 0)
        self.predicted = self._weights + most
        return verdict

    def _refuse(self, stream: Stream, verdict: Verdict) -> None:
        room = self.room()
        if verdict.act == "never":
            most = longest_prompt(self._costs, self._weights, room.ceiling, self.context_window)
            log.info("request %d would need %.2f GB of at most %.2f", stream.id, verdict.need / GB, room.ceiling / GB)
            self.send(Failed(stream.id, "too_long", f"{stream.prompt_length} {most}"))
            return
        free = mx.get_active_memory() - self._weights + room.free
        self.send(
            Failed(
                stream.id,
                "overloaded",
                f"this request would take {(verdict.need - self._weights) / GB:.1f} GB of memory beside the model, and "
                f"{max(0, free) / GB:.1f} GB can be had: close something, or send less, and try again",
            )
        )

    def shed(self, wanted: int) -> None:
        """Give back so many bytes if they are there: freed buffers first, then prefixes, least recently used first."""
        wanted -= mx.get_cache_memory()
        mx.clear_cache()
        self.prefixes.shed(self.prefixes.nbytes - max(0, wanted))

    def _begin(self, stream: Stream) -> None:
        cache, stream.cached, from_disk = self.prefixes.find(stream.tokens, stream.priority)
        stream.cache = cache or self.model.new_cache()
        stream.read = stream.cached
        self.reading.append(stream)
        self.send(Started(stream.id, stream.prompt_length, stream.cached, from_disk))

    def _read(self, stream: Stream, tokens: int) -> None:
        assert stream.cache is not None
        if tokens:
            tokens = stream.up_to_checkpoint(min(tokens, stream.chunk, self._costs.chunk(stream.read)))
            mx.clear_cache()
            self.peak = max(self.peak, mx.get_peak_memory())
            mx.reset_peak_memory()
            before = mx.get_active_memory()
            self._hold_to(before, stream, tokens)
            began = time.perf_counter()
            with mx.stream(generation_stream):
                self.model.weights(mx.array([stream.tokens[stream.read : stream.read + tokens]]), cache=stream.cache)
                mx.eval([layer.state for layer in stream.cache])
            mx.set_memory_limit(self._memory_limit)
            taken = mx.get_peak_memory() - max(before, mx.get_active_memory())
            mx.clear_cache()
            if tokens >= MEASURED:
                self._costs = self._costs.seen(tokens, stream.read + tokens, taken)
            self._pace.observe(tokens, time.perf_counter() - began)
            stream.read += tokens
            self.send(Progress(stream.id, stream.read))
            if stream.keep and stream.at_checkpoint and not self.prefixes.cuts:
                self.prefixes.add(stream.tokens[: stream.read], stream.cache, stream.priority)
        if stream.unread == 0:
            self._start_decoding(stream)

    def _hold_to(self, before: int, stream: Stream, tokens: int) -> None:
        """Have MLX wait for its own threads before it takes more than a pass is expected to.

        It would otherwise allocate ahead of them, on a busy machine twice as much as the pass needs.
        """
        costs, end = self._costs, stream.read + tokens
        grown = max(0, costs.row(end, tokens) - costs.row(stream.read))
        mx.set_memory_limit(int(before + grown + SLACK * costs.transient(tokens, end)))

    def _start_decoding(self, stream: Stream) -> None:
        self.reading.remove(stream)
        prefix, cache = stream.tokens[:-1], stream.cache
        if prefix and cache and stream.keep:
            self.prefixes.add(prefix, cache, stream.priority)
        if stream.max_tokens == 0:
            self._finish(stream, "length")
            self._flush()
        else:
            self.decoding.insert(stream, cache if prefix else None)
        stream.cache = None

    def _decode(self) -> None:
        for stream, tokens, end, cache in self.decoding.step():
            held = [*stream.tokens, *tokens] if end else []
            for token in tokens:
                stream.tokens.append(token)
                self.output_tokens += 1
                stream.thinking_tokens += stream.parser.thinking
                if end != "stop":
                    stream.detokenizer.add_token(token)
                    self._said += stream.parser.feed(stream.detokenizer.last_segment)
                if stream.parser.stopped is not None:
                    break
            if end:
                self._complete(stream, end == "stop")
                self._flush()
                assert cache is not None
                self.prefixes.add(held, cache, stream.priority, last=True)
            elif stream.parser.stopped is not None:
                self._finish(stream, "stop")
                self._flush()
                self._retire(stream)
        self._flush()

    def _flush(self) -> None:
        """One write for what all streams say in a step: each is a system call here and a wake-up there."""
        if self._said:
            self.send(*self._said)
            self._said.clear()

    def _complete(self, stream: Stream, ended: bool) -> None:
        stream.detokenizer.finalize()
        self._said += stream.parser.feed(stream.detokenizer.last_segment)
        self._said += stream.parser.finish()
        if stream.parser.stopped is not None:
            self._finish(stream, "stop")
            return
        if not stream.parser.in_call:
            sampled = stream.tokens[stream.prompt_length : -1 if ended else None]
            self.model.prompts.remember(stream.prompt, stream.parser.blocks, sampled)
        if ended:
            self._finish(stream, "tool" if stream.parser.called else "end")
        else:
            self._finish(stream, "window" if stream.limited_by_window else "length")

    def _retire(self, stream: Stream) -> None:
        """Take a stream out before its end; its cache is kept."""
        self.prefixes.add(*self.decoding.remove(stream), stream.priority, last=True)

    def _finish(self, stream: Stream, reason: Literal["end", "length", "stop", "window", "tool"]) -> None:
        self._ended += 1
        self._said.append(
            Finished(
                stream.id,
                reason,
                stream.prompt_length,
                stream.cached,
                stream.output_tokens,
                stream.thinking_tokens,
                stream.parser.stopped,
            )
        )
