"""The engine process: frames in, one mlx thread, frames out. Requests are prepared on threads beside it.

Started by the sidecar with a socketpair as its only argument. It ends when the socket does, so it can never outlive
the sidecar; and it ends on any error out of mlx, since nothing after one can be trusted: whoever needs it starts it
again.
"""

import gc
import logging
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import mlx.core as mx
import psutil

from sidecar.conversation import Frame, Priority, Sampling
from sidecar.engine import kernels
from sidecar.engine import model as models
from sidecar.engine.cache.disk_store import Disk, open_disk
from sidecar.engine.cache.folder_prompts import Places
from sidecar.engine.cache.prefix_cache import PrefixCache
from sidecar.engine.scheduling import prewarm as prewarming
from sidecar.engine.scheduling.admission import Room
from sidecar.engine.scheduling.progress import Flow
from sidecar.engine.scheduling.requests import Prepared, Requests
from sidecar.engine.scheduling.scheduler import Scheduler
from sidecar.engine.scheduling.stream import Stream
from sidecar.frames import (
    BadFrame,
    Cancel,
    Count,
    Decoder,
    Drop,
    Failed,
    Generate,
    Heartbeat,
    Load,
    Prewarm,
    Ready,
    Shed,
    Stop,
    ToEngine,
    encode,
)
from sidecar.memory import malloc
from sidecar.memory.guard import Sample
from sidecar.memory.overhead import ENGINE_BYTES
from sidecar.memory.probe import Probe
from sidecar.shared import log_files
from sidecar.shared.pauses import OWN

QUIET_S = 0.1
"""Without a request for so long a piece of what was read is written to disk, then the next: a client that asks again
at once, as in a loop of tools, does not wait for it."""
BUSY_S = 5.0
"""While requests run, one piece is written as often: some tens of milliseconds for the largest ones."""
BUSY_SHARE = 100
"""The same where a piece takes longer: at most one part in so many of the time."""
GIVE_BACK_S = 60.0
"""At most as often the freed pieces of memory between those in use are given back, once nobody waits for anything: they
add up to some megabytes in a thousand requests."""

log = logging.getLogger(__name__)


class Worker:
    """Reads frames on one thread, beats on another, prepares requests on a few, and does everything else on the main
    one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._inbox: queue.SimpleQueue[ToEngine | Prepared] = queue.SimpleQueue()
        self._sending = threading.Lock()
        self._scheduler: Scheduler | None = None
        self._prewarm: prewarming.Prewarm | None = None
        self._requests: Requests | None = None
        self._expected: set[int] = set()
        """Requests that are being prepared: as long as there are some, nothing is read for nobody."""
        self._step_began = 0.0

    def run(self) -> None:
        """Serve until Stop; the process exits with the socket's end."""
        threading.Thread(target=self._receive, name="receive", daemon=True).start()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        write_at, give_back_at = time.monotonic() + BUSY_S, time.monotonic() + GIVE_BACK_S
        while True:
            scheduler = self._scheduler
            if self._prewarm and scheduler and scheduler.idle and not self._expected and self._inbox.empty():
                self._prewarm.begin()
            idle = scheduler is None or scheduler.idle
            if idle and time.monotonic() > give_back_at:
                malloc.give_back()
                give_back_at = time.monotonic() + GIVE_BACK_S
            unwritten = scheduler is not None and scheduler.prefixes.unwritten
            try:
                frame = self._inbox.get(block=idle, timeout=QUIET_S if unwritten else None)
            except queue.Empty:
                assert scheduler is not None
                if not idle:
                    self._timed(scheduler.step)
                began = time.monotonic()
                if idle or (unwritten and began > write_at):
                    self._timed(scheduler.prefixes.write)
                    now = time.monotonic()
                    write_at = now + max(BUSY_S, BUSY_SHARE * (now - began))
                continue
            if isinstance(frame, Stop):
                self._write_rest(frame.seconds)
                return
            self._timed(lambda frame=frame: self._handle(frame))  # type: ignore[misc]

    def stop(self) -> None:
        """As the frame does; from a signal's handler."""
        if self._scheduler is None:
            os._exit(0)  # nothing has been read, and the main thread may be loading for long
        self._inbox.put(Stop())

    def _write_rest(self, seconds: float) -> None:
        """What has been read since it was last quiet; in a hurry, and only for as long as memory is not wanted back."""
        if self._scheduler is None:
            return
        prefixes, began, pieces = self._scheduler.prefixes, OWN.now(), 0
        prefixes.hurry()
        while prefixes.unwritten and OWN.now() < began + seconds and not self._is_memory_wanted():
            self._timed(prefixes.write)
            pieces += 1
        if pieces:
            left = ", the rest is given up" if prefixes.unwritten else ""
            log.info("%d pieces of what was read are written in %.1f s%s", pieces, OWN.now() - began, left)

    def _is_memory_wanted(self) -> bool:
        """Looks through what came after Stop."""
        while not self._inbox.empty():
            if isinstance(self._inbox.get(), Shed):
                return True
        return False

    def _handle(self, frame: ToEngine | Prepared) -> None:
        if isinstance(frame, Load):
            self._load(frame)
            return
        scheduler, prewarm = self._scheduler, self._prewarm
        assert scheduler is not None and prewarm is not None, "the sidecar sends nothing before Ready"
        match frame:
            case Generate():
                self._expected.add(frame.id)
                prewarm.give_way()
            case Prepared():
                self._expected.discard(frame.request.id)
                if frame.stream and not frame.job.gone:
                    self._begin(frame.request, frame.stream)
            case Prewarm(place=place):
                prewarm.ask(place)
            case Cancel():
                self._expected.discard(frame.id)
                scheduler.cancel(frame.id)
            case Drop():
                scheduler.prefixes.clear()
                prewarm.clear()
            case Shed(bytes=wanted):
                scheduler.shed(wanted)

    def _begin(self, request: Generate, stream: Stream) -> None:
        scheduler, prewarm = self._scheduler, self._prewarm
        assert scheduler is not None and prewarm is not None
        scheduler.submit(stream)
        if request.place and request.conversation.tools and request.priority is Priority.MAIN:
            prewarm.places.learn(request.place, stream.tokens[: stream.prompt.stable + 1])

    def _load(self, load: Load) -> None:
        probe = Probe(load.limit_bytes, ours=lambda: (os.getpid(), os.getppid()))
        try:
            open_disk = partial(_open_disk, load)
            model = models.load(Path(load.path), probe().total, load.kv_bits, open_disk, load.temperature)
        except Exception as error:  # mlx-lm raises anything for a broken directory
            log.exception("cannot load %s", load.path)
            kernels.forget(error)
            self._send(Failed(0, "invalid", f"{type(error).__name__}: {error}"))
            return
        prefixes = PrefixCache(load.cache_bytes, model.new_cache, model.disk)
        room = partial(look, probe, load.reserve_bytes)
        self._scheduler = Scheduler(model, load.context, prefixes, self._send, room)
        self._prewarm = prewarming.Prewarm(Places(model.disk.folder if model.disk else None), self._scheduler)
        self._requests = Requests(model, load.context, self._send, self._inbox.put)
        gc.freeze()  # what has been loaded stays: the collector need not look at it again
        how = (Sampling(*model.defaults.settled(Sampling())), model.defaults.by)
        self._send(Ready(load.name, load.context, model.costs.per_token, model.kv.bits, model.one_by_one, *how))

    def _timed(self, act: Callable[[], None]) -> None:
        self._step_began = OWN.now()
        try:
            act()
        finally:
            self._step_began = 0.0

    def _receive(self) -> None:
        decoder = Decoder(ToEngine)
        try:
            while data := self._connection.recv(1 << 16):
                for frame in self._frames(decoder, data):
                    if not isinstance(frame, Count):
                        self._inbox.put(frame)
                    if isinstance(frame, Generate | Count) and self._requests:
                        self._requests.take(frame, decoder.size)
                    elif isinstance(frame, Cancel) and self._requests:
                        self._requests.cancel(frame.id)
        except Exception:
            log.exception("the sidecar's frames end")
        finally:
            os._exit(0)  # the sidecar is gone or broken; the main thread may be deep in a kernel

    def _frames(self, decoder: Decoder, data: bytes) -> Iterator[ToEngine]:
        """What has come. A request that cannot be read fails alone."""
        while True:
            try:
                yield from decoder.feed(data)
                return
            except BadFrame as error:
                if not error.request:
                    raise
                log.error("request %d cannot be read", error.request)
                self._send(Failed(error.request, "invalid", f"the request cannot be read: {error}"))
                data = b""

    def _beat(self) -> None:
        flow = Flow()
        while True:
            began, scheduler = self._step_began, self._scheduler
            preparing = 0
            if self._requests:
                self._requests.give_up(time.monotonic())
                preparing = self._requests.count
            disk = scheduler.prefixes.disk if scheduler else None
            self._send(
                Heartbeat(
                    step_s=OWN.now() - began if began else 0.0,
                    running=len(scheduler.reading) + len(scheduler.decoding) if scheduler else 0,
                    waiting=preparing + len(scheduler.line.waiting) if scheduler else 0,
                    active_bytes=mx.get_active_memory(),
                    cache_bytes=scheduler.prefixes.nbytes if scheduler else 0,
                    output_tokens=scheduler.output_tokens if scheduler else 0,
                    pool_bytes=mx.get_cache_memory(),
                    cache_nodes=scheduler.prefixes.nodes if scheduler else 0,
                    disk_bytes=disk.used if disk else 0,
                    disk_nodes=disk.count if disk else 0,
                    peak_bytes=max(mx.get_peak_memory(), scheduler.memory.peak if scheduler else 0),
                    queue=scheduler.queue() if scheduler else (),
                    streams=flow.look(scheduler.begun(), time.monotonic()) if scheduler else (),
                    preparing=preparing,
                    expected_s=scheduler.expected_s if scheduler else 0.0,
                )
            )
            time.sleep(1.0)

    def _send(self, *frames: Frame) -> None:
        data = b"".join(map(encode, frames))
        with self._sending:
            try:
                self._connection.sendall(data)
            except OSError:
                os._exit(0)


def _open_disk(load: Load, layout: str) -> Disk | None:
    if not load.disk_path:
        return None
    return open_disk(Path(load.disk_path), load.disk_bytes, Path(load.path), load.name, layout)


def look(probe: Callable[[], Sample], reserve: float) -> Room:
    """What may still be taken. Where nothing can be seen, all of it: not knowing is not being low."""
    try:
        sample = probe()
    except (OSError, ValueError, psutil.Error) as error:
        _say_blind(str(error))
        return Room(1 << 62, 1 << 62)
    return Room(int(sample.available - reserve), int(sample.total - reserve - ENGINE_BYTES))


@lru_cache
def _say_blind(reason: str) -> None:
    """Once for each reason."""
    log.error("the memory probe fails (%s): requests are let in unseen", reason)


def main() -> None:
    log_files.begin(os.environ.get("CLAUDE_LOCAL_LOG_LEVEL", "info"), "%(asctime)s engine %(message)s")
    connection = socket.socket(fileno=int(sys.argv[1]))
    os.dup2(2, 1)  # mlx-lm prints; stdout is nobody's business here
    worker = Worker(connection)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())  # a session or a machine that ends tells every process
    try:
        with OWN.kept():
            kernels.try_out()
            worker.run()
    except BaseException as error:
        log.exception("the engine ends")
        kernels.forget(error)
        os._exit(70)
    os._exit(0)  # MLX can abort when its streams are torn down at exit


if __name__ == "__main__":
    main()
