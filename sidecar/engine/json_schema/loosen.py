"""A schema that does not compile loses exactly the keywords that do not, and keeps their neighbours.

`Problem` says what is wrong with a schema, or nothing: whoever makes grammars knows.
"""

from collections.abc import Callable, Iterator
from typing import Any

from sidecar.engine.json_schema.keywords import Schema
from sidecar.engine.json_schema.narrowing import WHOLE

Problem = Callable[[Schema], str]

TRIES = 400
"""Schemas that are tried for one tool: some tenths of a second."""
_DROPPED = (
    *("format", "allOf", "multipleOf", "patternProperties", "maxProperties", "minProperties", "maxLength", "minLength"),
    *("exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "maxItems", "minItems", "pattern"),
    *("enum", "items", "prefixItems", "required", "additionalProperties", "anyOf"),
)
"""What is tried without, in this order, where that alone helps: what says least about a value goes first."""
COSTLY = ("pattern", "format", "allOf", "maxLength", "minLength", "multipleOf", "patternProperties")
"""What can make a grammar too large to be followed."""


def compiling(schema: Schema, problem: Problem) -> tuple[Schema, tuple[str, ...]]:
    """The schema without what does not compile, and what that is, each as "where: keyword"."""
    if not problem(schema):
        return schema, ()
    mender = _Mender({"$defs": schema["$defs"]} if "$defs" in schema else {}, problem)
    mender.mend_defs()
    mended = mender.mended({key: value for key, value in schema.items() if key != "$defs"}, "")
    whole = {**(mended if isinstance(mended, dict) else {}), **mender.defs}
    if problem(whole):
        kind = {"type": schema["type"]} if "type" in schema else {}
        return kind, (*mender.loose, WHOLE)
    return whole, tuple(mender.loose)


def without(schema: Any, keywords: tuple[str, ...]) -> Any:
    """The schema without these keywords, however deep."""
    if isinstance(schema, list):
        return [without(part, keywords) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: without(part, keywords) for name, part in value.items()}
        if key in ("properties", "$defs", "patternProperties")
        else value
        if key == "enum"
        else without(value, keywords)
        for key, value in schema.items()
        if key not in keywords
    }


class _Mender:
    def __init__(self, defs: Schema, problem: Problem) -> None:
        self.defs = defs
        self.loose: dict[str, None] = {}
        self._problem = problem
        self._left = TRIES

    def mend_defs(self) -> None:
        """What is referred to comes first: all else is tried beside it."""
        for name, part in list(self.defs.get("$defs", {}).items()):
            if self._fails(part):
                self.defs = {"$defs": {**self.defs["$defs"], name: self.mended(part, name)}}

    def mended(self, schema: Any, path: str) -> Any:
        if not isinstance(schema, dict) or not self._fails(schema):
            return schema
        for keyword, name, part in [*_parts(schema)]:
            step = "[]" if name is None else str(name)
            mended = self.mended(part, f"{path}.{step}" if path else step)
            schema = {**schema, keyword: _replaced(schema[keyword], name, mended)}
        if not self._fails(schema):
            return schema
        for keywords in [*((keyword,) for keyword in _DROPPED), COSTLY]:
            slim = _slim(schema, keywords)
            if len(slim) < len(schema) and not self._fails(slim):
                self._leave(path, [keyword for keyword in schema if keyword not in slim])
                return slim
        self._leave(path, [WHOLE] if not path else [keyword for keyword in schema if keyword != "type"])
        return {"type": schema["type"]} if "type" in schema else True

    def _leave(self, path: str, keywords: list[str]) -> None:
        for keyword in keywords:
            self.loose[f"{path}: {keyword}" if path else keyword] = None

    def _fails(self, schema: Any) -> bool:
        self._left -= 1
        if self._left < 0:
            return True
        if isinstance(schema, bool):
            return not schema
        return bool(self._problem({**schema, **self.defs}))


def _slim(schema: Schema, keywords: tuple[str, ...]) -> Schema:
    slim = {key: value for key, value in schema.items() if key not in keywords}
    if "patternProperties" in schema and "patternProperties" not in slim:
        slim["additionalProperties"] = True  # those that a pattern spoke of
    return slim


def _parts(schema: Schema) -> Iterator[tuple[str, Any, Any]]:
    """Each schema directly below, by its keyword and its name there."""
    for keyword in ("properties", "patternProperties"):
        for name, part in schema.get(keyword, {}).items():
            yield keyword, name, part
    for keyword in ("anyOf", "prefixItems"):
        for index, part in enumerate(schema.get(keyword, ())):
            yield keyword, index, part
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            yield keyword, None, schema[keyword]


def _replaced(parts: Any, name: Any, part: Any) -> Any:
    if name is None:
        return part
    return [*parts[:name], part, *parts[name + 1 :]] if isinstance(parts, list) else {**parts, name: part}
