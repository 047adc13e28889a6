"""Values of ours in msgpack, integers of any size included."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

LARGE = 1 << 20
"""Bytes from which on decoding is not interrupted by the collector of garbage, which looks at all that has been made
so far, again and again: four times as long for half a million values."""


@contextmanager
def undisturbed(size: int) -> Iterator[None]:
    """Decode `size` bytes in one go."""
    if size < LARGE or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


_encoder = msgspec.msgpack.Encoder()
_LARGE = 1
"""Code of msgpack's extension for an integer beyond 64 bits, as its digits: a client's values may hold any."""


def packed(value: Any) -> bytes:
    """Anything of ours in msgpack, integers of any size included."""
    try:
        return _encoder.encode(value)
    except OverflowError:
        return _encoder.encode(_carried(value))


def _carried(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() if not -(1 << 63) <= value < 1 << 64:
            return msgspec.msgpack.Ext(_LARGE, str(value).encode())
        case dict():
            return {key: _carried(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_carried(inner) for inner in value]
        case msgspec.Struct():
            fields = value.__struct_fields__
            return msgspec.structs.replace(value, **{name: _carried(getattr(value, name)) for name in fields})
    return value


def _unpacked(code: int, data: memoryview) -> int:
    if code != _LARGE:
        raise ValueError(f"an extension of the unknown code {code}")
    return int(bytes(data))
