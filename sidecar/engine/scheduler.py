"""Who runs next: prompts are read one slice at a time beside the running streams, which are decoded as one batch.

`Scheduler.step` decides with `plan`, a pure function, then acts. mlx-lm's batch generator decodes; reading prompts is
our own loop, since its chunks would freeze every stream for seconds.
"""

import copy
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, StopSequences

from sidecar.engine.grammar import Shape
from sidecar.engine.model import Model
from sidecar.engine.parser import AnswerParser
from sidecar.engine.prefix import Cache, PrefixCache
from sidecar.engine.processors import GrammarProcessor, ThinkingBudget
from sidecar.engine.prompt import Prompt
from sidecar.fit import CHUNK, GB, REPLY, STEP, Costs, Demand, Verdict, admit, longest_prompt, peak
from sidecar.frames import Failed, Finished, Frame, Generate, Progress, Started

log = logging.getLogger(__name__)

MAX_ROWS = 16
"""Streams decoded at once; more wait. Batch memory is rows times the longest row."""
MAX_READING = 4
"""Prompts being read at once: each holds a cache of its own."""
CHECKPOINT = 4096
"""Tokens between two checkpoints of a cache that cannot be trimmed: what a prompt that parts in between reads again."""
SLICE_S, ALONE_S = 0.15, 1.0
"""Seconds that a piece of a prompt may take: beside streams (their longest gap), alone (how late a cancel is seen)."""
MEASURED = 256
"""Prompt tokens from which on a pass says what passes take: smaller ones measure fixed costs."""
SLACK = 1.25
"""How much more than expected a pass may take before it has to wait: without it no pass could show that it needs more,
and the expectation would sink until every pass waits."""
ASK_S = 0.5
"""Between two looks at memory for a request that must wait, unless a stream ends before."""
DECODES_PER_SLICE = 4
"""Decode steps between two slices: with 4 a stream's median gap stays undisturbed, with 1 it is the slice's length."""


@dataclass(eq=False, slots=True)
class Stream:
    """One request on its way: waiting, then reading its prompt, then decoding."""

    id: int
    prompt: Prompt
    tokens: list[int]
    """The prompt, then also what was sampled."""
    max_tokens: int
    limited_by_window: bool
    sampler: Any
    processors: list[Any]
    parser: AnswerParser
    detokenizer: Any
    cache: Cache | None = None
    read: int = 0
    cached: int = 0
    chunk: int = CHUNK
    """The most tokens to read at once: what its memory was predicted with."""
    keep: bool = True
    """Whether its row may stay as a prefix while it decodes."""
    thinking_tokens: int = 0

    @property
    def prompt_length(self) -> int:
        return len(self.prompt.tokens)

    @property
    def unread(self) -> int:
        # The last token is not read: the batch generator runs it for the first logits.
        return self.prompt_length - 1 - self.read

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - self.prompt_length

    def demand(self, costs: Costs, read: int) -> Demand:
        """What it needs once `read` tokens of its prompt are read; all of them when it decodes."""
        reply = min(self.max_tokens, max(REPLY, self.output_tokens + STEP))
        cuts: tuple[int, ...] = ()
        if not costs.trims(self.prompt_length + self.max_tokens):
            regular = range(CHECKPOINT, self.prompt_length, CHECKPOINT)
            cuts = tuple(sorted({*regular, *(cut for cut in self.prompt.boundaries if cut < self.prompt_length)}))
        return Demand(self.prompt_length, reply, read, cuts, self.chunk)


@dataclass(slots=True)
class Pace:
    """Measured reading speed, in tokens per second."""

    rate: float = 32.0

    def observe(self, tokens: int, seconds: float) -> None:
        # Tiny slices measure overhead, not speed.
        if tokens >= 16 and seconds > 0:
            self.rate = 0.5 * self.rate + 0.5 * tokens / seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does: read `tokens` tokens of the prompt at index `reader` (if any), then decode."""

    reader: int | None
    tokens: int
    decodes: int


def plan(unread: list[int], decoding: bool, rate: float) -> Plan:
    """`unread`: what is left of each prompt being read. The shortest goes first: a title need not wait for a book."""
    if not unread:
        return Plan(None, 0, 1 if decoding else 0)
    reader = min(range(len(unread)), key=unread.__getitem__)
    budget = int(rate * (SLICE_S if decoding else ALONE_S))
    size = max(32, min(CHUNK, budget // 32 * 32))
    return Plan(reader, min(unread[reader], size), DECODES_PER_SLICE if decoding else 0)


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
    send: Callable[[Frame], None]
    room: Callable[[], Room]
    waiting: list[Stream] = field(default_factory=list)
    reading: list[Stream] = field(default_factory=list)
    decoding: dict[int, Stream] = field(default_factory=dict)
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
        self._batch = BatchGenerator(
            self.model.weights, completion_batch_size=MAX_ROWS, prefill_batch_size=MAX_ROWS, prefill_step_size=CHUNK
        )
        self._end = StopSequences([(token,) for token in self.model.tokenizer.eos_token_ids])
        if mx.metal.is_available():
            mx.set_wired_limit(0)  # the batch generator has just raised it to the maximum

    @property
    def idle(self) -> bool:
        return not (self.waiting or self.reading or self.decoding)

    def submit(self, request: Generate) -> None:
        """Render the prompt and queue the request; one that cannot run is answered with Failed at once."""
        try:
            prompt = self.model.prompts.build(request.conversation)
            thought_open = self._opens_thought(prompt.opening)
            room = self.context_window - len(prompt.tokens)
            processors = self._processors(request, thought_open, room)
        except ValueError as error:
            self.send(Failed(request.id, "invalid", str(error)))
            return
        length = len(prompt.tokens)
        if length >= self.context_window:
            # "tokens > maximum" in the API's words: the window less one token of answer.
            self.send(Failed(request.id, "too_long", f"{length} {self.context_window - 1}"))
            return
        calls = self.model.prompts.calls if request.conversation.tools else None
        self.waiting.append(
            Stream(
                id=request.id,
                prompt=prompt,
                tokens=list(prompt.tokens),
                max_tokens=min(request.max_tokens, room),
                limited_by_window=room < request.max_tokens,
                sampler=self.model.sampler(request.sampling),
                processors=processors,
                parser=AnswerParser(request.id, self.model.tokenizer, calls, request.stop, thought_open),
                detokenizer=self._detokenizer(request, prompt),
            )
        )

    def cancel(self, request: int) -> None:
        """Forget a request; what was read of its prompt is kept."""
        self.waiting = [stream for stream in self.waiting if stream.id != request]
        for stream in [stream for stream in self.reading if stream.id == request]:
            self.reading.remove(stream)
            if stream.cache is not None and stream.read:
                self.prefixes.add(stream.tokens[: stream.read], stream.cache)
        for row in [row for row, stream in self.decoding.items() if stream.id == request]:
            self._retire(row)
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
        running += [each.demand(costs, each.prompt_length) for each in self.decoding.values()]
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
        cache, stream.cached = self.prefixes.find(stream.tokens)
        stream.cache = cache or self.model.new_cache()
        stream.read = stream.cached
        self.reading.append(stream)
        self.send(Started(stream.id, stream.prompt_length, stream.cached))

    def _read(self, stream: Stream, tokens: int) -> None:
        assert stream.cache is not None
        if tokens:
            tokens = self._up_to_checkpoint(stream, min(tokens, stream.chunk, self._costs.chunk(stream.read)))
            mx.clear_cache()
            self.peak = max(self.peak, mx.get_peak_memory())
            mx.reset_peak_memory()
            before = mx.get_active_memory()
            self._hold_to(before, stream, tokens)
            began = time.perf_counter()
            with mx.stream(self._batch.stream):
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
            if stream.keep and self._is_checkpoint(stream.read, stream) and not self._stays_trimmable(stream):
                self.prefixes.add(stream.tokens[: stream.read], self._copy(stream.cache))
        if stream.unread == 0:
            self._start_decoding(stream)

    def _hold_to(self, before: int, stream: Stream, tokens: int) -> None:
        """Have MLX wait for its own threads before it takes more than a pass is expected to.

        It would otherwise allocate ahead of them, on a busy machine twice as much as the pass needs.
        """
        costs, end = self._costs, stream.read + tokens
        grown = max(0, costs.row(end, tokens) - costs.row(stream.read))
        mx.set_memory_limit(int(before + grown + SLACK * costs.transient(tokens, end)))

    @staticmethod
    def _is_checkpoint(position: int, stream: Stream) -> bool:
        return position in stream.prompt.boundaries or position % CHECKPOINT == 0

    @staticmethod
    def _stays_trimmable(stream: Stream) -> bool:
        """A rotating cache can be trimmed only until it wraps, which the rest of this stream may make it do."""
        longest = stream.prompt_length + stream.max_tokens
        return all(
            layer.is_trimmable() and getattr(layer, "max_size", longest) >= longest for layer in stream.cache or ()
        )

    @staticmethod
    def _up_to_checkpoint(stream: Stream, tokens: int) -> int:
        cuts = [*stream.prompt.boundaries, (stream.read // CHECKPOINT + 1) * CHECKPOINT]
        return min([tokens, *(cut - stream.read for cut in cuts if cut > stream.read)])

    @staticmethod
    def _copy(cache: Cache) -> Cache:
        return copy.deepcopy(cache)

    def _start_decoding(self, stream: Stream) -> None:
        self.reading.remove(stream)
        prefix, cache = stream.tokens[:-1], stream.cache
        if stream.max_tokens == 0:
            self._finish(stream, "length")
        else:
            [row] = self._batch.insert(
                [[stream.tokens[-1]]],
                max_tokens=[stream.max_tokens],
                caches=[self._copy(cache)] if prefix and cache else None,
                all_tokens=[list(prefix)],
                samplers=[stream.sampler],
                logits_processors=[stream.processors],
                stop_sequences=[self._end],
            )
            self.decoding[row] = stream
        stream.cache = None
        if prefix and cache and stream.keep:
            self.prefixes.add(prefix, cache)

    def _decode(self) -> None:
        _, responses = self._batch.next()
        for response in responses:
            stream = self.decoding[response.uid]
            stream.tokens.append(response.token)
            self.output_tokens += 1
            stream.thinking_tokens += stream.parser.thinking
            ended = response.finish_reason == "stop"
            if not ended:
                stream.detokenizer.add_token(response.token)
                self._emit(stream.parser.feed(stream.detokenizer.last_segment))
            if response.finish_reason:
                self._complete(stream, ended)
                del self.decoding[response.uid]
                self.prefixes.add(stream.tokens, response.prompt_cache)
            elif stream.parser.stopped is not None:
                self._retire(response.uid)
                self._finish(stream, "stop")

    def _complete(self, stream: Stream, ended: bool) -> None:
        stream.detokenizer.finalize()
        self._emit(stream.parser.feed(stream.detokenizer.last_segment))
        self._emit(stream.parser.finish())
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

    def _retire(self, row: int) -> None:
        """Take a row out of the batch before its end; its cache is kept."""
        del self.decoding[row]
        with mx.stream(self._batch.stream):
            cache, tokens = self._batch.remove([row], return_prompt_caches=True)[row]
            self.prefixes.add(list(tokens), cache)

    def _finish(self, stream: Stream, reason: Literal["end", "length", "stop", "window", "tool"]) -> None:
        self._ended += 1
        self.send(
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

    def _emit(self, events: list[Any]) -> None:
        for event in events:
            self.send(event)

    def _detokenizer(self, request: Generate, prompt: Prompt) -> Any:
        detokenizer = self.model.tokenizer.detokenizer
        if request.conversation.begun:
            # It leaves out a blank at its own beginning, which here is the middle of a sentence.
            detokenizer.add_token(prompt.tokens[-1])
            _ = detokenizer.last_segment
        return detokenizer

    def _opens_thought(self, opening: str) -> bool:
        tokenizer = self.model.tokenizer
        return tokenizer.has_thinking and opening.rfind(tokenizer.think_start) > opening.rfind(tokenizer.think_end)

    def _processors(self, request: Generate, thought_open: bool, room: int) -> list[Any]:
        """Raises ValueError for what cannot be enforced."""
        conversation, tokenizer = request.conversation, self.model.tokenizer
        processors: list[Any] = []
        shape = Shape(
            tools=conversation.tools,
            forced=request.forced,
            parallel=request.parallel,
            answer_schema=conversation.answer_schema,
            thinking=conversation.thinking,
            thought_open=thought_open,
        )
        if not shape.free:
            if self.model.grammars is None:
                raise ValueError("tools: this model's tokenizer is of a kind for which calls cannot be kept valid")
            matcher = self.model.grammars.matcher(shape)
            processors.append(GrammarProcessor(matcher, self.model.vocabulary, min(tokenizer.eos_token_ids)))
        if request.thinking_budget and tokenizer.has_thinking and len(tokenizer.think_end_tokens) == 1:
            start, [end] = tokenizer.think_start_tokens[0], tokenizer.think_end_tokens
            # Where the window leaves less than was asked for, half of it is still the answer's.
            budget = min(request.thinking_budget, room // 2 if room < request.max_tokens else request.thinking_budget)
            processors.append(ThinkingBudget(budget, start, end, thought_open))
        return processors
