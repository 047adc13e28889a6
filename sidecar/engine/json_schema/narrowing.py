"""JSON Schemas, read as narrowly as their authors mean them, and put so that a grammar can be made of them. Pure.

References are followed, parts that hold together are merged, and what holds beside a choice is put into each of its
variants. Only then is it known which properties an object has, so that it can be closed. What no grammar can hold is
left out, and named.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from sidecar.engine.json_schema import negation
from sidecar.engine.json_schema.keywords import DEEPEST, Schema, is_of, is_schema, tidy
from sidecar.engine.json_schema.merge import merged
from sidecar.engine.json_schema.objects import finished_object
from sidecar.engine.json_schema.values import finished_array, finished_values, types_of

WHOLE = "(all of it)"
"""The place of a schema of which nothing is held."""
VARIANTS = 64
"""The most variants that come of two choices beside each other."""
NODES = 20_000
"""Schemas within one that are read: what comes after them may be anything."""
_APPLIED = {
    *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
    *("dependentRequired", "dependentSchemas", "const"),
}


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What the grammar is made of. Whatever it accepts the original does too, but for what is loose."""

    schema: Schema
    loose: tuple[str, ...] = ()
    """What is not held, each as "where: keyword"; a keyword that was no good is not counted."""
    malformed: tuple[str, ...] = ()
    """Keywords that were read as absent, the same way."""


def narrowed(schema: Schema, kind: str = "") -> Narrowed:
    """Read a schema; `kind`: the type that its value has anyway, if it has one."""
    reader = _Reader(schema)
    kinds: Schema = {"type": kind} if kind else {}
    try:
        found = reader.read({"allOf": [schema, kinds]}, "", 0)
    except RecursionError:
        found = False
    if found is False:  # nothing could be written
        return Narrowed(kinds, (*reader.loose, WHOLE), tuple(reader.malformed))
    if isinstance(found, dict) and "$ref" in found:
        found = {"anyOf": [found]}
    defs = {"$defs": reader.defs} if reader.defs else {}
    return Narrowed({**({} if found is True else found), **defs}, tuple(reader.loose), tuple(reader.malformed))


class _Reader:
    """One schema with all that it refers to."""

    def __init__(self, root: Schema) -> None:
        self.loose: dict[str, None] = {}
        self.malformed: dict[str, None] = {}
        self.defs: dict[str, Any] = {}
        self._root = root
        self._names: dict[str, str] = {}
        """Of what was referred to, by what it says: what refers to itself is met again there."""
        self._followed = self._circles = 0
        self._left = NODES
        self._targets: dict[str, list[Schema]] = {}
        """The variants of what was referred to, where no circle was met on the way."""

    def read(self, schema: Any, path: str, depth: int) -> Any:
        """The schema as a grammar can have it; True = anything, False = nothing."""
        if self._is_beyond(path, depth):
            return True
        followed = self._followed
        variants = self._flat(schema, path, (), depth)
        if self._followed == followed:
            return self._finished(variants, path, depth)
        key = json.dumps(variants)
        if key not in self._names:
            name = self._names[key] = f"r{len(self._names)}"
            self.defs[name] = {}  # what refers to itself meets it before it is finished
            self.defs[name] = self._finished(variants, path, depth)
        name = self._names[key]
        return {"$ref": f"#/$defs/{name}"} if isinstance(self.defs[name], dict) else self.defs[name]

    def _is_beyond(self, path: str, depth: int) -> bool:
        self._left -= 1
        if depth <= DEEPEST and self._left >= 0:
            return False
        self._leave(path, "what lies so deep" if depth > DEEPEST else "so large a schema")
        return True

    # Variants: merged keywords, without any that hold together or choose

    def _flat(self, schema: Any, path: str, refs: tuple[str, ...], depth: int) -> list[Schema]:
        if isinstance(schema, bool):
            return [{}] if schema else []
        if self._is_beyond(path, depth):
            return [{}]
        words = tidy(schema, lambda keyword: self.malformed.setdefault(_at(path, keyword)))
        found: list[Schema] = [self._own(words, path)]
        for part in self._parts(words, path, refs, depth + 1):
            found = self._product(found, part, path)
        return [_settled(variant) for variant in found]

    def _own(self, words: Schema, path: str) -> Schema:
        own = {keyword: value for keyword, value in words.items() if keyword not in _APPLIED}
        if "const" in words:
            own["enum"] = words["const"]
        if "enum" in own and "type" in own:
            if fitting := [value for value in own["enum"] if is_of(value, own["type"])]:
                own["enum"] = fitting
            else:  # both are meant, and only the values can be
                self._leave(path, "type")
                del own["type"]
        return own

    def _parts(self, words: Schema, path: str, refs: tuple[str, ...], depth: int) -> Iterator[list[Schema]]:
        """Everything else that holds, each as its variants."""
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in words:
                yield self._referred(words[keyword], path, refs, depth)
        for part in words.get("allOf", ()):
            yield self._flat(part, path, refs, depth)
        for keyword in ("anyOf", "oneOf"):
            if keyword in words:
                choices = [self._flat(part, path, refs, depth) for part in words[keyword]]
                if keyword == "oneOf" and not negation.exclusive(choices):
                    self._leave(path, "oneOf")
                yield _each_once([variant for choice in choices for variant in choice])
        if "not" in words:
            yield self._negated(words["not"], path, "not")
        if "if" in words and ("then" in words or "else" in words):
            yield self._conditional(words, path, refs, depth)
        for name, needed in words.get("dependentRequired", {}).items():
            yield [{"properties": {name: False}}, {"required": [name, *needed]}]
        for name, part in words.get("dependentSchemas", {}).items():
            with_it = self._product([{"required": [name]}], self._flat(part, path, refs, depth), path)
            yield [{"properties": {name: False}}, *with_it]

    def _referred(self, ref: str, path: str, refs: tuple[str, ...], depth: int) -> list[Schema]:
        self._followed += 1
        target = _target(self._root, ref)
        if target is None or ref in refs:
            self._circles += 1
            self.malformed[_at(path, f"$ref {ref!r}")] = None
            return [{}]
        if ref not in self._targets:
            circles = self._circles
            variants = self._flat(target, path, (*refs, ref), depth)
            if self._circles != circles:
                return variants
            self._targets[ref] = variants
        return self._targets[ref]

    def _conditional(self, words: Schema, path: str, refs: tuple[str, ...], depth: int) -> list[Schema]:
        yes = self._flat(words["if"], path, refs, depth)
        no = self._negated(words["if"], path, "if")
        then = self._flat(words.get("then", True), path, refs, depth)
        other = self._flat(words.get("else", True), path, refs, depth)
        return [*self._product(yes, then, path), *self._product(no, other, path)]

    def _negated(self, schema: Any, path: str, keyword: str) -> list[Schema]:
        found = negation.negated(schema)
        if found is None:
            self._leave(path, keyword)
            return [{}]
        return found

    def _product(self, one: list[Schema], other: list[Schema], path: str) -> list[Schema]:
        if min(len(one), len(other)) > 1 and len(one) * len(other) > VARIANTS:
            self._leave(path, "so many combinations")
            return one
        pairs = [merged(first, second) for first in one for second in other]
        return _each_once([pair for pair in pairs if pair is not None and negation.possible(pair)])

    # What is written of a variant

    def _finished(self, variants: list[Schema], path: str, depth: int) -> Any:
        parts = _each_once([self._variant(variant, path, depth) for variant in variants])
        parts = [part for part in parts if part is not False]
        if not parts or any(part is True for part in parts):
            return bool(parts)
        return parts[0] if len(parts) == 1 else {"anyOf": parts}

    def _variant(self, words: Schema, path: str, depth: int) -> Any:
        def read(part: Any, name: str) -> Any:
            return self.read(part, f"{path}.{name}" if path else name, depth + 1)

        def leave(keyword: str) -> None:
            self._leave(path, keyword)

        types = types_of(words)
        result = finished_values(words, types, leave)
        if result is False:
            return False
        if "enum" in result:
            return result
        if not types or "array" in types:
            result |= finished_array(words, read, leave)
        if types and "object" not in types:
            return result or True
        found = finished_object(words, read, leave)
        if found is False:
            others = [each for each in types or [] if each != "object"]
            return {**result, "type": others} if others else False
        return _joined(result, found) or True

    def _leave(self, path: str, keyword: str) -> None:
        self.loose[_at(path, keyword)] = None


def _each_once(parts: list[Any]) -> list[Any]:
    return list({json.dumps(part): part for part in parts}.values()) if len(parts) > 1 else parts


def _settled(words: Schema) -> Schema:
    """What a schema says of properties and items that nothing else in it speaks of, as it is said of all others: what
    it is merged with is not looked at any more."""
    words = dict(words)
    for keyword, others in (("unevaluatedProperties", "additionalProperties"), ("unevaluatedItems", "items")):
        if keyword in words:
            words.setdefault(others, words.pop(keyword))
            words.pop(keyword, None)
    return words


def _joined(result: Schema, found: Schema) -> Schema:
    """An object's own variants, if it has some, with all the rest in each."""
    if "anyOf" not in found:
        return {**result, **found}
    return {"anyOf": [{**result, **each} for each in found["anyOf"]]}


def _at(path: str, keyword: str) -> str:
    return f"{path}: {keyword}" if path else keyword


def _target(root: Schema, ref: str) -> Any:
    """What a reference within the document points to; None where there is nothing."""
    if not ref.startswith("#"):
        return next((each for each in _defs(root) if each.get("$id", each.get("id")) == ref), None)
    if ref[1:] and not ref.startswith("#/"):
        return next(
            (each for each in _defs(root) if ref[1:] in (each.get("$anchor"), each.get("$dynamicAnchor"))), None
        )
    found: Any = root
    for step in ref[2:].split("/") if len(ref) > 1 else ():
        step = _unescaped(step)
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list):
            found = found[int(step)] if step.isdigit() and len(step) < 9 and int(step) < len(found) else None
    return found if is_schema(found) else None


def _defs(root: Schema) -> Iterator[Schema]:
    yield root
    for keyword in ("$defs", "definitions"):
        if isinstance(parts := root.get(keyword), dict):
            yield from (part for part in parts.values() if isinstance(part, dict))


def _unescaped(step: str) -> str:
    return unquote(step).replace("~1", "/").replace("~0", "~")
