"""Two schemas that hold of one value become one schema. Pure; for keywords that `keywords.tidy` has read.

What two say of one property or of all items stays side by side, as an `allOf`, until it is read in its turn.
"""

from fractions import Fraction
from math import lcm
from typing import Any

from sidecar.engine.json_schema.keywords import NOT_ENUM, Schema

_LOWEST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains")
_HIGHEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains")
SUMMED = "x-summed"
"""Ours, for an object that was closed and has got properties all the same."""
_BOTH = ("items", "contains", "propertyNames")


def merged(one: Schema, other: Schema) -> Schema | None:
    """What holds of a value of which both hold; None where nothing can."""
    result = {**one, **{keyword: value for keyword, value in other.items() if keyword not in one}}
    for keyword in one.keys() & other.keys():
        if keyword in _LOWEST:
            result[keyword] = min(one[keyword], other[keyword])
        elif keyword in _HIGHEST:
            result[keyword] = max(one[keyword], other[keyword])
        elif keyword in _BOTH:
            result[keyword] = both(one[keyword], other[keyword])
    if "type" in one and "type" in other:
        result["type"] = _common_types(one["type"], other["type"])
    if "enum" in one and "enum" in other:
        result["enum"] = [value for value in one["enum"] if among(value, other["enum"])]
    if not all(result.get(keyword, True) for keyword in ("type", "enum")):
        return None
    if NOT_ENUM in one and NOT_ENUM in other:
        result[NOT_ENUM] = [*one[NOT_ENUM], *other[NOT_ENUM]]
    if "multipleOf" in one and "multipleOf" in other:
        result["multipleOf"] = _common_step(one["multipleOf"], other["multipleOf"])
    for keyword in ("pattern", "format"):
        if keyword in one and keyword in other:
            result[keyword] = _each_once(one[keyword], other[keyword])
    if required := list(dict.fromkeys([*one.get("required", ()), *other.get("required", ())])):
        result["required"] = required
    _merge_items(result, one, other)
    _merge_properties(result, one, other)
    return result


def both(one: Any, other: Any) -> Any:
    """The schema that says what both do."""
    if one is False or other is False:
        return False
    parts: list[Any] = []
    for part in (one, other):
        inner = part["allOf"] if isinstance(part, dict) and [*part] == ["allOf"] else [part]
        parts += [each for each in inner if each not in (True, {}) and each not in parts]
    return parts[0] if len(parts) == 1 else {"allOf": parts} if parts else True


def _common_types(one: list[str], other: list[str]) -> list[str]:
    def has(types: list[str], name: str) -> bool:
        return name in types or (name == "integer" and "number" in types)

    return [name for name in dict.fromkeys([*one, *other]) if has(one, name) and has(other, name)]


def among(value: Any, values: list[Any]) -> bool:
    """As JSON compares: true is not 1."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


def _common_step(one: Any, other: Any) -> Any:
    a, b = Fraction(str(one)), Fraction(str(other))
    common = Fraction(lcm(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)
    return int(common) if common.denominator == 1 else float(common)


def _each_once(one: Any, other: Any) -> Any:
    """Patterns are lists once there are two."""
    texts = [*(one if isinstance(one, list) else [one]), *(other if isinstance(other, list) else [other])]
    found = list(dict.fromkeys(texts))
    return found[0] if len(found) == 1 else found


def _merge_items(result: Schema, one: Schema, other: Schema) -> None:
    if "prefixItems" not in result:
        return
    first, second = one.get("prefixItems", []), other.get("prefixItems", [])
    length = max(len(first), len(second))

    def at(schema: Schema, items: list[Any], index: int) -> Any:
        return items[index] if index < len(items) else schema.get("items", True)

    result["prefixItems"] = [both(at(one, first, index), at(other, second, index)) for index in range(length)]


def _merge_properties(result: Schema, one: Schema, other: Schema) -> None:
    """What one says of all other properties holds of those that the other one lists."""
    if "additionalProperties" in one and "additionalProperties" in other:
        result["additionalProperties"] = both(one["additionalProperties"], other["additionalProperties"])
    for keyword in ("properties", "patternProperties"):
        if keyword in one or keyword in other:
            first, second = one.get(keyword, {}), other.get(keyword, {})
            result[keyword] = {
                name: both(_said(one, keyword, name), _said(other, keyword, name)) for name in {**first, **second}
            }
    for name in result.get("required", ()):
        # Forbidden by one and demanded by the other: an author who closes a base and then adds to it means the sum.
        listed = [part["properties"][name] for part in (one, other) if name in part.get("properties", {})]
        if result.get("properties", {}).get(name) is False and False not in listed:
            result["properties"][name] = both(listed[0], listed[-1])
            result[SUMMED] = True


def _said(schema: Schema, keyword: str, name: str) -> Any:
    if name in schema.get(keyword, {}):
        return schema[keyword][name]
    # A property that a pattern speaks of is not one of the others; which one that is, is not asked here.
    return (
        True
        if keyword == "patternProperties" or "patternProperties" in schema
        else schema.get("additionalProperties", True)
    )
