"""Who runs next: prompts are read one slice at a time beside the running streams, which are decoded as one batch.

`Scheduler.step` decides with `step_plan`, a pure function, then acts. Reading prompts is our own loop, since mlx-lm's
chunks would freeze every stream for seconds.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx
from mlx_lm.generate import generation_stream

from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.memory_costs import Verdict
from sidecar.engine.model import Model
from sidecar.engine.scheduling.admission import Admission, Room
from sidecar.engine.scheduling.decoder import Decoder, Sampled
from sidecar.engine.scheduling.output_buffer import Outbox
from sidecar.engine.scheduling.policy import MAX_ROWS, Shares
from sidecar.engine.scheduling.step_plan import Pace, schedule
from sidecar.engine.scheduling.stream import Stream, warming
from sidecar.engine.scheduling.waiting_queue import Line
from sidecar.frames import Accepted, Failed, Finished, Progress, Queued, Started
from sidecar.memory import malloc
from sidecar.shared.pauses import OWN

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Scheduler:
    """All streams of one model. Every method is called on the engine's one mlx thread, but `queue`."""

    model: Model
    context_window: int
    prefixes: PrefixCache
    send: Callable[..., None]
    """Takes any number of frames; one call is one write."""
    room: Callable[[], Room]
    reading: list[Stream] = field(default_factory=list)
    output_tokens: int = 0
    expected_s: float = 0.0
    """How long the present step should take, at the pace that was measured."""

    def __post_init__(self) -> None:
        self.memory = Admission(self.model, self.prefixes, self.room, self.context_window)
        self.decoding = Decoder(self.model)
        self._pace, self._shares = Pace(self.model.pace, self.model.step_s, manner=self.model.manner), Shares()
        self.line = Line(self.memory, self.prefixes, self._pace, self._shares)
        self._ended, self._ended_at = 0, 0.0
        self._said = Outbox(self.send)

    @property
    def idle(self) -> bool:
        return not (self.line.waiting or self.reading or self.decoding)

    def submit(self, stream: Stream) -> None:
        """Queue a request that has been prepared."""
        self.line.add(stream)

    def warm(self, request: int, tokens: list[int]) -> bool:
        """Begin to read all tokens but the last, for nobody yet; False when that is no use."""
        if len(tokens) >= self.context_window or self.prefixes.resident(tokens) == len(tokens) - 1:
            return False
        self.line.add(warming(self.model, request, tokens))
        return True

    def cancel(self, request: int) -> None:
        """Forget a request; what was read of its prompt is kept."""
        self.line.remove(request)
        self._said.drop(request)
        for stream in [stream for stream in self.reading if stream.id == request]:
            self.reading.remove(stream)
            if stream.cache is not None and stream.read:
                self.prefixes.add(stream.tokens[: stream.read], stream.cache, stream.priority, last=True)
        for stream in [stream for stream in self.decoding.streams if stream.id == request]:
            self._retire(stream)
        mx.clear_cache()
        self.line.ask_again()

    def queue(self) -> tuple[Queued, ...]:
        """Who waits, the next first. Callable on any thread: what it reads is only ever replaced or added to."""
        return self.line.queue(list(self.reading), list(self.decoding.streams))

    def begun(self) -> list[Stream]:
        """Who has begun. Callable on any thread."""
        return [*self.reading, *self.decoding.streams]

    def step(self) -> None:
        """One slice of reading and a few decode steps. After an exception the process must end."""
        ended = self._ended
        while chosen := self.line.next(self.reading, list(self.decoding.streams)):
            self._begin(*chosen)
        self._announce()
        todo = schedule(self.line.turns(self.reading), bool(self.decoding), self._pace)
        self.expected_s = self._pace.seconds(todo)
        if todo.reader is not None:
            self._said.flush()  # a piece takes longer than words should wait
            self._read(self.reading[todo.reader], todo.tokens)
        self._decode(todo.decodes, has_read=todo.reader is not None)
        if self._ended != ended:
            mx.clear_cache()
            self.line.ask_again()

    def shed(self, wanted: int) -> None:
        """Give back so many bytes if they are there: freed buffers first, then prefixes, least recently used first."""
        wanted -= mx.get_cache_memory()
        mx.clear_cache()
        self.prefixes.shed(self.prefixes.nbytes - max(0, wanted))
        malloc.give_back()

    def _begin(self, stream: Stream, verdict: Verdict) -> None:
        if verdict.act != "begin":
            self.send(self.memory.refusal(stream, verdict))
            return
        self.prefixes.shed(self.prefixes.nbytes - verdict.evict)
        stream.keep = verdict.keep
        cache, stream.cached, from_disk = self.prefixes.find(stream.tokens, stream.priority, stream.keep)
        stream.cache = cache or self.model.new_cache()
        stream.read = stream.cached
        self.reading.append(stream)
        self.send(Started(stream.id, stream.prompt_length, stream.cached, from_disk))

    def _announce(self) -> None:
        """Tell of those that have to wait that nothing more is to be prepared."""
        waiting = [stream for stream in self.line.waiting if not stream.announced]
        for stream in waiting:
            stream.announced = True
        if waiting:
            self.send(*(Accepted(stream.id) for stream in waiting))

    def _read(self, stream: Stream, tokens: int) -> None:
        cache = stream.cache
        assert cache is not None
        if self._is_nearly_read(stream):
            self._start_decoding(stream)
            return
        if tokens:
            tokens = stream.next_piece(
                min(tokens, stream.chunk, self.memory.costs.chunk(stream.read)), self.prefixes.cuts
            )
            wanting, began = self.line.wanting(self.reading, list(self.decoding.streams)), OWN.now()

            def read() -> None:
                with mx.stream(generation_stream):
                    self.model.weights(mx.array([stream.tokens[stream.read : stream.read + tokens]]), cache=cache)
                    mx.eval([layer.state for layer in cache])

            self.memory.run(stream, tokens, read)
            self.decoding.paused()
            seconds = OWN.now() - began
            if self.decoding:
                seconds = max(seconds / 2, seconds - self._pace.step_s)  # the step that was under way
            self._pace.read(tokens, seconds)
            self._shares.charge(stream.session, seconds, wanting)
            stream.read += tokens
            self.send(Progress(stream.id, stream.read))
            if stream.keep and stream.at_checkpoint and not self.prefixes.cuts:
                self.prefixes.add(stream.tokens[: stream.read], cache, stream.priority)
        if stream.unread == 0:
            self._start_decoding(stream)

    def _is_nearly_read(self, stream: Stream) -> bool:
        """Whether the rest is read by the pass that gives the first token. It is kept with the answer, then; where rows
        are kept at checkpoints alone, the end of the prompt must be one."""
        return 0 < stream.unread <= self.model.manner.few and self.prefixes.cuts and stream.max_tokens > 0

    def _start_decoding(self, stream: Stream) -> None:
        self.reading.remove(stream)
        prefix, cache = stream.tokens[:-1], stream.cache
        if prefix and cache and stream.keep and not stream.unread:
            self.prefixes.add(prefix, cache, stream.priority)
        if stream.max_tokens == 0:
            self._finish(stream, "length")
            self._said.flush()
        else:
            first = self.decoding.insert(stream, cache)
            stream.read = stream.prompt_length - 1  # the first pass has read the rest
            if first is not None:
                self._hear(stream, first)
                self._said.flush()
                stream.heard_first = True
        stream.cache = None

    def _decode(self, steps: int, has_read: bool) -> None:
        for number in range(steps):
            if self.decoding:
                began = OWN.now()
                self._sampled(self.decoding.step())
                if number or not has_read:  # the first after a piece was computed together with it
                    self._pace.decoded(OWN.now() - began)

    def _sampled(self, results: list[Sampled]) -> None:
        for stream, tokens, end, cache in results:
            held = [*stream.tokens, *tokens] if end else []
            for token in tokens:
                stream.tokens.append(token)
                self.output_tokens += 1
                if stream.heard_first:
                    stream.heard_first = False
                elif token not in self.decoding.end:
                    self._hear(stream, token)
                if stream.parser.stopped is not None:
                    break
            if end:
                self._complete(stream, end == "stop")
                self._said.flush()
                assert cache is not None
                self.prefixes.add(held, cache, stream.priority, last=True)
            elif stream.parser.stopped is not None:
                self._finish(stream, "stop")
                self._said.flush()
                self._retire(stream)
        self._said.flush(self._pace.step_s)

    def _hear(self, stream: Stream, token: int) -> None:
        stream.thinking_tokens += stream.parser.thinking
        stream.detokenizer.add_token(token)
        stream.heard += 1
        self._parse(stream)

    def _parse(self, stream: Stream) -> None:
        calls = stream.parser.calls
        self._said.add(stream.id, stream.parser.feed(stream.detokenizer.last_segment))
        if stream.parser.calls != calls:
            stream.called = stream.heard

    def _complete(self, stream: Stream, ended: bool) -> None:
        stream.detokenizer.finalize()
        self._parse(stream)
        self._said.add(stream.id, stream.parser.finish())
        if stream.parser.stopped is not None:
            self._finish(stream, "stop")
            return
        if stream.gave_up:
            self._fail(stream)
            return
        if not stream.parser.in_call or stream.parser.called:
            sampled = stream.tokens[stream.prompt_length : -1 if ended else None]
            self.model.prompts.remember(stream.prompt, stream.parser.blocks, self._seen(stream, sampled))
        if stream.parser.called:
            self._finish(stream, "tool")
        elif ended:
            self._finish(stream, "end")
        else:
            if tool := stream.parser.cut:
                log.warning("request %d: its call of %s is cut off at %d tokens", stream.id, tool, stream.output_tokens)
            self._finish(stream, "window" if stream.limited_by_window else "length")

    def _seen(self, stream: Stream, sampled: list[int]) -> list[int]:
        """What the client has got of an answer: nothing that comes after its last call but white space."""
        rest = sampled[stream.called :] if stream.parser.called else []
        blank = not self.model.tokenizer.decode(rest).strip() if rest else True
        return sampled if blank else sampled[: stream.called]

    def _fail(self, stream: Stream) -> None:
        self._ended += 1
        message = "the tools' or the answer's schema is too complex: no grammar for it could be followed"
        self._said.add(stream.id, [Failed(stream.id, "internal", message)])

    def _retire(self, stream: Stream) -> None:
        """Take a stream out before its end; its cache is kept."""
        self.prefixes.add(*self.decoding.remove(stream), stream.priority, last=True)

    def _finish(self, stream: Stream, reason: Literal["end", "length", "stop", "window", "tool"]) -> None:
        self._ended += 1
        now, full = time.monotonic(), len(self.reading) + len(self.decoding) + 1 >= MAX_ROWS
        if full:
            self._pace.made_room(now - self._ended_at)
        self._ended_at = now
        self._said.add(
            stream.id,
            [
                Finished(
                    stream.id,
                    reason,
                    stream.prompt_length,
                    stream.cached,
                    stream.output_tokens,
                    stream.thinking_tokens,
                    stream.parser.stopped,
                    stream.parser.cut if reason in ("length", "window") else "",
                )
            ],
        )
