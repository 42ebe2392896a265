"""The examples, run as their readers run them: as programs, with the service in the environment."""

from pathlib import Path

import pytest

from orchestrator.embedded_redis import EmbeddedRedis
from tests.client.conftest import serving
from tests.client.programs import ROOT, run
from tests.orchestrator.batch.conftest import running

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("client_*.py"))

SAID = {
    "client_async": ["sql and math answered"],
    "client_batch": ["1 experts, 1 loads", "completed: 20 of 20", "adds 9 to a column? -> sql heard: Which SQL adds 9"],
    "client_chat": ["sql heard: Which SQL lists", "[sql] the word stands there"],
    "client_embeddings": ["hash-16: how to count rows of a table"],
    "client_ensemble": ["would ask sql, math: the word", "[sql heard: Is SQL math?]", "  draft of math: done, 0 USD"],
    "client_errors": ["generalist heard: hello", "no such model: 404 model_not_found: "],
    "client_langchain": ["sql heard: Which SQL counts users?", "the word stands there", "sql| heard:|"],
    "client_many": ["10 of 10, 0 failed", "adds 9 to a column? -> sql heard: Which SQL adds 9"],
    "client_stream": ["sql heard: Name three uses of SQL", "sql: 7 tokens"],
    "client_responses": ["weather({'city': 'Rome'})\nsql heard: sunny, 22 degrees\n[sql] stop"],
    "client_structured": ["Mira Stone: 0171 223344"],
    "client_testing": ["passed"],
    "client_tools": ["weather({'city': 'Rome'})\nsql heard: sunny, 22 degrees"],
}
"""What each prints with the fake engines of tests/orchestrator/parts.py."""


@pytest.mark.parametrize("example", SAID)
async def test_an_example_does_what_it_says(redis: EmbeddedRedis, tmp_path: Path, example: str) -> None:
    async with serving(redis, batch=tmp_path) as served, running(served.service):
        said = await run(example, served.url, served.service.key)
    for text in SAID[example]:
        assert text in said


def test_every_example_is_run_and_short() -> None:
    assert sorted(SAID) == EXAMPLES
    for example in EXAMPLES:
        lines = (ROOT / "examples" / f"{example}.py").read_text().splitlines()
        assert 10 <= len(lines) <= 30, example
