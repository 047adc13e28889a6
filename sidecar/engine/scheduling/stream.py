"""One request in the engine, from its rendered prompt to its last token. Who runs when is the scheduler's matter."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.conversation import Priority, Tool
from sidecar.engine.cache.kv_layout import Cache
from sidecar.engine.json_schema.bounds import bounded, held_schema
from sidecar.engine.memory_costs import CHUNK, REPLY, STEP, Costs, Demand, whole_steps
from sidecar.engine.model import Model
from sidecar.engine.prompting.prompt_builder import Prompt
from sidecar.engine.scheduling.policy import Want
from sidecar.engine.structured_output.answer_parser import AnswerParser
from sidecar.engine.structured_output.grammar import Shape
from sidecar.engine.structured_output.logits_processors import GrammarProcessor, ThinkingBudget
from sidecar.engine.structured_output.loops import Loops
from sidecar.engine.tokenizing.detokenizer import Marking
from sidecar.engine.tokenizing.encode_cache import Overlong, forever
from sidecar.frames import Generate

CHECKPOINT = 4096
"""Tokens between two checkpoints of a cache that cannot be trimmed: what a prompt that parts in between reads again."""


class TooLong(Exception):
    """The prompt leaves no room for an answer; the text is "tokens maximum"."""


@dataclass(eq=False, slots=True)
class Stream:
    """One request on its way: waiting, then reading its prompt, then decoding."""

    id: int
    session: str
    priority: Priority
    prompt: Prompt
    tokens: list[int]
    """The prompt, then also what was sampled."""
    max_tokens: int
    limited_by_window: bool
    sampler: Any
    processors: list[Any]
    parser: AnswerParser
    detokenizer: Any
    _ids: NDArray[np.int32] = field(init=False)
    """The prompt once more, for comparisons."""
    _shared: dict[int, int] = field(default_factory=dict)
    """What was found of it, by the leader's id."""
    arrived: float = 0.0
    """Seconds on the monotonic clock."""
    cache: Cache | None = None
    read: int = 0
    cached: int = 0
    chunk: int = CHUNK
    """The most tokens to read at once: what its memory was predicted with."""
    held: bool = False
    """Whether it waits for memory."""
    keep: bool = True
    """Whether its row may stay as a prefix while it decodes."""
    thinking_tokens: int = 0
    heard_first: bool = False
    """Whether the first token has been said already, and not been handed out yet."""
    announced: bool = False
    """Whether the sidecar knows that it is prepared."""
    heard: int = 0
    """Tokens of the answer that the parser has seen."""
    called: int = 0
    """So many of them reach to the end of the last whole call."""

    def __post_init__(self) -> None:
        self._ids = np.asarray(self.prompt.tokens, np.int32)

    @property
    def prompt_length(self) -> int:
        return len(self.prompt.tokens)

    @property
    def unread(self) -> int:
        # The last token is not read: the decoder runs it for the first logits.
        return self.prompt_length - 1 - self.read

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - self.prompt_length

    def want(self, now: float) -> Want:
        """What it waits for, as far as turns are concerned."""
        return Want(self.session, self.priority, self.unread, now - self.arrived)

    def shared(self, leader: "Stream", cuts: bool) -> int:
        """How many tokens of this prompt can be taken from the row of `leader`, once it has read so far.

        `cuts`: whether rows can be resumed at any token; if not, only where they are kept.
        """
        if leader.id not in self._shared:
            least = min(self.prompt_length, leader.prompt_length) - 1
            differ = np.flatnonzero(self._ids[:least] != leader._ids[:least])
            common = int(differ[0]) if len(differ) else least
            kept = [*leader.prompt.boundaries, common // CHECKPOINT * CHECKPOINT, leader.prompt_length - 1]
            self._shared[leader.id] = common if cuts else max(cut for cut in [0, *kept] if cut <= common)
        return self._shared[leader.id]

    def demand(self, costs: Costs, read: int) -> Demand:
        """What it needs once `read` tokens of its prompt are read; all of them when it decodes."""
        reply = min(self.max_tokens, max(REPLY, self.output_tokens + STEP))
        cuts: tuple[int, ...] = ()
        if not costs.trims:
            regular = range(CHECKPOINT, self.prompt_length, CHECKPOINT)
            cuts = tuple(sorted({*regular, *(cut for cut in self.prompt.boundaries if cut < self.prompt_length)}))
        return Demand(self.prompt_length, reply, read, cuts, self.chunk)

    @property
    def gave_up(self) -> bool:
        """Whether it had to end because no grammar could be followed."""
        return any(isinstance(each, GrammarProcessor) and each.failed for each in self.processors)

    @property
    def at_checkpoint(self) -> bool:
        return self.read in self.prompt.boundaries or self.read % CHECKPOINT == 0

    def next_piece(self, tokens: int, cuts: bool) -> int:
        """How many of at most `tokens` are read next: up to a whole step of the cache, or, where rows are kept at
        checkpoints alone (not `cuts`), not beyond the next one."""
        if cuts:
            return whole_steps(self.read, tokens, self.prompt_length - 1)
        checkpoints = [*self.prompt.boundaries, (self.read // CHECKPOINT + 1) * CHECKPOINT]
        return min([tokens, *(cut - self.read for cut in checkpoints if cut > self.read)])


def prepare(model: Model, request: Generate, window: int, check: Callable[[], None] = forever) -> Stream:
    """Render, tokenise, and set up what the answer needs. On any thread; `check` is called now and then, and may raise.

    Raises TooLong, or ValueError for what cannot be served.
    """
    try:
        prompt = model.prompts.build(request.conversation, window, check)
        length = len(prompt.tokens)
    except Overlong as error:
        length = max(window, error.tokens)
    if length >= window:
        # "tokens > maximum" in the API's words: the window less one token of answer.
        raise TooLong(f"{length} {window - 1}")
    if not length:
        raise ValueError("this model's chat template makes nothing of this conversation")
    thoughts, special = model.prompts.thoughts, model.prompts.special
    room, thought_open = window - length, thoughts is not None and thoughts.opened_in(prompt.opening)
    calls = model.prompts.calls if _callable(request) else None
    return Stream(
        id=request.id,
        session=request.session,
        priority=request.priority,
        prompt=prompt,
        tokens=list(prompt.tokens),
        max_tokens=min(request.max_tokens, room),
        limited_by_window=room < request.max_tokens,
        sampler=model.sampler(request.sampling),
        processors=_processors(model, request, prompt, thought_open, room),
        parser=AnswerParser(request.id, thoughts, special, calls, request.stop, thought_open),
        detokenizer=_detokenizer(model, request, prompt),
    )


def warming(model: Model, request: int, tokens: list[int]) -> Stream:
    """What reads all tokens but the last, and answers nothing."""
    return Stream(
        id=request,
        session="",
        priority=Priority.PREWARM,
        prompt=Prompt(tokens, (), len(tokens) - 1, "", None, b""),
        tokens=list(tokens),
        max_tokens=0,
        limited_by_window=False,
        sampler=None,
        processors=[],
        parser=AnswerParser(request, None, model.prompts.special, None),
        detokenizer=None,
    )


def _callable(request: Generate) -> tuple[Tool, ...]:
    return tuple(tool for tool in request.conversation.tools if not tool.withdrawn)


def _detokenizer(model: Model, request: Generate, prompt: Prompt) -> Marking:
    made = Marking(model.tokenizer, model.prompts.special)
    if request.conversation.begun:
        # It leaves out a blank at its own beginning, which here is the middle of a sentence.
        made.add_token(prompt.tokens[-1])
        _ = made.last_segment
    return made


def _processors(model: Model, request: Generate, prompt: Prompt, thought_open: bool, room: int) -> list[Any]:
    """Raises ValueError for what cannot be enforced."""
    conversation, tokenizer, thoughts = request.conversation, model.tokenizer, model.prompts.thoughts
    processors: list[Any] = []
    schema = conversation.answer_schema
    shape = Shape(
        tools=bounded(_callable(request)),
        forced=request.forced,
        parallel=request.parallel,
        answer_schema=None if schema is None else held_schema(schema, "output_config.format.schema"),
        thinking=conversation.thinking,
        thought_open=thought_open,
        answer_open=thoughts is not None and thoughts.answered_in(prompt.opening),
    )
    if not shape.free:
        if model.grammars is None:
            raise ValueError("tools: this model's tokenizer is of a kind for which calls cannot be kept valid")
        guide, loops = model.grammars.guide(shape), Loops(model.grammars.vocabulary)
        if guide.parallel:
            _ = guide.further  # compiled here and kept: when it is needed the model would have to wait for it
        end, temperature = min(tokenizer.eos_token_ids), model.temperature(request.sampling)
        processors.append(GrammarProcessor(guide, loops, model.vocabulary, end, temperature))
    if request.thinking_budget and thoughts is not None:
        begin, end, closing = (
            tokenizer.encode(text, add_special_tokens=False)
            for text in (thoughts.begin, thoughts.end, thoughts.closing)
        )
        # Where the window leaves less than was asked for, half of it is still the answer's.
        budget = min(request.thinking_budget, room // 2 if room < request.max_tokens else request.thinking_budget)
        if closing[0] in tokenizer.added_tokens_decoder:  # letters have many spellings
            processors.append(ThinkingBudget(budget, begin, end, closing, thought_open))
    return processors
