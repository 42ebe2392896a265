"""The examples, run as their readers run them: as programs, with the service in the environment."""

import json

import pytest

from coe_client.testing import KEY, Reply, Request, answered
from tests.client.conftest import Served
from tests.client.programs import ROOT, answering, run

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("client_*.py"))

SAID = {
    "client_async": ["sql and math answered"],
    "client_chat": ["sql heard: Which SQL lists", "[sql] the word stands there"],
    "client_ensemble": ["would ask sql, math: the word", "[sql heard: Is SQL math?]", "  draft of math: done, 0 USD"],
    "client_errors": ["generalist heard: hello", "no such model: 404 model_not_found: "],
    "client_langchain": ["sql heard: Which SQL counts users?", "the word stands there", "sql| heard:|"],
    "client_many": ["10 of 10, 0 failed", "adds 9 to a column? -> sql heard: Which SQL adds 9"],
    "client_stream": ["sql heard: Name three uses of SQL", "sql: 7 tokens"],
    "client_testing": ["passed"],
}
"""What each prints with the fake engines of tests/orchestrator/parts.py."""


@pytest.mark.parametrize("example", SAID)
async def test_an_example_does_what_it_says(served: Served, example: str) -> None:
    said = await run(example, served.url, served.service.key)
    for text in SAID[example]:
        assert text in said


# The fake engines call no tools and keep to no form, so a model of a few lines plays that part.


def with_a_tool(request: Request) -> Reply:
    heard = request.json["messages"][-1]
    if heard["role"] == "tool":
        return answered(request, f"It is {heard['content']}.")
    [tool] = request.json["tools"]
    return answered(request, tool_calls=[(tool["function"]["name"], {"city": "Rome"})])


def in_form(request: Request) -> Reply:
    fields = request.json["response_format"]["json_schema"]["schema"]["required"]
    return answered(request, json.dumps(dict(zip(fields, ("Mira Stone", "0171 223344"), strict=True))))


async def test_the_example_of_tools_runs_the_tool_and_goes_on() -> None:
    with answering(with_a_tool) as url:
        assert await run("client_tools", url, KEY) == "weather({'city': 'Rome'})\nIt is sunny, 22 degrees.\n"


async def test_the_example_of_a_form_reads_it() -> None:
    with answering(in_form) as url:
        assert await run("client_structured", url, KEY) == "Mira Stone: 0171 223344\n"


def test_every_example_is_run_and_short() -> None:
    assert sorted([*SAID, "client_tools", "client_structured"]) == EXAMPLES
    for example in EXAMPLES:
        lines = (ROOT / "examples" / f"{example}.py").read_text().splitlines()
        assert 10 <= len(lines) <= 30, example
