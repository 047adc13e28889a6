"""A PDF that Claude Code reads and a picture that is pasted into it, and the conversation that goes on after them."""

import base64
import json
import struct
import subprocess
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.home import Home
from tests.support.pdfs import pdf

# Fixed texts, since the demo model copies most, not all (its card has the figures). Its template takes what follows
# such a line for all of a result, and what stands before such a tag for none of the user's words.
FILE_TEXT = "green apples on a table"
REPORT = f"report follows:\n> {FILE_TEXT}"
TAG = "<command-args></command-args>"
SAID = ("river stone lamp", "blue garden", "river stone lamp")


def png(width: int, height: int) -> bytes:
    """A black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes(3 * width)) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PASTED = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png(64, 48)).decode()}


class Conversation:
    """A session of Claude Code's that is told one thing after the other."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def say(self, *content: Any) -> dict[str, Any]:
        """The result of the turn, as the client reports it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        message = {"type": "user", "message": {"role": "user", "content": list(content)}}
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["type"] == "result":
                return event
        raise AssertionError("the session has ended")


@pytest.fixture
def conversation(home: Home) -> Iterator[Conversation]:
    home.environment["CLAUDE_LOCAL_PROFILE"] = "bare"  # 1,000 tokens to read instead of 21,000
    streams = ("--input-format", "stream-json", "--output-format", "stream-json", "--verbose")
    yield Conversation(home.start("--print", *streams, "--allowedTools", "Read"))


def words(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_a_conversation_goes_on_after_a_pdf_and_a_pasted_picture(home: Home, conversation: Conversation) -> None:
    """Every turn carries both again, so that refusing either would end it for good."""
    (home.project / "notes.pdf").write_bytes(pdf(REPORT))
    read = conversation.say(words("Read notes.pdf"))
    assert (read["is_error"], read["num_turns"]) == (False, 2)
    assert read["result"].strip() == f"The file says: {FILE_TEXT}"
    seen = conversation.say({"type": "image", "source": PASTED}, words(f"{TAG}say {SAID[0]}"))
    assert (seen["is_error"], seen["result"].strip()) == (False, SAID[0])
    for said in SAID:
        later = conversation.say(words(f"say {said}"))
        assert (later["is_error"], later["result"].strip()) == (False, said)
    assert home.status()["remarks"] == {"pictures": 1, "documents": 0}
    assert home.machine.logged().count("pictures that clients send become remarks") == 1
    assert " 400 " not in home.machine.logged()
