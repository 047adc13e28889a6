"""What could not be read is counted once, however often it is sent, and said once."""

import logging

import pytest

from sidecar.anthropic.content.remarks import Extract
from sidecar.anthropic.fields.types import Document, DocumentSource, Image, ImageSource
from sidecar.documents.unreadable import REMEMBERED, Unread


def picture(data: str) -> Image:
    return Image(ImageSource("base64", "image/png", data))


def document(data: str, kind: str = "application/pdf") -> Document:
    return Document(DocumentSource("base64", kind, data))


def test_a_picture_that_comes_again_with_every_turn_is_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    unread = Unread()
    for turn in range(5):
        unread.note([picture(f"picture {number}") for number in range(turn)], {})
    assert unread.counts == {"pictures": 4, "documents": 0}
    assert [record.message for record in caplog.records] == [
        "this model reads text only: pictures that clients send become remarks"
    ]


def test_documents_count_whose_text_was_not_read() -> None:
    plain = Document(DocumentSource("text", data="words"))
    far = Document(DocumentSource("url", url="http://x/"))
    sent = [document("whole"), document("scan"), document("a", "text/plain"), document("b", "a/b"), plain, far]
    unread = Unread()
    unread.note(sent, {"whole": Extract(1, ("words",)), "scan": Extract(1, ("",))})
    assert unread.counts == {"pictures": 0, "documents": 3}


def test_not_more_are_remembered_than_matter() -> None:
    unread = Unread()
    unread.note([picture(f"{number}") for number in range(2 * REMEMBERED)], {})
    assert len(unread._seen) == REMEMBERED
