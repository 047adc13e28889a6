"""Bodies with more values than anybody needs are refused before they are read."""

import json
import time

import pytest

from sidecar.anthropic.fields import values
from sidecar.errors import TooLarge


@pytest.mark.parametrize("piece", ["[],", "0,", '{"a":0},', '"[{,",'])
def test_too_many_values_are_refused(piece: str) -> None:
    body = ("[" + piece * (values.MOST + 1) + "0]").encode()
    with pytest.raises(TooLarge, match="more than 500,000 values"):
        values.check(body)


@pytest.mark.parametrize(
    "text", ["[],{" * 1_000_000, '\\"[,' * 1_000_000, "a,b\n" * 2_000_000, "\\\\" * 3_000_000 + "[,"]
)
def test_what_stands_in_a_text_is_no_value(text: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": text}], "system": text[:100]}).encode()
    began = time.perf_counter()
    values.check(body)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    "body", [b"", b"{", b'"', b'"\\', b'"' * 2_000_000, b"," * 400_000, b'\\"' * 700_000 + b"[" * 9]
)
def test_what_is_no_json_is_left_to_those_who_read_it(body: bytes) -> None:
    values.check(body)
