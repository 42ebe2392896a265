"""A batch from upload to output, by the official client."""

from tests.orchestrator.batch import jsonl
from tests.orchestrator.batch.conftest import errors, output, run
from tests.orchestrator.parts import MATH, SQL, Service


async def test_every_line_is_answered_in_the_order_of_the_input(service: Service) -> None:
    lines = [jsonl.chat(f"id-{n}", f"{(SQL, MATH, 'what')[n % 3]} number {n}") for n in range(50)]
    batch = await run(service, jsonl.file(lines), metadata={"for": "the test"})
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (50, 50, 0)
    rows = await output(service, batch)
    assert [row["custom_id"] for row in rows] == [f"id-{n}" for n in range(50)]
    assert [jsonl.said(row) for row in rows][:2] == ["sql heard: sql number 0", "math heard: math number 1"]
    assert await errors(service, batch) == []
