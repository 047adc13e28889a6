"""The text of PDF documents: each is read once, by a process of its own (`pdf`), and what came of it is kept.

A client sends its history with every turn, and its documents with it. What is kept is also why a turn never reads
otherwise than the one before it: a document that took too long once is not tried again.
"""

import hashlib
import json
import logging
import signal
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from subprocess import DEVNULL, PIPE

import trio

from sidecar.anthropic.content.remarks import Extract
from sidecar.shared.program import program

PROCESSES = 2
"""Documents that are read at once, of all clients together."""
SECONDS = 60.0
"""For one, on a machine that has other things to do: its process takes ten of its own at most."""
REQUEST_S = 120.0
"""For all documents of one request that nobody has read before; those behind it are read at a later turn."""
SAID = 4 << 20
"""Bytes that a process may say: what it may say in characters, with every one of them escaped."""
KEPT = 32 << 20
"""Characters of all texts that are kept, the least recently used of which go first."""
ENTRY = 1000
"""What an extract without a text counts."""
TOTAL = 8_000_000
"""Characters of all texts of one request: no window has room for more, and a frame to the engine has an end."""
READER = program("sidecar.documents.pdf")
MEMORY_STATUS = 77
"""As in `sidecar.documents.pdf`, which only its own process imports."""
TOO_LONG, TOO_LARGE, BROKEN = "it takes too long", "it takes too much memory", "the program that reads it ended"
FULL = "those before it are as much as fits"
UNTRIED = Extract(problem="the program that reads it could not be started")
LATER = Extract(problem="there are many: it is read at a later turn")

log = logging.getLogger(__name__)


class Documents:
    """Reads documents, and remembers what was in them."""

    def __init__(self) -> None:
        self._room = trio.CapacityLimiter(PROCESSES)
        self._known: OrderedDict[bytes, Extract] = OrderedDict()
        self._held = 0
        self._locks: dict[bytes, trio.Lock] = {}
        self._waiting: Counter[bytes] = Counter()

    async def read(self, documents: Sequence[str]) -> dict[str, Extract]:
        """What is in each of these, which are in base64; raises nothing. One after the other, so that a client with
        many leaves room for the others'."""
        found: dict[str, Extract] = {}
        left = TOTAL
        with trio.move_on_after(REQUEST_S):
            for document in dict.fromkeys(documents):
                extract = await self._one(document)
                left -= _size(extract)
                found[document] = extract if left > 0 else Extract(extract.pages, problem=FULL)
        return {document: found.get(document, LATER) for document in documents}

    async def _one(self, document: str) -> Extract:
        digest = hashlib.blake2b(document.encode("utf-8", "replace"), digest_size=16).digest()
        if digest in self._known:
            self._known.move_to_end(digest)
            return self._known[digest]
        self._waiting[digest] += 1
        try:
            # Whoever asks for the same one waits for the first, or goes on in its place when that gives up.
            async with self._locks.setdefault(digest, trio.Lock()):
                if digest in self._known:
                    return self._known[digest]
                async with self._room:
                    found = await extract(document)
                if found is not UNTRIED:
                    self._keep(digest, found)
                return found
        finally:
            self._waiting -= Counter([digest])
            if not self._waiting[digest]:
                del self._locks[digest]

    def _keep(self, digest: bytes, extract: Extract) -> None:
        self._known[digest] = extract
        self._held += _size(extract)
        while self._held > KEPT and len(self._known) > 1:
            self._held -= _size(self._known.popitem(last=False)[1])


def _size(extract: Extract) -> int:
    return ENTRY + sum(len(text or "") for text in extract.texts)


async def extract(document: str) -> Extract:
    """Have a process read it; UNTRIED where none can be started."""
    began = trio.current_time()
    try:
        process = await trio.lowlevel.open_process(READER, stdin=PIPE, stdout=PIPE, stderr=DEVNULL)
    except OSError as error:
        log.warning("no process can be started for a document: %s", error.strerror)
        return UNTRIED
    found = understood(*await _listen(process, document.encode("utf-8", "replace")))
    pages, seconds = "?" if found.pages is None else found.pages, trio.current_time() - began
    log.info("a PDF document, pages: %s, read in %.1f s: %s", pages, seconds, found.problem or "whole")
    return found


async def _listen(process: trio.Process, document: bytes) -> tuple[bytes, int | None]:
    """What it says of the document, and its exit status; None when it was killed: it said too much or took long."""
    said, status = bytearray(), None
    assert process.stdin is not None and process.stdout is not None
    try:
        with trio.move_on_after(SECONDS) as scope:
            async with process.stdin, process.stdout, trio.open_nursery() as nursery:
                nursery.start_soon(_tell, process.stdin, document)
                async for data in process.stdout:
                    said += data
                    if len(said) > SAID:
                        scope.cancel()
            status = await process.wait()
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
    return bytes(said), status


async def _tell(stdin: trio.abc.SendStream, document: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # it has seen enough, or ended
        await stdin.send_all(document)
    await stdin.aclose()


def understood(said: bytes, status: int | None) -> Extract:
    """What a process has said of its document before it ended with this status; None when it was killed by us."""
    pages: int | None = None
    texts: list[str | None] = []
    problem = _why(status)
    for line in said.split(b"\n")[:-1]:
        match json.loads(line):
            case {"pages": int(count)}:
                pages = count
            case {"text": text}:
                texts.append(text)
            case {"end": str(why)}:
                problem = why
    return Extract(pages, tuple(texts), problem)


def _why(status: int | None) -> str:
    """Why a process has not come to the end of its document."""
    if status is None or -status in (signal.SIGXCPU, signal.SIGKILL):
        return TOO_LONG
    return TOO_LARGE if status == MEMORY_STATUS else BROKEN
