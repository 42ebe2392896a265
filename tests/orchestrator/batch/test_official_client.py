"""Files and batches by OpenAI's own client, over a socket: it takes no answer that does not fit its types."""

import json
import time
from collections.abc import Iterator

import openai
import pytest
from openai.types import Batch

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.store import Store
from tests.orchestrator.batch import jsonl
from tests.orchestrator.batch.conftest import ENDS
from tests.orchestrator.parts import Service
from tests.orchestrator.served import in_background

CONTENT = jsonl.file([jsonl.chat("a", "some sql"), jsonl.chat("b", "math"), "nonsense"])


@pytest.fixture(scope="module")
def client(redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """Of a service that runs batches."""

    async def start() -> Service:
        service = await Service.start(Store(redis_server.url, timeout=30), batch=tmp_path_factory.mktemp("batch"))
        service.run_batches()
        return service

    with (
        in_background(start) as (url, service),
        openai.OpenAI(
            base_url=f"{url}/v1", api_key=service.key, max_retries=0, timeout=60, _strict_response_validation=True
        ) as client,
    ):
        yield client


def create(client: openai.OpenAI, content: bytes = CONTENT, **metadata: str) -> Batch:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=jsonl.CHAT, completion_window="24h", metadata=metadata  # type: ignore[arg-type]
    )  # fmt: skip


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    while batch.status not in ENDS:
        time.sleep(0.02)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_a_file_from_upload_to_deletion(client: openai.OpenAI) -> None:
    made = client.files.create(file=("ümläut.jsonl", CONTENT), purpose="batch")
    assert (made.object, made.bytes, made.purpose, made.status) == ("file", len(CONTENT), "batch", "processed")
    assert made.filename == "ümläut.jsonl"
    assert abs(made.created_at - time.time()) < 60
    assert client.files.retrieve(made.id) == made
    assert made in client.files.list(purpose="batch").data
    assert client.files.content(made.id).read() == CONTENT
    assert client.files.wait_for_processing(made.id) == made
    gone = client.files.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "file")
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(made.id)
    assert caught.value.code == "file_not_found"


def test_a_batch_from_creation_to_its_files(client: openai.OpenAI) -> None:
    made = create(client, purpose="nightly")
    assert (made.object, made.endpoint, made.completion_window) == ("batch", jsonl.CHAT, "24h")
    assert made.metadata == {"purpose": "nightly"}
    assert made.expires_at == made.created_at + 24 * 3600
    assert made.request_counts is not None, "from the beginning"
    batch = ended(client, made)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (3, 2, 1)
    assert batch.output_file_id is not None
    rows = client.files.content(batch.output_file_id).text.splitlines()
    answers = [json.loads(row)["response"]["body"]["usage"] for row in rows]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(usage["prompt_tokens"] for usage in answers) > 0
    assert batch.usage.output_tokens == sum(usage["completion_tokens"] for usage in answers) > 0
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens
    times = (batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    assert None not in times
    assert list(times) == sorted(time for time in times if time is not None)
    assert (batch.failed_at, batch.expired_at, batch.cancelling_at, batch.cancelled_at, batch.errors) == (None,) * 5
    for file_id, count in ((batch.output_file_id, 2), (batch.error_file_id, 1)):
        assert file_id is not None
        assert client.files.retrieve(file_id).purpose == "batch_output"
        assert len(client.files.content(file_id).text.splitlines()) == count


def test_a_batch_that_fails_says_why_in_the_types_own_place(client: openai.OpenAI) -> None:
    batch = ended(client, create(client, b"\n"))
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    [error] = batch.errors.data or []
    assert (error.code, error.line) == ("invalid_file", None)
    assert "no lines" in (error.message or "")


def test_a_batch_is_cancelled_and_has_the_times_of_it(client: openai.OpenAI) -> None:
    many = jsonl.file([jsonl.chat(f"id-{n}", "sql " * 20) for n in range(2000)])
    asked = client.batches.cancel(create(client, many).id)
    assert asked.status in ("cancelling", "cancelled")
    assert asked.cancelling_at is not None
    batch = ended(client, asked)
    assert batch.status == "cancelled"
    assert batch.cancelled_at is not None
    assert batch.cancelled_at >= asked.cancelling_at
    assert client.batches.cancel(batch.id) == batch, "once more changes nothing"


def test_batches_and_files_are_listed_page_by_page(client: openai.OpenAI) -> None:
    made = [create(client).id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)][:5] == made[::-1]
    first = client.batches.list(limit=2)
    assert first.has_more
    assert [batch.id for batch in client.batches.list(limit=2, after=first.data[-1].id).data] == made[1:3][::-1]
    for batch in first:  # one that ends makes files
        ended(client, batch)
    every = [file.id for file in client.files.list()]
    assert [file.id for file in client.files.list(limit=3)] == every
    assert [file.id for file in client.files.list(limit=3, order="asc")] == every[::-1]
    assert {file.purpose for file in client.files.list(purpose="batch_output")} <= {"batch_output"}


def test_what_is_not_there_or_wrong_has_its_class(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as no_batch:
        client.batches.retrieve("batch_none")
    assert no_batch.value.code == "batch_not_found"
    with pytest.raises(openai.NotFoundError) as no_page:
        client.batches.list(after="batch_none")
    assert (no_page.value.code, no_page.value.param) == ("batch_not_found", "after")
    with pytest.raises(openai.NotFoundError) as no_input:
        client.batches.create(input_file_id="file-none", endpoint=jsonl.CHAT, completion_window="24h")  # type: ignore[arg-type]
    assert (no_input.value.code, no_input.value.param) == ("file_not_found", "input_file_id")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.files.create(file=("a", b"x"), purpose="vision")
    assert wrong.value.param == "purpose"


def test_uploads_in_parts_are_told_as_not_there(client: openai.OpenAI) -> None:
    """They are a path of their own, which the service does not have."""
    with pytest.raises(openai.NotFoundError, match="no such path"):
        client.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="batch")
