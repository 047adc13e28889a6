"""What a schema excludes, as variants that say so without a `not`; and whether variants exclude each other. Pure."""

from itertools import combinations
from typing import Any

from sidecar.engine.json_schema.keywords import NOT_ENUM, TYPES, Schema, tidy
from sidecar.engine.json_schema.merge import among, merged


def negated(schema: Any) -> list[Schema] | None:
    """Variants of which one holds wherever the schema does not; None where that cannot be put so."""
    if isinstance(schema, bool):
        return [] if schema else [{}]
    words = tidy(schema, lambda keyword: None)
    if "const" in words:
        words["enum"] = words.pop("const")
    found: list[Schema] = []
    for keyword, value in words.items():
        variants = _without(keyword, value)
        if variants is None:
            return None
        found += variants
    return found


def _without(keyword: str, value: Any) -> list[Schema] | None:
    match keyword:
        case "type":
            taken = {*value, *(("integer", "number") if {"integer", "number"} & {*value} else ())}
            others = [name for name in TYPES if name not in taken]
            return [{"type": others}] if others else []
        case "enum":
            return [{NOT_ENUM: value}]
        case "required":
            return [{"properties": {name: False}} for name in value]
        case "properties":
            return _without_properties(value)
        case "anyOf":
            return _without_all(value)
    return None


def _without_properties(properties: Schema) -> list[Schema] | None:
    """One of them is there and something else."""
    found: list[Schema] = []
    for name, part in properties.items():
        variants = negated(part)
        if variants is None:
            return None
        found += [{"properties": {name: variant}, "required": [name]} for variant in variants]
    return found


def _without_all(parts: list[Any]) -> list[Schema] | None:
    found: list[Schema] = [{}]
    for part in parts:
        variants = negated(part)
        if variants is None or len(found) * len(variants) > len(TYPES):
            return None
        pairs = [merged(one, other) for one in found for other in variants]
        found = [pair for pair in pairs if pair is not None]
    return found


def possible(words: Schema) -> bool:
    """Whether nothing is both demanded and forbidden."""
    properties = words.get("properties", {})
    return not any(properties.get(name) is False for name in words.get("required", ()))


def exclusive(choices: list[list[Schema]]) -> bool:
    """Whether no value fits two of the choices, as far as their variants show. Quadratic, so only asked of a few."""
    if len(choices) > 100:
        return False
    return all(_differ(first, second) for one, other in combinations(choices, 2) for first in one for second in other)


def _differ(one: Schema, other: Schema) -> bool:
    both = merged({key: one[key] for key in ("type", "enum") if key in one}, other)
    if both is None or not possible(both):
        return True
    mine, others = one.get("properties", {}), other.get("properties", {})
    # An object that lists its properties gets no others.
    for words, properties in ((one, others), (other, mine)):
        if properties and any(name not in properties for name in words.get("required", ())):
            return True
    told = {*one.get("required", ())} & {*other.get("required", ())}
    return any(_apart(mine.get(name), others.get(name)) for name in told)


def _apart(one: Any, other: Any) -> bool:
    """Whether two properties have no value in common, such as the kinds of two variants."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    first, second = (tidy(part, lambda keyword: None) for part in (one, other))
    for words in (first, second):
        if "const" in words:
            words["enum"] = words["const"]
    if "enum" in first and "enum" in second:
        return not any(among(value, second["enum"]) for value in first["enum"])
    return merged({key: first[key] for key in ("type",) if key in first}, second) is None
