"""What is wrong with a body, in the API's own words: clients act on them, so they are kept to the letter. Pure."""

import re
from typing import Any, get_args

import msgspec

from sidecar.anthropic.fields.types import AnyBlock
from sidecar.errors import InvalidRequest

_KINDS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "array": "list",
    "object": "dictionary",
    "null": "",
}
"""msgspec's names of JSON's types, and the API's."""
_BOUNDS = {">=": "greater than or equal to", "<=": "less than or equal to", ">": "greater than", "<": "less than"}
_SPECIAL = {".messages` Expected `array` of length >= 1": "at least one message is required"}
_BLOCKS = ", ".join(sorted(f"'{kind.__struct_config__.tag}'" for kind in get_args(AnyBlock)))
_TYPED = ("source", "thinking", "tool_choice", "cache_control")
"""Objects whose type stands in the path behind their name; that of content blocks stands behind their number."""


def invalid(error: msgspec.ValidationError, body: bytes) -> InvalidRequest:
    """A body that is JSON and no request, by the field that is wrong."""
    text, _, path = str(error).partition(" - at `$")
    steps: list[str | int] = [
        int(number) if number else name for number, name in re.findall(r"\[(\d+)\]|([^.\[\]`]+)", path)
    ]
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        text = "Field required"
        steps.append(missing[1])
    where, said = _where(_plain(body), steps), _SPECIAL.get(f"{path} {text}") or _said(text)
    if steps[-1:] == ["role"] and text.startswith("Invalid enum"):
        said = "Input should be 'user' or 'assistant'"
    if steps[-1:] == ["type"] and "content" in steps and said.startswith("Input tag"):
        said = f"{said}: {_BLOCKS}"
    return InvalidRequest(f"{where}: {said}" if where else said)


def not_json(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"The request body is not valid JSON: {error}")


def _plain(body: bytes) -> Any:
    """The body without types; None for one that is nested too deep."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _said(text: str) -> str:
    """msgspec's words as the API's; those that it has no words for stay."""
    if tag := re.fullmatch(r"Invalid (?:enum )?value '(.*)'", text, re.DOTALL):
        return f"Input tag '{tag[1][:64]}' found using 'type' does not match any of the expected tags"
    expected = re.match(r"Expected `([^`]*)`(?: of length)?(?: (>=|<=|>|<) ([\d.]+))?", text)
    if expected is None:
        return text
    kinds, bound, number = expected.groups()
    if bound and " of length" in text:
        return f"Input should have a length {_BOUNDS[bound]} {number}"
    if bound:
        return f"Input should be {_BOUNDS[bound]} {number.removesuffix('.0')}"
    names = [_KINDS.get(kind, kind) for kind in kinds.split(" | ")]
    return f"Input should be a valid {' or '.join(filter(None, names))}"


def _where(value: Any, steps: list[str | int]) -> str:
    """The path to a field, each block's type behind its number."""
    words: list[str] = []
    list_name = ""
    for at, step in enumerate(steps):
        inside = value[step] if _has(value, step) else None
        if step == "type" and at == len(steps) - 1 and inside is not None:
            # It is the type itself that is wrong: the API then names the object alone.
            return ".".join(words[:-1] if words[-1:] == [inside] else words)
        words.append(str(step))
        if isinstance(step, str):
            list_name = step
        words += _type_of(inside, step, list_name, last=at == len(steps) - 1)
        value = inside
    return ".".join(words)


def _type_of(value: Any, step: str | int, list_name: str, last: bool) -> list[str]:
    """What the path says of an object beside its place."""
    if last or not isinstance(value, dict):
        return []
    kind = value.get("type")
    if isinstance(step, int) and list_name == "tools":
        kind = kind or "custom"
    elif not (isinstance(step, int) and list_name in ("content", "system")) and step not in _TYPED:
        return []
    return [kind] if isinstance(kind, str) and re.fullmatch(r"\w{1,64}", kind) else []


def _has(value: Any, step: str | int) -> bool:
    if isinstance(step, int):
        return isinstance(value, list) and step < len(value)
    return isinstance(value, dict) and step in value
