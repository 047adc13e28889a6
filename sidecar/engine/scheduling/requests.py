"""Requests as they come: prepared on threads of their own, and handed to the mlx thread when nothing but the model is
missing. Whatever goes wrong until then fails this request alone.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sidecar.engine.model import Model
from sidecar.engine.scheduling.preparation import Job, Preparation, say_unexpected
from sidecar.engine.scheduling.stream import Stream, TooLong, prepare
from sidecar.frames import Count, Counted, Failed, Generate


class Prepared(NamedTuple):
    """What has become of a request."""

    request: Generate
    stream: Stream | None
    """None when it has failed, and been told so."""
    job: Job
    """Which may have been cancelled meanwhile."""


class Requests:
    """The requests of one model that are being prepared. `ready` is called on any thread."""

    def __init__(self, model: Model, window: int, send: Callable[..., None], ready: Callable[[Prepared], None]) -> None:
        self._model = model
        self._window = window
        self._send = send
        self._ready = ready
        self._preparation = Preparation(self._done, self._failed)

    @property
    def count(self) -> int:
        """How many are being prepared, or wait for it."""
        return self._preparation.count

    def take(self, request: Generate | Count, size: int) -> None:
        """Have it prepared. `size`: of its frame, in bytes."""
        self._preparation.put(Job(request.id, request.session, size, partial(self._work, request), request))

    def cancel(self, request: int) -> None:
        self._preparation.cancel(request)

    def give_up(self, now: float) -> None:
        """Fail those that take too long. To be called now and then."""
        self._preparation.give_up(now)

    def _work(self, request: Generate | Count, job: Job) -> Stream | Counted:
        if isinstance(request, Count):
            return Counted(request.id, self._model.prompts.count(request.conversation, job.check))
        return prepare(self._model, request, self._window, job.check)

    def _done(self, job: Job) -> None:
        if isinstance(job.result, Counted):
            self._send(job.result)
        else:
            self._ready(Prepared(job.about, job.result, job))

    def _failed(self, job: Job, error: BaseException) -> None:
        if not isinstance(error, TooLong | ValueError | RecursionError | TimeoutError):
            say_unexpected(job, error)
        self._send(_failure(job.id, error))
        if isinstance(job.about, Generate):
            self._ready(Prepared(job.about, None, job))


def _failure(request: int, error: BaseException) -> Failed:
    match error:
        case TooLong():
            return Failed(request, "too_long", str(error))
        case ValueError():
            return Failed(request, "invalid", str(error))
        case TimeoutError():
            return Failed(request, "invalid", f"the request is too much for the engine: {error} to prepare it")
        case RecursionError():
            return Failed(request, "invalid", "the request holds something that is nested too deeply")
        case MemoryError():
            return Failed(request, "overloaded", "there is not enough memory to prepare this request")
    why = f"the request cannot be prepared ({type(error).__name__}); `claude-local logs` says where it fails"
    return Failed(request, "invalid", why)
