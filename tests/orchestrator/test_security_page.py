"""docs/security.md tells the bounds that hold."""

from pathlib import Path

import pytest

from orchestrator.config.limits import Limits
from orchestrator.http.connection import LINGER_S
from orchestrator.http.guards import METHODS, Bounds
from orchestrator.http.shapes import JSON_DEPTH, JSON_NODES, SCHEMA

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
BOUNDS, LIMITS = Bounds(), Limits()
KIB = 1024


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        ("open connections", f"`limits.connections` ({LIMITS.connections})"),
        ("open connections", f"{BOUNDS.spare} above it"),
        ("silence", f"{BOUNDS.head_s:g} s from opening to the first head, {BOUNDS.idle_s} s between requests"),
        ("head that drips", f"{BOUNDS.head_s:g} s"),
        ("size of a head", f"{(BOUNDS.header_bytes + BOUNDS.path_bytes) // KIB} KiB"),
        ("pipelined requests", f"{BOUNDS.pipelined} that wait"),
        ("client that does not read its answer", f"{BOUNDS.stall_s:g} s"),
        ("body that nobody reads", f"{LINGER_S:g} s"),
        ("number and size of headers", f"{BOUNDS.headers}, {BOUNDS.header_bytes // KIB} KiB"),
        ("path and query", f"{BOUNDS.path_bytes // KIB} KiB"),
        ("method", ", ".join(METHODS)),
        ("size", f"`limits.body_bytes` ({LIMITS.body_bytes // KIB**2} MiB)"),
        ("time to arrive", f"`limits.body_s` ({LIMITS.body_s:g} s)"),
        ("JSON", f"{JSON_DEPTH} levels, {JSON_NODES:,} values"),
        (
            "JSON schemas of tools and answers",
            f"{SCHEMA.bytes // KIB} KiB, {SCHEMA.depth} levels, {SCHEMA.nodes:,} keys",
        ),
        ("JSON schemas of tools and answers", f"{SCHEMA.patterns} patterns of {SCHEMA.pattern} characters"),
    ],
)
def test_a_bound(guard: str, told: str) -> None:
    [row] = [line for line in PAGE.splitlines() if line.startswith((f"| {guard} |", f"| {guard} ("))]
    assert told in row


def test_the_bounds_of_the_configuration_are_those_of_the_server() -> None:
    assert (BOUNDS.connections, BOUNDS.body_s) == (LIMITS.connections, LIMITS.body_s)


def test_the_page_says_what_is_not_covered() -> None:
    assert "\n## Not covered\n" in PAGE
