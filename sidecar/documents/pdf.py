"""The text of one PDF document, in a process of its own: what a stranger has made is opened nowhere else.

`python -m sidecar.documents.pdf` reads the document, in base64, from stdin, and says JSON lines on stdout: `{"pages"}`,
then `{"text"}` for each page (null where one cannot be read), then `{"end": why}`, where `why` is empty when all of it
was read. It takes no more time, memory or room than it has been given, and whoever started it may kill it at any
moment: what it has said so far counts.
"""

import base64
import json
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO

import psutil
from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

PAGES = 300
"""Of one document, at most. A model's window ends long before."""
CHARACTERS = 200_000
"""The same: some 50,000 tokens of English."""
SECONDS = 10
"""Of one core. Pages take 5 to 200 ms each."""
MEMORY = 768 << 20
"""Bytes. Python and pypdf take 30 MiB; a document is there in base64, whole, and in objects."""
LOOK_S = 0.05
"""Between two looks at the memory, where the system does not hold us to it."""
ENCRYPTED, INVALID = "it is encrypted", "it is not a valid PDF"
TOO_LARGE, TOO_LONG = "it takes too much memory", "it is too long"
MEMORY_STATUS = 77
"""The exit status of a process that has taken too much memory."""


def bound() -> None:
    """Hold this process to its limits."""
    for limit, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # macOS has no limit of the address space
            resource.setrlimit(limit, (most, most))
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    ours = psutil.Process()
    while ours.memory_info().rss < MEMORY:
        time.sleep(LOOK_S)
    os._exit(MEMORY_STATUS)


def lines(document: bytes) -> Iterator[dict[str, object]]:
    """What is said of a document."""
    try:
        reader = PdfReader(BytesIO(document))
        if reader.is_encrypted and not reader.decrypt(""):
            yield {"end": ENCRYPTED}
            return
        yield {"pages": len(reader.pages)}
        yield from _pages(reader)
    except (DependencyError, FileNotDecryptedError):
        yield {"end": ENCRYPTED}
    except (MemoryError, LimitReachedError):
        yield {"end": TOO_LARGE}
    except Exception:  # pypdf raises whatever a broken file makes Python raise
        yield {"end": INVALID}


def _pages(reader: PdfReader) -> Iterator[dict[str, object]]:
    left = CHARACTERS
    for number, page in enumerate(reader.pages):
        if number == PAGES or left <= 0:
            yield {"end": TOO_LONG}
            return
        text = _text(page)
        left -= len(text or "")
        yield {"text": text and text[: left + len(text)]}
    yield {"end": ""}


def _text(page: PageObject) -> str | None:
    try:
        return clean(page.extract_text())
    except (MemoryError, LimitReachedError):
        raise
    except Exception:  # as above; the other pages may be whole
        return None


def clean(text: str) -> str:
    """Without what no text has: halves of characters, and control characters other than line ends and tabs."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return "".join(each for each in whole if each >= " " or each in "\n\t").strip()


def main() -> None:
    logging.disable()
    bound()
    for line in lines(base64.b64decode(sys.stdin.buffer.read())):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
