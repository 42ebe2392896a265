"""Bounds on what a body may hold, looked at before anything costly is done with it.

Each function says what is wrong, or None. They take time in proportion to the input, whatever it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import orjson

JSON_DEPTH = 64
"""Lists and objects in one another. A JSON schema of a tool needs some 4 for each level of what it describes."""
JSON_NODES = 50_000
"""Values and keys of a body. A value takes some 100 bytes in memory, thus many times what it takes on the wire."""

# Possessive, and content with an end of the input: no quote is looked at twice, also where a string does not end.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def json_problem(body: bytes, depth: int = JSON_DEPTH, nodes: int = JSON_NODES) -> str | None:
    """Is JSON too deep, or of too many values? It need not be valid: a parser finds that out."""
    # Counted over the strings too, which can only be too much: most bodies are within the bounds all the same.
    if _nodes(body) <= nodes and body.count(b"[") + body.count(b"{") <= depth:
        return None
    bare = _STRING.sub(b"", body)
    if _nodes(bare) > nodes:
        return f"it has more than {nodes:,} values, which is the limit"
    brackets = bare.translate(None, _NO_BRACKET)
    if max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > depth:
        return f"lists and objects are nested deeper than {depth}, which is the limit"
    return None


def _nodes(text: bytes) -> int:
    """At least the number of values and keys in JSON without strings: each of them but one follows one of these."""
    return 1 + text.count(b",") + text.count(b":") + text.count(b"[") + text.count(b"{")


@dataclass(frozen=True, slots=True)
class SchemaBounds:
    """Of a JSON schema that a caller gives, for a tool or for the answer: an engine turns it into a grammar.

    bytes: as JSON. depth: lists and objects in one another. nodes: values and keys. pattern: characters of a regular
    expression. patterns: how many of them.
    """

    bytes: int = 64 << 10
    depth: int = 40
    nodes: int = 5000
    pattern: int = 500
    patterns: int = 50


SCHEMA = SchemaBounds()


def schema_problem(schema: Any, bounds: SchemaBounds = SCHEMA) -> str | None:
    """What a caller's JSON schema has that is not taken. It is not checked against the rules of JSON Schema."""
    if not isinstance(schema, Mapping):
        return "must be a JSON object"
    patterns = nodes = 0
    waiting: list[tuple[Any, int]] = [(schema, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > bounds.depth:
            return f"is nested deeper than {bounds.depth}, which is the limit"
        entries = value.items() if isinstance(value, Mapping) else ((None, inner) for inner in value)
        for key, inner in entries:
            nodes += 1 if key is None else 2
            if nodes > bounds.nodes:
                return f"has more than {bounds.nodes:,} keys and values, which is the limit"
            if key in ("$ref", "$dynamicRef", "$recursiveRef") and (problem := _reference_problem(key, inner)):
                return problem
            if key in ("$id", "$schema") and isinstance(inner, str) and len(inner) > 1000:
                return f"'{key}' has more than 1000 characters"
            if key == "pattern" and isinstance(inner, str):
                patterns += 1
                if len(inner) > bounds.pattern:
                    return f"'pattern' has {len(inner):,} characters; the limit is {bounds.pattern}"
            if key == "patternProperties" and isinstance(inner, Mapping):
                patterns += len(inner)
                if any(len(name) > bounds.pattern for name in inner):
                    return f"a key of 'patternProperties' is over the limit of {bounds.pattern} characters"
            if patterns > bounds.patterns:
                return f"has more than {bounds.patterns} patterns, which is the limit"
            if isinstance(inner, int) and not -(2**63) <= inner < 2**64:
                return "has a whole number of more than 64 bits"
            if isinstance(inner, Mapping | list | tuple):
                waiting.append((inner, depth + 1))
    size = len(orjson.dumps(schema))  # last: by now it is neither deep nor of many parts
    if size > bounds.bytes:
        return f"has {size:,} bytes; the limit is {bounds.bytes:,}"
    return None


def _reference_problem(key: str, target: Any) -> str | None:
    # A property may be called '$ref'; its value is then a schema.
    if isinstance(target, str) and not target.startswith("#"):
        shown = target if len(target) <= 100 else target[:100] + "..."
        return f"'{key}' must lead to a place in the same schema, as in '#/$defs/name'; got {shown!r}"
    return None
