"""What the model is told of that which it cannot read: a remark in the place of each thing, and what was read of a PDF.

The same thing is told in the same words at each turn, so that what has been read of a conversation stays known. Pure.
"""

import base64
import binascii
from dataclasses import dataclass

from sidecar.anthropic.content.pixels import pixels
from sidecar.anthropic.fields.types import DocumentSource, ImageSource

TEXT_ONLY = "this model reads text only"
ELSEWHERE = "it lies on the vendor's servers"
_HEAD = 128 * 1024
"""Characters of a picture in which its size is looked for: a camera's JPEG begins with a smaller picture."""
_NAME = 200
"""Characters of an address or an id that are shown."""


@dataclass(frozen=True, slots=True)
class Extract:
    """What could be read of a PDF document."""

    pages: int | None = None
    """As it says itself; None when it could not say so."""
    texts: tuple[str | None, ...] = ()
    """Of its pages, from the first on; None where one could not be read."""
    problem: str = ""
    """Why not all of it was read."""

    @property
    def is_blank(self) -> bool:
        return not any(self.texts)


def picture(source: ImageSource) -> str:
    """The remark in a picture's place."""
    return _remark([_what("a picture", source), _dots(source), _amount(source.data)], TEXT_ONLY)


def document(source: DocumentSource, extract: Extract | None, most: int) -> str:
    """A document's text, of which not more than `most` characters, or the remark in its place. `extract`: of a PDF."""
    if source.type == "url":
        return _remark([_what("a document", source)], "it was not sent, and nothing is fetched")
    if source.type != "base64":
        return _remark([_what("a document", source)], ELSEWHERE)
    if source.media_type.startswith("text/"):
        return _cut(_decoded(source.data).decode("utf-8", "replace"), most)
    if not is_pdf(source):
        return _remark([_what("a document", source), _amount(source.data)], TEXT_ONLY)
    extract = extract or Extract(problem="nobody has tried to read it")
    about = ["a PDF document", _pages(extract.pages), _amount(source.data)]
    if extract.is_blank:
        why = extract.problem or "there is none, as in a scan"
        return _remark(about, f"its text could not be extracted ({why})")
    return f"{_remark(about)}\n{_cut(_text(extract), most)}"


def unreadable(kind: str) -> str:
    """The remark in the place of a block that is of no known kind, or not as its kind should be."""
    return _remark([f"a block of the type {kind[:_NAME]}" if kind else "a block of no type"], "it cannot be read")


def upload(file_id: str) -> str:
    return _remark([f"a file, {file_id[:_NAME]}" if file_id else "a file"], ELSEWHERE)


def is_pdf(source: DocumentSource) -> bool:
    """The API knows no other kind in base64, so that some clients do not name it."""
    return source.type == "base64" and source.media_type in ("application/pdf", "")


def _text(extract: Extract) -> str:
    """The pages, each under its number where there are several, and what became of those that are not there."""
    several = extract.pages != 1
    pages = []
    for number, text in enumerate(extract.texts, 1):
        shown = "[it cannot be read]" if text is None else text
        pages.append(f"[page {number}]\n{shown}".strip() if several else shown)
    if extract.problem:
        pages.append(f"[the pages behind it are left out: {extract.problem}]")
    return "\n".join(pages)


def _remark(about: list[str], why: str = "") -> str:
    return f"[{', '.join(filter(None, about))}{': ' if why else ''}{why}]"


def _what(noun: str, source: ImageSource | DocumentSource) -> str:
    match source.type:
        case "url":
            return f"{noun} at {source.url[:_NAME]}" if source.url else noun
        case "file":
            return f"{noun}, file {source.file_id[:_NAME]}" if source.file_id else noun
    return f"{noun}, {source.media_type[:_NAME]}" if source.media_type else noun


def _dots(source: ImageSource) -> str:
    size = pixels(_decoded(source.data[:_HEAD])) if source.data else None
    return f"{size[0]} x {size[1]} pixels" if size else ""


def _pages(count: int | None) -> str:
    return "" if count is None else f"{count:,} page{'' if count == 1 else 's'}"


def _amount(data: str) -> str:
    """The size of what base64 holds."""
    if not data:
        return ""
    count = len(data) * 3 // 4 - data[-2:].count("=")
    if count < 1000:
        return f"{count} bytes"
    return f"{count / 1000:,.0f} KB" if count < 999_500 else f"{count / 1e6:,.1f} MB"


def _decoded(data: str) -> bytes:
    """Base64 as far as it is any."""
    try:
        return base64.b64decode(data + "===")  # more than enough where some is missing, and no harm
    except (binascii.Error, ValueError):
        return b""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}\n[the rest, {len(text) - most:,} characters, is left out]"
