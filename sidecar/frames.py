"""What sidecar and engine say: length-prefixed msgpack frames over a socketpair.

The only place where this format is spelled. A frame is a 4-byte big-endian length and the msgpack of one tagged struct.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from sidecar.conversation import Conversation, Frame, Priority, Sampling
from sidecar.packing import _unpacked, packed, undisturbed

FRAME_LIMIT = 64 * 2**20
"""Bytes; twice the largest request body. Whoever sends a larger one is broken."""
WRITE_S = 30.0
"""For writing what has been read before an engine exits: enough for what disks may keep at 0.3 GB/s, and for more than
ten thousand tokens of the largest ones on a slow one."""

SamplingBy = Literal["user", "model", "ours"]
"""Who names the temperature where a request does not: the user's setting, the model's generation_config, or nobody."""


class Load(Frame, frozen=True):
    """Load a model directory; answered by Ready or Failed(id=0)."""

    path: str
    name: str
    context: int
    """Upper limit of the window in tokens; 0 = the model's own."""
    cache_bytes: int
    """Budget for cached prefixes; 0 = the engine chooses."""
    reserve_bytes: float = 0.0
    """Memory that stays free: requests that would take of it do not begin."""
    limit_bytes: float = 0.0
    """The most that all our processes may hold; 0 = no limit."""
    kv_bits: str = "16"
    """Bits for each number of a KV cache, a name of `config.KV_BITS`; fewer than 16 only for models whose caches can be
    quantised."""
    disk_path: str = ""
    """Folder of the prefixes on disk, of all models; empty = they are kept in memory alone."""
    disk_bytes: int = 0
    """The most that it may hold."""
    temperature: float | None = None
    """Where a request names none; None = the model's author decides."""


class Generate(Frame, frozen=True):
    id: int
    conversation: Conversation
    sampling: Sampling
    max_tokens: int
    """0 reads the prompt into the cache and generates nothing."""
    stop: tuple[str, ...] = ()
    forced: tuple[str, ...] = ()
    """The answer must be a call of one of these tools; empty = the model may also answer in words."""
    parallel: bool = True
    """Whether one answer may hold several calls."""
    thinking_budget: int = 0
    """Tokens after which thinking is ended; 0 = the model decides."""
    session: str = ""
    """Which client this belongs to: streams are scheduled fairly between sessions."""
    priority: Priority = Priority.MAIN
    place: str = ""
    """Key of the folder that it comes from: what the prompt begins with is remembered for its next session."""


class Prewarm(Frame, frozen=True):
    """Make ready what prompts from this folder begin with, when nobody wants anything else."""

    place: str


class Count(Frame, frozen=True):
    """Count the tokens of the prompt as Generate would render it; answered by Counted."""

    id: int
    conversation: Conversation
    session: str = ""
    """As in Generate."""


class Cancel(Frame, frozen=True):
    """Give up a request; nothing more is sent for it. What was read of its prompt stays cached."""

    id: int


class Drop(Frame, frozen=True):
    """Forget every cached prefix, on disk too."""


class Shed(Frame, frozen=True):
    """Give back so many bytes: freed buffers first, then cached prefixes, least recently used first."""

    bytes: int


class Stop(Frame, frozen=True):
    """Write what has been read and is not on disk yet, what is worth most first, and exit."""

    seconds: float = WRITE_S
    """For the writing."""


ToEngine = Load | Generate | Prewarm | Count | Cancel | Drop | Shed | Stop


class Ready(Frame, frozen=True):
    """The model is in memory."""

    name: str
    context_window: int
    """Tokens, prompt and answer together."""
    bytes_per_token: int
    """Measured growth of the KV cache, all layers."""
    kv_bits: str = "16"
    """Bits for each number of a KV cache, as in Load unless this model's cannot be quantised."""
    one_by_one: str = ""
    """Why streams are not decoded as one batch; empty = they are."""
    sampling: Sampling = Sampling()
    """What a request gets that names nothing."""
    sampling_by: SamplingBy = "ours"


class Accepted(Frame, frozen=True):
    """The request is prepared and waits for its turn. One that need not wait is told of by Started alone."""

    id: int


class Started(Frame, frozen=True):
    """The prompt is rendered and about to be read."""

    id: int
    prompt_tokens: int
    cached_tokens: int
    disk_tokens: int = 0
    """The part of cached_tokens that was not in memory."""


class Progress(Frame, frozen=True):
    """So many prompt tokens have been read (or were cached)."""

    id: int
    tokens: int


class TextDelta(Frame, frozen=True):
    id: int
    text: str


class ThinkingDelta(Frame, frozen=True):
    id: int
    text: str


class ThinkingEnd(Frame, frozen=True):
    """The thinking is over."""

    id: int
    signature: str


class ToolStart(Frame, frozen=True):
    """A tool call begins; ToolArguments follow until the next event of another kind."""

    id: int
    name: str


class ToolArguments(Frame, frozen=True):
    """The next piece of the call's arguments, as JSON text."""

    id: int
    json: str


class Finished(Frame, frozen=True):
    id: int
    reason: Literal["end", "length", "stop", "window", "tool"]
    """window: the context window is full before max_tokens was reached."""
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    thinking_tokens: int = 0
    """The part of output_tokens that was spent on thinking."""
    stop_sequence: str | None = None
    cut: str = ""
    """The tool whose call, the answer's only one, was not whole when the answer had to end."""


class Counted(Frame, frozen=True):
    id: int
    tokens: int


class Failed(Frame, frozen=True):
    """A request (or with id 0 the load) ends without an answer."""

    id: int
    kind: Literal["too_long", "invalid", "overloaded", "internal"]
    message: str


class Queued(Frame, frozen=True):
    """A request that has not begun."""

    priority: Priority
    prompt_tokens: int
    waited_s: float
    expected_s: float
    """Until its prompt is read, at the speeds measured of late."""
    id: int = 0


class Live(Frame, frozen=True):
    """A request that has begun."""

    id: int
    priority: Priority
    prompt_tokens: int
    read_tokens: int
    """Of the prompt; what was known of it counts as read."""
    output_tokens: int
    speed: float
    """Tokens in a second, of late: read, or written once the prompt is read. 0 = not known yet."""


class Heartbeat(Frame, frozen=True):
    """Sent every second by a thread of its own, so that a stuck step shows as a growing `step_s`."""

    step_s: float
    """Seconds since the current step began; 0 between steps."""
    running: int
    waiting: int
    active_bytes: int
    """Live arrays: weights, KV caches, transients."""
    cache_bytes: int
    """The part of them that is cached prefixes."""
    output_tokens: int
    """Generated since the load."""
    pool_bytes: int = 0
    """Freed buffers that the allocator keeps for the next use."""
    peak_bytes: int = 0
    """The most that live arrays took at once since the load."""
    queue: tuple[Queued, ...] = ()
    """Who waits, the next first."""
    streams: tuple[Live, ...] = ()
    """Who has begun."""
    cache_nodes: int = 0
    """Pieces of them in memory."""
    disk_bytes: int = 0
    """Cached prefixes on disk, of this model."""
    disk_nodes: int = 0
    preparing: int = 0
    """Requests whose prompts are not rendered yet; they count as waiting, too."""
    expected_s: float = 0.0
    """How long the current step should take, at the pace that was measured on this machine."""


FromEngine = (
    Ready
    | Accepted
    | Started
    | Progress
    | TextDelta
    | ThinkingDelta
    | ThinkingEnd
    | ToolStart
    | ToolArguments
    | Finished
    | Counted
    | Failed
    | Heartbeat
)


class BadFrame(ValueError):
    """A frame that is none of its direction's. `request`: the number of the request in it, 0 where there is none."""

    def __init__(self, request: int, why: str) -> None:
        super().__init__(why)
        self.request = request


class _Numbered(msgspec.Struct, frozen=True):
    """Any frame, as far as its request's number."""

    type: str = ""
    id: int = 0


def encode(frame: Frame) -> bytes:
    """One frame, length included."""
    body = packed(frame)
    return len(body).to_bytes(4, "big") + body


class Decoder:
    """Cuts a byte stream into frames of one direction: `Decoder(ToEngine)` or `Decoder(FromEngine)`."""

    def __init__(self, direction: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(direction, ext_hook=_unpacked)
        self._buffer = bytearray()
        self.size = 0
        """Bytes of the frame that was decoded last."""

    def feed(self, data: bytes | bytearray) -> Iterator[Any]:
        """Yield the frames that `data` completes. Raises ValueError on anything that is not a frame, BadFrame where the
        next one can still be read."""
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > FRAME_LIMIT:
                raise ValueError(f"a frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                return
            body = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            self.size = length
            yield self._decoded(body)

    def _decoded(self, body: bytes) -> Any:
        try:
            with undisturbed(len(body)):
                return self._decoder.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise BadFrame(_number(body), str(error)) from None


def _number(body: bytes) -> int:
    try:
        head = msgspec.msgpack.decode(body, type=_Numbered)
    except (msgspec.MsgspecError, RecursionError):
        return 0
    return head.id if head.type in (Generate.__name__, Count.__name__) else 0
