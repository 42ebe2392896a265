"""A gateway takes its coe.yaml anew while it answers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from orchestrator.plans import TooFewCores
from orchestrator.store import Store
from tests.orchestrator.applying_parts import Live, yaml
from workers.fake_engine import FakeEngine

BEFORE = yaml("one /m/1", "two /m/2 10")
NOTHING: dict[str, Any] = {
    "object": "configuration", "dry_run": False, "added": [], "removed": [], "replaced": [], "changed": [],
    "needs_restart": [], "new_engines": [], "notes": [],
}  # fmt: skip


@pytest_asyncio.fixture
async def live(store: Store, redis_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    live = await Live.start(store, redis_url, tmp_path, BEFORE)
    yield live
    await live.stop()


async def test_without_a_change_nothing_changes(live: Live) -> None:
    assert await live.take(BEFORE) == NOTHING


async def test_an_expert_is_added_and_answers(live: Live) -> None:
    told = await live.take(yaml("one /m/1", "two /m/2 10", "three /m/3"))
    assert told == {**NOTHING, "added": ["three"]}
    answer = await live.ask("three")
    assert answer.choices[0].message.content.startswith("three heard:")
    assert {model.id for model in (await live.openai.models.list()).data} == {"auto", "one", "two", "three"}


async def test_a_family_is_added_and_its_first_call_waits_for_its_engine(live: Live) -> None:
    told = await live.take(yaml("one /m/1", "two /m/2 10", "alone /m/4"))
    assert told == {**NOTHING, "added": ["alone"], "changed": ["families.g"]}
    assert (await live.ask("alone")).choices[0].message.content.startswith("alone heard:")


async def long_call(live: Live, model: str) -> "asyncio.Task[Any]":
    """Under way by the time that this returns, for about a second."""
    task = asyncio.create_task(live.ask(model, words=400))
    engine = live.fleet.running["f"]._engine
    assert isinstance(engine, FakeEngine)
    await engine.reaches(1)
    return task


async def test_an_expert_that_is_removed_is_no_model_any_more_and_its_calls_end(live: Live) -> None:
    await live.take(yaml("one /m/1", "two /m/2"))
    call, old = await long_call(live, "two"), live.gateway.site
    assert await live.take(yaml("one /m/1")) == {**NOTHING, "removed": ["two"]}
    with pytest.raises(openai.NotFoundError, match="'two'"):
        await live.ask("two")
    assert not call.done()
    assert live.fleet.deployed[-1] == {"f": ("one", "two")}  # as long as somebody may ask it
    assert (await call).usage.completion_tokens == 402
    await live.old_ended(old)
    assert live.fleet.deployed[-1] == {"f": ("one",)}


async def test_under_load_no_request_fails_and_each_answer_is_of_one_version(live: Live) -> None:
    done: list[tuple[str, int]] = []

    async def ask(model: str) -> None:
        for _ in range(15):
            answer = await live.ask(model, words=20)
            done.append((model, answer.usage.completion_tokens))

    load = [asyncio.create_task(ask(model)) for model in ("one", "one", "two", "two", "auto")]
    for number in range(1, 5):
        await asyncio.sleep(0.05)
        told = await live.take(yaml("one /m/1", f"two /m/2v{number} {10 + number}", f"x{number} /m/x"))
        assert told["replaced"] == ["two"]
    await asyncio.gather(*load)
    assert len(done) == 75
    assert {tokens for model, tokens in done if model != "two"} == {22}
    assert {tokens for model, tokens in done if model == "two"} <= {10, 11, 12, 13, 14}
    assert (await live.ask("two", words=20)).usage.completion_tokens == 14


async def test_what_an_expert_says_of_itself_changes_without_its_weights(live: Live) -> None:
    told = await live.take(yaml("one /m/1", "two /m/2 12"))
    assert told == {**NOTHING, "changed": ["experts.two"]}
    assert (await live.ask("two", words=20)).usage.completion_tokens == 12


async def test_other_settings_of_a_family_take_a_new_engine_and_are_told(live: Live) -> None:
    told = await live.take(BEFORE.replace("fake_token_delay: 0.002", "fake_token_delay: 0.003"))
    assert told == {**NOTHING, "changed": ["families.f.engine_args"], "new_engines": ["f"]}


async def test_limits_and_router_change_at_once(live: Live) -> None:
    more = "limits: {max_tokens: 7, per_key: {requests_per_minute: 1}}\n"
    told = await live.take(BEFORE.replace("fallback: one", "fallback: two") + more)
    assert set(told["changed"]) == {"router.fallback", "limits.max_tokens", "limits.per_key.requests_per_minute"}
    with pytest.raises(openai.BadRequestError, match="7"):
        await live.ask("one", max_tokens=8)
    assert (await live.ask("auto")).model == "two"
    with pytest.raises(openai.RateLimitError):
        await live.ask("one")


async def test_what_only_a_restart_can_change_is_told_and_stays(live: Live) -> None:
    more = "limits: {concurrent_requests: 1, max_tokens: 9}\nserver: {port: 9999}\n"
    more += "batch: {lines: 5}\ntraces: {sample: 0.5}\n"
    told = await live.take(BEFORE + more)
    assert set(told["needs_restart"]) == {"limits.concurrent_requests", "server.port", "batch.lines", "traces.sample"}
    assert told["changed"] == ["limits.max_tokens"]
    config = live.gateway.site.config
    assert (config.limits.concurrent_requests, config.server.port) == (256, None)
    assert config.limits.max_tokens == 9
    # It is told again until it is so.
    assert set((await live.apply()).json()["needs_restart"]) == set(told["needs_restart"])


async def test_a_dry_run_tells_and_changes_nothing(live: Live) -> None:
    before = live.gateway.site
    live.path.write_text(yaml("one /m/1b", "three /m/3"))
    answer = (await live.apply(dry_run=True)).json()
    assert answer == {**NOTHING, "dry_run": True, "added": ["three"], "removed": ["two"], "replaced": ["one"]}
    assert live.gateway.site is before
    assert len(live.fleet.deployed) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BEFORE.replace("fallback: one", "fallback: nobody"), "coe.yaml:5: router.fallback: "),
        (BEFORE.replace("kind: fixed", "kinds: fixed"), "unknown key 'kinds'"),
        (BEFORE + "aggregation: {profile: no-such-folder}\n", "aggregation.profile: there is no profile in"),
        ("experts: [", "coe.yaml:"),
    ],
)
async def test_a_file_that_cannot_be_used_changes_nothing(live: Live, text: str, told: str) -> None:
    before = live.gateway.site
    live.path.write_text(text)
    for dry_run in (True, False):
        answer = await live.apply(dry_run=dry_run)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (422, "invalid_configuration")
        assert error["type"] == "invalid_request_error"
        assert told in error["message"]
    assert live.gateway.site is before
    assert len(live.fleet.deployed) == 1
    assert (await live.ask("two")).usage.completion_tokens == 7


async def test_a_machine_without_room_for_it_changes_nothing(live: Live) -> None:
    live.fleet.full = TooFewCores("the families want 9 CPU cores")
    live.path.write_text(yaml("one /m/1", "alone /m/4"))
    answer = await live.apply()
    assert answer.status_code == 422
    assert "9 CPU cores" in answer.json()["error"]["message"]
    assert live.fleet.deployed == [{"f": ("one", "two")}]


async def test_workers_that_cannot_be_told_leave_everything_as_it_is(live: Live, monkeypatch: Any) -> None:
    before = live.gateway.site
    live.path.write_text(yaml("one /m/1", "three /m/3"))
    with monkeypatch.context() as patch:
        patch.setattr(live.fleet, "deploy", lambda *_: 1 / 0)
        assert (await live.apply()).status_code == 500
    assert live.gateway.site is before
    assert (await live.ask("two")).usage.completion_tokens == 7
    assert (await live.apply()).json()["added"] == ["three"]


async def test_it_is_for_admins_alone_and_takes_nothing_else(live: Live) -> None:
    assert (await live.apply(key=live.plain)).status_code == 403
    answer = await live.apply(path="/etc/passwd")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_parameter")
    async with live.http() as http:
        assert (await http.post("/admin/v1/apply")).status_code == 200
        document = (await http.get("/openapi.json")).json()
    assert {"200", "403", "422"} <= document["paths"]["/admin/v1/apply"]["post"]["responses"].keys()


async def test_changes_one_after_the_other_end_all_that_was_before_them(live: Live) -> None:
    await live.take(yaml("one /m/1", "two /m/2"))
    call, first = await long_call(live, "two"), live.gateway.site
    await live.take(yaml("one /m/1"))
    second = live.gateway.site
    await live.take(yaml("one /m/1", "three /m/3"))
    assert live.fleet.deployed[-1] == {"f": ("one", "three", "two")}
    await live.old_ended(second)
    assert "two" in live.fleet.deployed[-1]["f"]
    assert (await call).usage.completion_tokens == 402
    await live.old_ended(first)
    assert live.fleet.deployed[-1] == {"f": ("one", "three")}


async def test_a_gateway_that_serves_stays_one_that_is_sent_requests(live: Live) -> None:
    async with live.http() as http:
        assert (await http.get("/health/serving")).status_code == 200
        await live.take(yaml("one /m/1", "two /m/2 10", "alone /m/4"))
        assert (await http.get("/health/serving")).status_code == 200


async def test_workers_of_somebody_else_are_left_to_them(live: Live) -> None:
    live.fleet.owner = None
    assert (await live.take(yaml("one /m/1", "three /m/3")))["added"] == ["three"]
    assert len(live.fleet.deployed) == 1
    with pytest.raises(openai.InternalServerError) as caught:
        await live.ask("three")
    assert caught.value.code == "expert_unavailable"


async def test_a_batch_goes_on_and_lines_for_an_expert_that_is_gone_end_as_errors(live: Live) -> None:
    await live.take(yaml("one /m/1", "two /m/2"))
    lines: list[dict[str, Any]] = [
        {
            "custom_id": f"{model}-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": "word " * 30}]},
        }
        for model in ("one", "two")
        for number in range(60)
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    client = live.openai
    uploaded = await client.files.create(file=("lines.jsonl", data), purpose="batch")
    batch = await client.batches.create(
        input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    async with asyncio.timeout(60):
        while not (await client.batches.retrieve(batch.id)).request_counts.completed:  # type: ignore[union-attr]
            await asyncio.sleep(0.02)
    assert (await live.take(yaml("one /m/1b")))["removed"] == ["two"]
    async with asyncio.timeout(60):
        while (batch := await client.batches.retrieve(batch.id)).status != "completed":
            await asyncio.sleep(0.05)
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    answers, errors = [
        [json.loads(line) for line in (await client.files.content(file)).text.splitlines()]
        for file in (batch.output_file_id, batch.error_file_id)
    ]
    assert sorted(line["custom_id"] for line in (*answers, *errors)) == sorted(line["custom_id"] for line in lines)
    assert {line["response"]["body"]["error"]["code"] for line in errors} == {"model_not_found"}
    assert {line["custom_id"].split("-")[0] for line in errors} == {"two"}


async def test_which_records_are_kept_changes_at_once(live: Live) -> None:
    told = await live.take(BEFORE + "records: {content: true}\n")
    assert told["changed"] == ["records.content"]
    answer = await live.ask("one")
    await live.gateway.site.pipeline.recorded()
    request_id = "req-" + answer.id.removeprefix("chatcmpl-")
    kept = await live.gateway._shared.store.decision(request_id)
    assert kept is not None
    assert kept["prompt"]


# Who looks on


async def watching(live: Live, http: Any, last: str = "") -> "asyncio.Task[Any]":
    """A stream of events, which is an answer once it has ended."""
    headers = {"last-event-id": last} if last else {}
    before = live.gateway.site.feed.readers
    task = asyncio.create_task(http.get("/v1/events", headers=headers))
    while live.gateway.site.feed.readers == before:
        await asyncio.sleep(0.005)
    return task


async def seen(live: Live, swaps: int) -> None:
    """Waits until who looks on was told of so many."""
    async with asyncio.timeout(30):
        while live.gateway.site.feed.history.number < swaps:
            await asyncio.sleep(0.005)


async def test_who_looks_on_is_told_to_come_back_and_misses_nothing(live: Live) -> None:
    async with live.http() as http:
        stream, old = await watching(live, http), live.gateway.site
        await live.ask("one")
        await seen(live, 1)
        await live.take(yaml("one /m/1", "two /m/2 10", "three /m/3"))
        told = (await stream).text
        assert "another configuration" in told.rpartition("event: end")[2]
        await live.old_ended(old)
        await live.ask("three")
        last = told.rpartition("id: ")[2].partition("\n")[0]
        again = await watching(live, http, last)
        await seen(live, 2)
        live.gateway.end_streams()
        told = (await again).text
        assert '"image":"three"' in told
        assert '"image":"one"' not in told
        assert "event: lost" not in told
        assert "the service stops" in told.rpartition("event: end")[2]
