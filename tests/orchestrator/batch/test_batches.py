"""A batch from upload to output, by the official client."""

import asyncio
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import openai
import pytest
from redis import Redis

from aggregators.registry import make
from aggregators.settings import Settings
from orchestrator.batch.jobs import Caller
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.ensembles import Ensemble
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from tests.orchestrator.batch import jsonl
from tests.orchestrator.batch.conftest import create, ended, errors, output, run, running, until
from tests.orchestrator.parts import BATCH, GENERALIST, MATH, SQL, Service
from workers.base import ChatCall

FIVE = [jsonl.chat(f"id-{n}", f"sql {n}") for n in range(5)]
SLOW = [jsonl.chat(f"id-{n}", f"sql {n}") for n in range(200)]


async def test_every_line_is_answered_in_the_order_of_the_input(service: Service) -> None:
    lines = [jsonl.chat(f"id-{n}", f"{(SQL, MATH, 'what')[n % 3]} number {n}") for n in range(50)]
    batch = await run(service, jsonl.file(lines), metadata={"for": "the test"})
    assert batch.status == "completed"
    assert batch.metadata == {"for": "the test"}
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (50, 50, 0)
    assert None not in (batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    rows = await output(service, batch)
    assert [row["custom_id"] for row in rows] == [f"id-{n}" for n in range(50)]
    assert [jsonl.said(row) for row in rows][:2] == ["sql heard: sql number 0", "math heard: math number 1"]
    assert len({row["id"] for row in rows}) == 50
    assert batch.error_file_id is None


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/v1/chat/completions", {"model": SQL, "messages": [{"role": "user", "content": "hi"}], "n": 2}),
        ("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "some math"}]}),
        ("/v1/chat/completions", {"model": "auto", "messages": [{"role": "user", "content": "hi"}], "coe": {"k": 2}}),
        ("/v1/chat/completions", {"model": SQL, "messages": [{"role": "user", "content": "word " * 60}]}),
        ("/v1/completions", {"model": SQL, "prompt": "once upon", "max_tokens": 3}),
        ("/v1/responses", {"model": MATH, "input": "what is it", "instructions": "be short"}),
        ("/v1/embeddings", {"model": "auto", "input": ["a", "b"]}),
    ],
)
async def test_an_answer_is_that_of_the_endpoint(
    store: Store, tmp_path: Path, url: str, body: dict[str, object]
) -> None:
    service = await Service.start(store, batch=tmp_path, encoder=HashEncoder(8))
    direct = await service.http.post(url, json=body)
    batch = await run(service, jsonl.file([jsonl.line("a", body, url)]), url)
    [row] = await output(service, batch) + await errors(service, batch)
    assert row["response"]["status_code"] == direct.status_code
    assert _lasting(row["response"]["body"]) == _lasting(direct.json())
    usage = row["response"]["body"].get("usage") if direct.status_code == 200 else None
    assert batch.usage is not None
    assert batch.usage.total_tokens == (usage["total_tokens"] if usage else 0)
    await service.stop()


def _lasting(body: object) -> object:
    """Without what differs between any two requests."""
    if isinstance(body, dict):
        own = ("id", "created", "created_at", "request_id", "seconds", "phases", "router_seconds", "call_id")
        return {key: _lasting(value) for key, value in body.items() if key not in own}
    return [_lasting(value) for value in body] if isinstance(body, list) else body


async def test_what_a_batch_makes_ends_when_that_was_asked_for(service: Service) -> None:
    expiry = {"output_expires_after": {"anchor": "created_at", "seconds": 7200}}
    batch = await run(service, jsonl.file([*FIVE, "bad"]), extra_body=expiry)
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    for file_id in (batch.output_file_id, batch.error_file_id):
        file = await service.openai.files.retrieve(file_id)
        assert file.expires_at == file.created_at + 7200
    assert (await service.openai.files.retrieve(batch.input_file_id)).expires_at is None


@pytest.mark.parametrize(
    "expiry", [{"anchor": "created_at", "seconds": 3599}, {"anchor": "now", "seconds": 3600}, {"seconds": 3600}, 3600]
)
async def test_no_other_expiry_is_taken(service: Service, expiry: object) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await create(service, jsonl.file(FIVE), extra_body={"output_expires_after": expiry})
    assert "output_expires_after" in (refused.value.param or "")


# The plan


async def test_each_expert_has_one_turn(service: Service) -> None:
    """As the engine of both sees it: a turn is a stretch of calls to one expert."""
    lines = [jsonl.chat(f"id-{n}", f"{(SQL, MATH, 'what')[n % 3]} {n}") for n in range(90)]
    await run(service, jsonl.file(lines))
    turns = [expert for expert, _ in groupby(call.expert for call in service.engine.calls)]
    assert sorted(turns) == sorted({GENERALIST, SQL, MATH})


async def test_two_runners_share_the_turn_of_an_expert(service: Service, store: Store, tmp_path: Path) -> None:
    lines = [jsonl.chat(f"id-{n}", f"{(SQL, MATH)[n % 2]} {n}") for n in range(120)]
    other = await Service.start(store, key="none", batch=tmp_path / "home")
    order: list[str] = []

    def answer(call: ChatCall) -> str:
        order.append(call.expert)
        return "done"

    for own in (service, other):
        own.engine.answer, own.engine.token_delay = answer, 0.001
    batch = await create(service, jsonl.file(lines))
    async with running(service), running(other):
        done = await ended(service, batch.id)
    assert len(await output(service, done)) == 120
    assert len([expert for expert, _ in groupby(order)]) == 2
    assert service.engine.finished > 0 < other.engine.finished
    await other.stop()


async def test_files_and_results_may_lie_where_fsspec_says(store: Store, tmp_path: Path) -> None:
    config = BATCH.model_copy(update={"files_url": f"file://{tmp_path}/shared"})
    service = await Service.start(store, batch=tmp_path / "home", batch_config=config)
    batch = await run(service, jsonl.file([*SLOW[:40], "bad"]))
    assert [row["custom_id"] for row in await output(service, batch)] == [f"id-{n}" for n in range(40)]
    assert [row["error"]["line"] for row in await errors(service, batch)] == [41]
    assert (tmp_path / "shared" / "files").is_dir()
    await service.stop()


async def test_a_dry_run_tells_the_plan_and_asks_nobody(service: Service) -> None:
    lines = [jsonl.chat(f"id-{n}", f"{(SQL, MATH)[n % 2]} {n}") for n in range(30)]
    batch = await run(service, jsonl.file(lines), extra_body={"coe": {"dry_run": True}})
    plan = (batch.model_extra or {})["coe"]["plan"]
    assert batch.status == "completed"
    assert (plan["loads"], plan["distinct_experts"]) == (2, 2)
    assert [(group["expert"], group["steps"]) for group in plan["groups"]] == [(MATH, 15), (SQL, 15)]
    assert batch.output_file_id is None
    assert not service.engine.calls


async def test_drafts_of_an_ensemble_come_expert_by_expert_and_then_one_answer(store: Store, tmp_path: Path) -> None:
    ensemble = Ensemble(
        "ensemble/two", 2, make("judge", Settings(expert=GENERALIST)), experts=(SQL, MATH), expert=GENERALIST
    )
    service = await Service.start(store, batch=tmp_path, ensembles=[ensemble])
    service.engine.answer = lambda call: f"{call.expert} says {call.messages[-1]['content'][-3:]}"
    lines = [jsonl.chat(f"id-{n}", f"which of them {n:03}", "ensemble/two") for n in range(20)]
    batch = await run(service, jsonl.file(lines))
    rows = await output(service, batch)
    assert len(rows) == 20
    for n, row in enumerate(rows):
        assert jsonl.said(row) in (f"{SQL} says {n:03}", f"{MATH} says {n:03}")
        assert row["response"]["body"]["coe"]["used"] == [SQL, MATH]
    turns = [expert for expert, _ in groupby(call.expert for call in service.engine.calls)]
    assert sorted(turns[:2]) == [MATH, SQL]
    assert turns[2:] == [GENERALIST]
    assert len(service.engine.calls) == 60  # no draft was made twice
    await service.stop()


async def test_what_a_line_of_several_experts_used_counts_once_and_is_one_request(store: Store, tmp_path: Path) -> None:
    ensemble = Ensemble(
        "ensemble/two", 2, make("judge", Settings(expert=GENERALIST)), experts=(SQL, MATH), expert=GENERALIST
    )
    service = await Service.start(store, batch=tmp_path, ensembles=[ensemble])
    line = jsonl.chat("id", "which of them", "ensemble/two")
    [row] = await output(service, await run(service, jsonl.file([line])))
    usage = row["response"]["body"]["usage"]

    def counted(name: str) -> dict[tuple[str, ...], float]:
        """Values of labels -> value, of those that are not 0."""
        return {
            tuple(sample.labels.values()): sample.value
            for family in service.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name and sample.value
        }

    assert counted("coe_calls_total") == {
        (SQL, "draft", "ok"): 1,
        (MATH, "draft", "ok"): 1,
        (GENERALIST, "judge", "ok"): 1,
    }
    tokens = counted("coe_tokens_total")
    assert sum(tokens.values()) == usage["total_tokens"]
    assert {labels[2:] for labels in tokens} == {("ensemble", "batch")}
    assert list(counted("coe_requests_total").values()) == [1]
    await service.pipeline.recorded()
    listed = (await service.http.get("/v1/routes")).json()["data"]
    assert [own["id"] for own in listed] == [row["response"]["request_id"]]
    [record] = await store.decisions()
    assert [call["role"] for call in record["calls"]] == ["draft", "draft", "judge"]
    await service.stop()


# What goes wrong, and what is taken back


async def test_a_line_that_fails_for_a_while_is_tried_again(service: Service) -> None:
    service.engine.fail_next("internal", times=2)
    batch = await run(service, jsonl.file(FIVE))
    assert len(await output(service, batch)) == 5
    assert len(service.engine.calls) == 7


async def test_a_line_that_always_fails_is_an_error_and_stops_no_other(service: Service) -> None:
    service.engine.fail_start(MATH, "no weights")
    batch = await run(service, jsonl.file([*FIVE, jsonl.chat("dead", "hi", MATH)]))
    assert batch.status == "completed"
    assert len(await output(service, batch)) == 5
    [row] = await errors(service, batch)
    assert row["custom_id"] == "dead"
    assert (row["response"]["status_code"], row["response"]["body"]["error"]["code"]) == (503, "expert_unavailable")
    assert [call.expert for call in service.engine.calls].count(MATH) == 3


async def test_a_routed_line_goes_elsewhere_when_its_expert_is_down(service: Service) -> None:
    service.engine.fail_start(MATH, "no weights")
    batch = await run(service, jsonl.file([jsonl.chat("a", "some math")]))
    [row] = await output(service, batch)
    assert row["response"]["body"]["model"] != MATH


async def test_a_cancelled_batch_keeps_what_is_done_and_tells_the_rest(service: Service) -> None:
    service.engine.token_delay = 0.02
    batch = await create(service, jsonl.file(SLOW))
    client = service.openai
    async with running(service):

        async def begun() -> bool:
            counts = (await client.batches.retrieve(batch.id)).request_counts
            return counts is not None and counts.completed > 0

        await until(begun)
        assert (await client.batches.cancel(batch.id)).status == "cancelling"
        done = await ended(service, batch.id)
    assert done.status == "cancelled"
    good, bad = await output(service, done), await errors(service, done)
    assert good
    assert {row["custom_id"] for row in good + bad} == {f"id-{n}" for n in range(200)}
    assert len(good) + len(bad) == 200
    assert {row["error"]["code"] for row in bad} == {"batch_cancelled"}
    assert len(service.engine.calls) < 200


async def test_a_batch_that_is_over_its_time_ends_with_what_it_has(service: Service) -> None:
    assert service.batches is not None
    service.engine.token_delay = 0.02
    file = await service.openai.files.create(file=("in.jsonl", jsonl.file(SLOW)), purpose="batch")
    key = await service.keys.verify(service.key)
    name, caller = service.batches.files.name(key.lineage, file.id), Caller(key.lineage, key.name, key.grant)
    job = await service.batches.jobs.create(caller, "/v1/chat/completions", file.id, name, window_s=1.0)
    async with running(service):
        done = await ended(service, job.made.id)
    assert done.status == "expired"
    good, bad = await output(service, done), await errors(service, done)
    assert len(good) + len(bad) == len(SLOW)
    assert {row["error"]["code"] for row in bad} == {"batch_expired"}


async def test_what_was_done_before_is_not_done_again(service: Service) -> None:
    service.engine.token_delay = 0.01
    batch = await create(service, jsonl.file([jsonl.chat(f"id-{n}", f"sql {n}") for n in range(60)]))
    async with running(service):
        await until(lambda: _finished(service, 20))
    begun, whole = len(service.engine.calls), service.engine.finished
    assert begun < 60
    async with running(service):
        done = await ended(service, batch.id)
    assert len(await output(service, done)) == 60
    assert service.engine.finished <= 60 + (begun - whole)
    assert len(service.engine.calls) == 60 + service.engine.aborted


async def test_a_redis_that_lost_everything_costs_no_answer(
    service: Service, store: Store, redis_server: EmbeddedRedis
) -> None:
    service.engine.token_delay = 0.01
    batch = await create(service, jsonl.file([jsonl.chat(f"id-{n}", f"sql {n}") for n in range(60)]))
    async with running(service):
        await until(lambda: _finished(service, 20))
    aborted = service.engine.aborted
    keys = await store.all_keys()
    with Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.flushall()
        client.connection_pool.disconnect()
    for digest, info in keys.items():
        await store.put_key(digest, info)
    async with running(service):
        done = await ended(service, batch.id)
    assert done.status == "completed"
    assert len(await output(service, done)) == 60
    assert service.engine.finished == 60
    assert len(service.engine.calls) == 60 + aborted


async def test_other_requests_have_the_engine_almost_to_themselves(service: Service) -> None:
    service.engine.token_delay = 0.01
    await create(service, jsonl.file([jsonl.chat(f"id-{n}", f"sql {n}") for n in range(200)]))
    client = service.openai
    async with running(service):
        await service.engine.reaches(4)  # all that the batch may have
        service.engine.answer = lambda call: "word " * (400 if call.messages[-1]["content"] == "online" else 1)
        asked = asyncio.create_task(
            client.chat.completions.create(model=SQL, messages=[{"role": "user", "content": "online"}])
        )
        await service.engine.reaches(2)  # the request, and a quarter of the batch's four
        seen = []
        for _ in range(20):
            await asyncio.sleep(0.005)
            seen.append(service.engine.running)
        assert max(seen) == 2
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await service.engine.reaches(4)
    assert {call.priority for call in service.engine.calls} == {0, 10_000}


# Whose it is


async def test_a_batch_ends_with_its_key(service: Service) -> None:
    service.engine.token_delay = 0.02
    batch = await create(service, jsonl.file(SLOW))
    async with running(service):
        await until(lambda: _finished(service, 4))
        await service.keys.revoke("test")
        assert service.batches is not None
        jobs = service.batches.jobs

        async def is_over() -> bool:
            return (await jobs.get(batch.id)).status == "cancelled"

        await until(is_over)
    assert service.engine.finished < len(SLOW)


async def test_another_key_knows_nothing_of_it(service: Service) -> None:
    batch = await run(service, jsonl.file(FIVE))
    assert batch.output_file_id is not None
    mine = service.openai
    service.key, _ = await service.keys.create("other")
    others = service.openai
    with pytest.raises(openai.NotFoundError, match="there is no batch"):
        await others.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError, match="there is no batch"):
        await others.batches.cancel(batch.id)
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        await others.files.content(batch.output_file_id)
    with pytest.raises(openai.NotFoundError, match="there is no file"):
        await others.batches.create(
            input_file_id=batch.input_file_id, endpoint="/v1/chat/completions", completion_window="24h"
        )
    assert [own.id for own in (await others.batches.list()).data] == []
    assert [own.id for own in (await mine.batches.list()).data] == [batch.id]


async def test_batches_are_listed_page_by_page_the_newest_first(service: Service) -> None:
    made = [(await create(service, jsonl.file(FIVE))).id for _ in range(5)]
    client = service.openai
    assert [own.id async for own in client.batches.list(limit=2)] == made[::-1]


async def test_a_key_has_so_many_batches_at_a_time(store: Store, tmp_path: Path) -> None:
    service = await Service.start(store, batch=tmp_path, batch_config=BATCH.model_copy(update={"per_key": 2}))
    await create(service, jsonl.file(FIVE))
    await create(service, jsonl.file(FIVE))
    with pytest.raises(openai.RateLimitError, match="2 batches of this API key are under way"):
        await create(service, jsonl.file(FIVE))
    await service.stop()


async def test_a_key_may_name_in_a_batch_what_it_may_name_elsewhere(service: Service) -> None:
    grant = (await service.keys.verify(service.key)).grant
    service.key, _ = await service.keys.create("scoped", replace(grant, experts=(SQL,)))
    batch = await run(service, jsonl.file([jsonl.chat("a", "hi", SQL), jsonl.chat("b", "hi", MATH)]))
    assert [row["custom_id"] for row in await output(service, batch)] == ["a"]
    [row] = await errors(service, batch)
    assert row["error"]["code"] == "model_not_found"


async def _finished(service: Service, lines: int) -> bool:
    return service.engine.finished >= lines
