"""A request's conversation as the model is to read it: its documents as text, and remarks where there is none."""

from sidecar.anthropic import request as api
from sidecar.anthropic.content.blocks import media
from sidecar.anthropic.content.remarks import Extract, is_pdf
from sidecar.anthropic.fields.types import CountRequest, Document
from sidecar.conversation import Conversation
from sidecar.documents.reader import Documents
from sidecar.documents.unreadable import Unread
from sidecar.http.connection import Connection
from sidecar.models.library import Library
from sidecar.requests import offload

CHARACTERS_PER_TOKEN = 3
"""Of English; other scripts have fewer."""
SHARE = 2
"""A document's text may fill one part in so many of the window: there has to be room for what is said about it."""


class Reading:
    """Makes conversations of requests, and counts what could not be read of them."""

    def __init__(self, library: Library) -> None:
        self.unread = Unread()
        self._library = library
        self._documents = Documents()

    async def conversation(self, connection: Connection, request: CountRequest, model: str, size: int) -> Conversation:
        """For the model of this name; `size`: bytes of the request's body. Raises InvalidRequest, ModelUnavailable, and
        Disconnected when the client leaves while its documents are read."""
        sent = [*media(request)]
        pdfs = [block.source.data for block in sent if isinstance(block, Document) and is_pdf(block.source)]
        extracts: dict[str, Extract] = {}
        if not pdfs:
            self.unread.note(sent, extracts)
            return await offload.aside(size, api.conversation, request)

        async def read() -> None:
            extracts.update(await self._documents.read(pdfs))

        window = (await self._library.get(model)).limits.context_window
        await connection.while_connected(read)
        self.unread.note(sent, extracts)
        return await offload.aside(size, api.conversation, request, extracts, window * CHARACTERS_PER_TOKEN // SHARE)
