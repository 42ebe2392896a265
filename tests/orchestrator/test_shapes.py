"""Bounds on what a body may hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.http.shapes import (
    JSON_DEPTH,
    SchemaBounds,
    json_problem,
    schema_problem,
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def test_depth_is_bounded_to_the_level() -> None:
    assert json_problem(json.dumps(nested(JSON_DEPTH)).encode()) is None
    told = json_problem(json.dumps(nested(JSON_DEPTH + 1)).encode())
    assert told == "lists and objects are nested deeper than 64, which is the limit"


def test_values_are_bounded() -> None:
    assert json_problem(b"[" + b"0," * 48 + b"0]", nodes=50) is None
    assert json_problem(b"[" + b"0," * 50 + b"0]", nodes=50) == "it has more than 50 values, which is the limit"


def test_what_stands_in_strings_does_not_count() -> None:
    text = json.dumps({"content": '[{"a": "b, c, d\\\\"}, ' * 10_000}).encode()
    assert json_problem(text, depth=2, nodes=10) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(json_values, st.integers(1, 6), st.booleans())
def test_depth_is_that_of_the_parsed_value(value: Any, limit: int, ascii_only: bool) -> None:
    told = json_problem(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace"), depth=limit)
    assert (told is not None) == (depth_of(value) > limit)


@given(st.binary(), st.integers(0, 3), st.integers(0, 9))
def test_any_bytes_will_do(body: bytes, depth: int, nodes: int) -> None:
    assert json_problem(body, depth, nodes) is None or isinstance(json_problem(body, depth, nodes), str)


@pytest.mark.parametrize("pattern", [b'"', b'\\"', b'"\\', b"[", b'["', b'{"":', b"\\", b'"a', b"[]", b'\\\\"'])
@pytest.mark.timeout(120)  # some milliseconds each; a search that goes back over its input takes hours
def test_no_input_takes_more_than_its_length(pattern: bytes) -> None:
    assert json_problem(b'"' + pattern * ((8 << 20) // len(pattern)), depth=-1, nodes=-1) is not None


# JSON schemas


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}},
        {"$defs": {"node": {"$ref": "#/$defs/node"}}, "$ref": "#/$defs/node"},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^[a-z]+$"},
        {"enum": ["a"] * 1000},
    ],
)
def test_schemas_that_are_taken(schema: Any) -> None:
    assert schema_problem(schema) is None


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ([], "must be a JSON object"),
        ("{}", "must be a JSON object"),
        (nested(41), "nested deeper than 40"),
        ({"enum": list(range(5001))}, "more than 5,000 keys and values"),
        ({"description": "x" * 70_000}, "bytes; the limit is 65,536"),
        ({"$ref": "http://169.254.169.254/latest/meta-data"}, "must lead to a place in the same schema"),
        ({"properties": {"a": {"items": [{"$ref": "file:///etc/passwd"}]}}}, "must lead to a place in the same schema"),
        ({"$dynamicRef": "other.json#/a"}, "must lead to a place in the same schema"),
        ({"$ref": ""}, "must lead to a place in the same schema"),
        ({"pattern": "(a+)+" * 200}, "'pattern' has 1,000 characters; the limit is 500"),
        ({"patternProperties": {"x" * 501: {}}}, "over the limit of 500 characters"),
        ({"anyOf": [{"pattern": "a"}] * 51}, "more than 50 patterns"),
        ({"patternProperties": {str(number): {} for number in range(51)}}, "more than 50 patterns"),
        ({"maximum": 2**64}, "a whole number of more than 64 bits"),
        ({"enum": [-(2**63) - 1]}, "a whole number of more than 64 bits"),
        ({"$id": "x" * 1001}, "'$id' has more than 1000 characters"),
    ],
)
def test_schemas_that_are_not(schema: Any, told: str) -> None:
    problem = schema_problem(schema)
    assert problem
    assert told in problem
    assert len(problem) < 300


def test_a_schema_of_any_depth_is_looked_at_without_recursion() -> None:
    assert schema_problem(nested(100_000), SchemaBounds(depth=10**6, nodes=1000)) is not None


# Stop strings
