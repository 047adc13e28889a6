"""A picture's remark says what its header tells, and no header makes it fail."""

import base64
import random
import struct

import pytest

from sidecar.anthropic.content.pixels import pixels
from sidecar.anthropic.content.remarks import picture
from sidecar.anthropic.fields.types import ImageSource

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480)
LOSSY = b"RIFF\0\0\0\0WEBPVP8 " + bytes(10) + struct.pack("<HH", 640, 480)
LOSSLESS = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 639 | 479 << 14)
EXTENDED = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (639).to_bytes(3, "little") + (479).to_bytes(3, "little")
THUMBNAIL = b"\xff\xe1" + struct.pack(">H", 65_002) + b"\xff\xc0" * 32_500
JPEG = b"\xff\xd8" + THUMBNAIL + b"\xff\xc4\0\2" + b"\xff\xc2" + struct.pack(">HBHH", 17, 8, 480, 640)
HEADS = [PNG, GIF, LOSSY, LOSSLESS, EXTENDED, JPEG]


@pytest.mark.parametrize("head", HEADS, ids=["png", "gif", "lossy", "lossless", "extended", "jpeg"])
def test_the_size_is_read_from_the_header(head: bytes) -> None:
    assert pixels(head) == (640, 480)
    assert all(pixels(head[:length]) in (None, (640, 480)) for length in range(0, len(head), max(1, len(head) // 99)))


def test_no_bytes_make_it_fail() -> None:
    dice = random.Random(3)
    for number in range(2000):
        head = bytearray(HEADS[number % len(HEADS)][:64])
        for _ in range(4):
            head[dice.randrange(len(head))] = dice.randrange(256)
        pixels(bytes(head))
    assert [pixels(head) for head in (b"", b"\xff\xd8\xff", b"%PDF-", b"\xff\xd8" + bytes(20))] == [None] * 4


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (base64.b64encode(PNG).decode(), "[a picture, image/png, 640 x 480 pixels, 24 bytes: this model reads"),
        (base64.b64encode(PNG + b"abc").decode()[:-1], "[a picture, image/png, 640 x 480 pixels, "),
        (base64.b64encode(bytes(120_000)).decode(), "[a picture, image/png, 120 KB: this model"),
        (base64.b64encode(PNG + bytes(2_500_000)).decode(), "[a picture, image/png, 640 x 480 pixels, 2.5 MB: "),
        ("no base64 at all!", "[a picture, image/png, "),
        ("ä", "[a picture, image/png, "),
        ("", "[a picture, image/png: this model reads text only]"),
    ],
)
def test_a_pictures_remark_says_type_pixels_and_size(data: str, says: str) -> None:
    assert picture(ImageSource("base64", "image/png", data)).startswith(says)
