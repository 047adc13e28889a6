"""What was sent and could not be read: counted for the status, and said once in the log."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

from sidecar.anthropic.content.remarks import Extract, is_pdf
from sidecar.anthropic.fields.types import Document, Image

REMEMBERED = 1024
"""Pictures and documents that are known by sight: a client sends each again with every turn."""
_EDGE = 256
"""Characters at both ends of its data by which one is known."""

log = logging.getLogger(__name__)


class Unread:
    """The pictures and documents in whose place the model got a remark."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(pictures=0, documents=0)
        self._seen: OrderedDict[tuple[object, ...], None] = OrderedDict()

    def note(self, sent: Iterable[Image | Document], extracts: Mapping[str, Extract]) -> None:
        """A request has these; `extracts`: what was read of its PDF documents."""
        for block in sent:
            kind = _kind(block, extracts)
            if not kind or self._is_known(block):
                continue
            if not self.counts[kind]:
                log.info("this model reads text only: %s that clients send become remarks", kind)
            self.counts[kind] += 1

    def _is_known(self, block: Image | Document) -> bool:
        source = block.source
        data = source.data
        key = (type(block), len(data), data[:_EDGE], data[-_EDGE:], source.url[:_EDGE], source.file_id[:_EDGE])
        known = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return known


def _kind(block: Image | Document, extracts: Mapping[str, Extract]) -> str:
    """What it is counted as; empty when its text was read."""
    if isinstance(block, Image):
        return "pictures"
    source = block.source
    if source.type in ("text", "content") or source.media_type.startswith("text/"):
        return ""
    extract = extracts.get(source.data) if is_pdf(source) else None
    return "documents" if extract is None or extract.is_blank else ""
