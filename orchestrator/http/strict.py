"""`strict`: true of a JSON schema: that it is one of those with which OpenAI guarantees that the answer fits.

An answer is bound to its schema here in any case; `strict` lets a schema be told as wrong that another service of this
protocol would refuse, or would read another way. See "Supported schemas" in OpenAI's guide to structured outputs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

NOT_ALLOWED = ("allOf", "not", "dependentRequired", "dependentSchemas", "if", "then", "else")
LEVELS = 10
"""Of objects and lists in one another."""


def strict_problem(schema: Mapping[str, Any]) -> str | None:
    """What `strict` does not allow in this schema, with its place; None for nothing. It must have passed
    `shapes.schema_problem`, which bounds its size."""
    if schema.get("type") != "object":
        return "its outermost type must be 'object'"
    waiting: list[tuple[str, Any, int]] = [("", schema, 0)]
    while waiting:
        where, value, level = waiting.pop()
        if not isinstance(value, Mapping):
            continue  # a schema that is no schema is the engine's to tell
        at = f"at '{where[:100]}' " if where else ""
        if found := next((key for key in NOT_ALLOWED if key in value), None):
            return f"{at}it has '{found}', which is not allowed"
        kinds = value.get("type")
        is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds) or "properties" in value
        if is_object and (problem := _object_problem(value)):
            return f"{at}{problem}"
        level += is_object or kinds == "array"
        if level > LEVELS:
            return f"{at}it is nested deeper than {LEVELS} levels"
        waiting += [(f"{where}.{key}" if where else key, own, level) for key, own in _inner(value)]
    return None


def _object_problem(value: Mapping[str, Any]) -> str | None:
    if value.get("additionalProperties") is not False:
        return "an object needs 'additionalProperties': false"
    properties, required = value.get("properties", {}), value.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        return None
    missing = [name for name in properties if name not in required]
    return f"'required' must have every property; {missing[0][:64]!r} is missing" if missing else None


def _inner(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in ("properties", "$defs", "definitions"):
        if isinstance(own := value.get(key), Mapping):
            yield from ((f"{key}.{name}", schema) for name, schema in own.items())
    if "items" in value:
        yield "items", value["items"]
    for key in ("anyOf", "oneOf", "prefixItems"):
        if isinstance(own := value.get(key), list):
            yield from ((f"{key}[{index}]", schema) for index, schema in enumerate(own))
