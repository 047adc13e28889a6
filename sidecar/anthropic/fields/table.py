"""The fate of every field of a request, as a table: `python -m sidecar.anthropic.fields.table` prints it for the
README."""

from collections.abc import Iterator, Mapping
from typing import get_args

import msgspec

from sidecar.anthropic.fields import types


def objects() -> dict[str, list[type[msgspec.Struct]]]:
    """The types behind each kind of object, by the name that the tables of fates use."""
    found: dict[str, list[type[msgspec.Struct]]] = {
        "request": [types.MessagesRequest],
        "message": [types.Message],
        "tool": [types.ToolDefinition],
        "tool_choice": [types.ToolChoice],
        "thinking_config": [types.ThinkingConfig],
        "output_config": [types.OutputConfig],
        "output_format": [types.OutputFormat],
    }
    for block in get_args(types.AnyBlock):
        found[str(block.__struct_config__.tag)] = [block]
    return found


def is_left_alone(name: str) -> bool:
    """Whether a kind of block is accepted in history and skipped whole, whatever it holds."""
    return any(issubclass(kind, types.Remote) for kind in objects().get(name, []))


def fates(name: str) -> dict[str, str]:
    """`used`, or `ignored: why`, or `refused: why`, for each known field of one kind of object."""
    known = [field.encode_name for kind in objects()[name] for field in msgspec.structs.fields(kind)]
    used = {field: "used" for field in known if field != "cache_control"}  # it is counted, and has no effect
    ignored = {field: f"ignored: {why}" for field, why in types.IGNORED.get(name, {}).items()}
    refused = {field: f"refused: {why}" for field, why in types.REFUSED.get(name, {}).items()}
    return used | ignored | refused


def markdown() -> str:
    """One line for each kind of object."""
    return "\n".join(["| Object | Used | Ignored, and why | Refused (400), and why |", "|---|---|---|---|", *_rows()])


def _rows() -> Iterator[str]:
    left = [name for name in objects() if is_left_alone(name)]
    for name in objects():
        if name not in left:
            yield f"| `{name}` | {' | '.join(_cells(fates(name)))} |"
    yield f"| {', '.join(f'`{name}`' for name in left)} | | the whole block: the vendor's servers left it | |"


def _cells(table: Mapping[str, str]) -> list[str]:
    cells = []
    for kind in ("used", "ignored", "refused"):
        by_reason: dict[str, list[str]] = {}
        for field, fate in table.items():
            word, _, why = fate.partition(": ")
            if word == kind:
                by_reason.setdefault(why, []).append(f"`{field}`")
        cells.append("; ".join(", ".join(names) + (f" ({why})" if why else "") for why, names in by_reason.items()))
    return cells


def main() -> None:
    print(markdown())


if __name__ == "__main__":
    main()
