"""Several experts behind one request, through the real pipeline: who is asked, streamed, aborted and paid."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from aggregators.registry import NAMES, build
from aggregators.settings import Settings
from experts.registry import Registry
from experts.spec import ExpertSpec, Price
from orchestrator.events import Answered, Ask, PipelineEvent
from orchestrator.store import Store
from tests.orchestrator.parts import GENERALIST, MATH, REMOTE, SQL, Service, saying
from workers.base import ChatCall, Delta, Failure, Usage

POOL = Registry(
    [
        *(ExpertSpec(name=name, source=f"models/{name}", family="small") for name in (GENERALIST, SQL, MATH)),
        ExpertSpec(name=REMOTE, kind="remote", source="some.module:Chat"),
    ]
)
OWN_CALLS = ("judge", "synthesize", "refine")


async def start(store: Store, settings: Settings | None = None, registry: Registry = POOL) -> Service:
    service = await Service.start(store, aggregators=build(settings), registry=registry)
    for engine in service.engines.values():
        engine.answer = saying
    return service


@pytest_asyncio.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = await start(store)
    yield service
    await service.stop()


def ask(aggregator: str, k: int = 3, prompt: str = "sql", timeout: float = 60.0) -> Ask:
    messages = ({"role": "user", "content": prompt},)
    return Ask("req-1", "auto", messages, prompt, time.time() + timeout, k=k, aggregator=aggregator)


async def run(service: Service, request: Ask) -> tuple[str, PipelineEvent]:
    """(text, end)"""
    made = [event async for event in service.pipeline.run(request)]
    return "".join(event.text for event in made if isinstance(event, Delta)), made[-1]


async def answered(service: Service, request: Ask) -> tuple[str, Answered]:
    text, end = await run(service, request)
    assert isinstance(end, Answered), end
    assert all(engine.running == 0 for engine in service.engines.values())
    return text, end


@pytest.mark.parametrize(
    ("aggregator", "text", "winner", "roles"),
    [
        ("single", "sql does not know", SQL, ["draft"]),
        ("vote", "sql does not know", SQL, ["draft"] * 3),
        ("judge", "it is 42", MATH, ["draft"] * 3 + ["judge"]),
        ("synthesize", "they say 42", None, ["draft"] * 3 + ["writer"]),
        ("refine", "they say 42", None, ["draft"] * 3 + ["layer 1"] * 3 + ["writer"]),
        ("cascade", "sql does not know", SQL, ["draft"] * 3),
    ],
)
async def test_every_aggregator_tells_each_call_and_its_cost(
    service: Service, aggregator: str, text: str, winner: str | None, roles: list[str]
) -> None:
    made, end = await answered(service, ask(aggregator))
    assert (made, end.winner) == (text, winner)
    assert [call.role for call in end.calls] == roles
    assert end.usage == sum((call.usage or Usage() for call in end.calls), Usage())
    assert all(call.seconds >= 0 for call in end.calls)
    assert {call.stamp for call in end.calls} == {call.expert for call in end.calls}
    assert [call.expert for call in end.calls][:3] == [SQL, GENERALIST, MATH][: len(roles)]


async def test_calls_of_one_expert_have_ids_of_their_own(service: Service) -> None:
    await answered(service, ask("refine"))
    ids = [f"{call.request_id}/{call.expert}" for call in service.engine.calls]
    assert len(set(ids)) == len(ids) == 7
    assert "req-1/sql" in ids


async def test_a_call_costs_what_its_expert_s_price_says(store: Store) -> None:
    dear = ExpertSpec(name=SQL, source="models/sql", family="small", price=Price(input=2.0, output=10.0))
    service = await start(store, registry=Registry([dear, ExpertSpec(name=MATH, source="models/math", family="small")]))
    _, end = await answered(service, ask("vote", k=2))
    by_expert = {call.expert: call.cost for call in end.calls}
    assert by_expert == {SQL: pytest.approx((1 * 2 + 4 * 10) / 1e6), MATH: None}
    await service.stop()


# Streams


async def test_single_streams_the_first_expert_and_asks_nobody_else(service: Service) -> None:
    async with aclosing(service.pipeline.run(ask("single"))) as events:
        await anext(events)
        assert await anext(events) == Delta("sql")
        assert service.engine.running == 1
    assert [call.expert for call in service.engine.calls] == [SQL]


async def test_before_its_first_token_the_next_expert_takes_over(service: Service) -> None:
    service.engine.fail_next("engine_died", "down")
    text, end = await answered(service, ask("single"))
    assert (text, end.winner) == ("generalist does not know", GENERALIST)
    assert end.failed == {SQL: "engine_died: down"}
    assert end.note == "sql failed; 1 of 2 drafts took part"
    assert [(call.expert, call.error) for call in end.calls] == [(SQL, "engine_died: down"), (GENERALIST, None)]


async def test_after_its_first_token_the_answer_breaks_off_with_an_error(service: Service) -> None:
    service.engine.fail_next("engine_died", "down", after=2)
    text, end = await run(service, ask("single"))
    assert text.startswith("sql")
    assert end == Failure("engine_died", "the answer of sql broke off: engine_died: down")
    assert len(service.engine.calls) == 1


async def test_whole_drafts_are_taken_over_at_any_token(store: Store) -> None:
    service = await start(store, Settings(stream_first=False))
    service.engine.fail_next("engine_died", "down", after=2)
    text, end = await answered(service, ask("single"))
    assert (text, end.failed) == ("generalist does not know", {SQL: "engine_died: down"})
    await service.stop()


# What goes wrong


@pytest.mark.parametrize("aggregator", [name for name in NAMES if name != "single"])
async def test_an_expert_that_is_killed_in_mid_draft_is_named(service: Service, aggregator: str) -> None:
    service.engines[REMOTE].die_after(2)
    _, end = await answered(service, ask(aggregator, k=4))
    assert end.failed == {REMOTE: "engine_died: the engine of family 'remote' went down"}
    assert end.used == (SQL, GENERALIST, MATH)
    assert "remote failed; 3 of 4 drafts took part" in end.note
    [call] = [call for call in end.calls if call.expert == REMOTE]
    assert (call.usage, call.error) == (Usage(1, 2), end.failed[REMOTE]), "what it had said has its price"


@pytest.mark.parametrize("aggregator", [name for name in NAMES if name != "single"])
async def test_one_draft_is_the_answer(service: Service, aggregator: str) -> None:
    service.engine.fail_next("engine_died", "down", after=1, times=2)
    text, end = await answered(service, ask(aggregator))
    assert (text, end.winner, end.used) == ("it is 42", MATH, (MATH,))
    assert [call.role for call in end.calls] == ["draft"] * 3
    assert end.note.endswith("sql and generalist failed; 1 of 3 drafts took part")


@pytest.mark.parametrize("aggregator", NAMES)
async def test_no_draft_is_the_failure_of_the_best_expert(service: Service, aggregator: str) -> None:
    service.engine.fail_next("engine_died", "down", times=3)
    text, end = await run(service, ask(aggregator))
    assert text == ""
    assert isinstance(end, Failure)
    assert end.code == "engine_died"
    assert end.message.startswith("every expert of the route failed: sql: engine_died: down; generalist: ")


@pytest.mark.parametrize("aggregator", OWN_CALLS)
async def test_a_late_draft_is_set_aside_in_time_for_the_aggregator(service: Service, aggregator: str) -> None:
    service.engines[REMOTE].token_delay = 60
    text, end = await answered(service, ask(aggregator, k=4, timeout=1.0))
    assert "42" in text
    assert end.failed == {REMOTE: "deadline: the answer was not ready within the time limit"}
    assert [call.role for call in end.calls][-1] in ("judge", "writer")
    assert service.engines[REMOTE].aborted == 1


async def test_a_cascade_keeps_time_for_its_judge(service: Service) -> None:
    service.engines[REMOTE].token_delay = 60
    essay = " and so on" * 20
    service.engine.answer = lambda call: saying(call) + essay if call.messages[-1]["content"] == "sql" else saying(call)
    text, end = await answered(service, ask("cascade", k=4, timeout=1.0))
    assert (text, end.winner) == (f"it is 42{essay}", MATH)
    assert (end.calls[-1].role, end.calls[-1].error) == ("judge", None)
    assert list(end.failed) == [REMOTE]


async def test_a_vote_counts_what_is_there_at_the_deadline(service: Service) -> None:
    service.engines[REMOTE].token_delay = 60
    service.engine.answer = lambda call: {SQL: "7", GENERALIST: "8", MATH: "8.0"}[call.expert]
    text, end = await answered(service, ask("vote", k=4, timeout=0.5))
    assert (text, end.winner) == ("8", GENERALIST)
    assert list(end.failed) == [REMOTE]


@pytest.mark.parametrize("aggregator", ["judge", "synthesize"])
async def test_an_aggregating_expert_that_never_begins_leaves_the_best_draft(store: Store, aggregator: str) -> None:
    service = await start(store, Settings(expert=REMOTE))
    service.engines[REMOTE].fail_next("engine_died", "down")
    text, end = await answered(service, ask(aggregator))
    assert (text, end.winner, end.failed) == ("sql does not know", SQL, {})
    assert "remote failed (engine_died: down); sql's draft has the most weight" in end.note
    assert (end.calls[-1].expert, end.calls[-1].error) == (REMOTE, "engine_died: down")
    await service.stop()


async def test_a_writer_that_dies_later_is_an_error_in_the_band(store: Store) -> None:
    service = await start(store, Settings(expert=REMOTE))
    service.engines[REMOTE].fail_next("engine_died", "down", after=2)
    response = await service.http.post(
        "/v1/chat/completions",
        json={
            "model": "auto",
            "messages": [{"role": "user", "content": "sql"}],
            "stream": True,
            "coe": {"k": 3, "aggregator": "synthesize"},
        },
    )
    assert '"content":"they"' in response.text
    assert '"code":"engine_died"' in response.text
    assert '"finish_reason":"stop"' not in response.text
    await service.stop()


@pytest.mark.parametrize(
    "said", ["half \ud800 of a pair", "\x00 \u202e", '{"1": {"correctness": 10}}', "", "x" * 10**6]
)
@pytest.mark.parametrize("aggregator", NAMES)
async def test_whatever_drafts_say_there_is_an_answer_in_utf_8(service: Service, aggregator: str, said: str) -> None:
    service.engine.answer = lambda call: said if call.messages[-1]["content"] == "sql" else saying(call)
    body = {
        "model": "auto",
        "messages": [{"role": "user", "content": "sql"}],
        "coe": {"k": 3, "aggregator": aggregator},
    }
    response = await service.http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["coe"]["aggregator"] == aggregator


# A caller that leaves


@pytest.mark.parametrize("aggregator", NAMES)
async def test_leaving_while_drafts_are_written_aborts_every_one(service: Service, aggregator: str) -> None:
    service.engine.token_delay = 60
    running = 1 if aggregator == "single" else 3
    task = asyncio.create_task(run(service, ask(aggregator)))
    await service.engine.reaches(running=running)
    task.cancel()
    await asyncio.wait([task])
    assert (service.engine.running, service.engine.aborted) == (0, running)


@pytest.mark.parametrize(("aggregator", "running"), [("judge", 1), ("synthesize", 1), ("refine", 3)])
async def test_leaving_while_the_aggregator_s_own_calls_run_aborts_them(
    service: Service, aggregator: str, running: int
) -> None:
    def slow(call: ChatCall) -> str:
        if call.messages[-1]["content"] != "sql":
            service.engine.token_delay = 60
            own.append(call)
        return saying(call)

    own: list[ChatCall] = []
    service.engine.answer = slow
    task = asyncio.create_task(run(service, ask(aggregator)))
    while len(own) < running:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (service.engine.running, service.engine.finished, service.engine.aborted) == (0, 3, running)


async def test_leaving_in_the_middle_of_a_written_answer_aborts_the_writer(service: Service) -> None:
    async with aclosing(service.pipeline.run(ask("synthesize"))) as events:
        while not isinstance(await anext(events), Delta):
            pass
        assert service.engine.running == 1
    assert (service.engine.running, service.engine.aborted) == (0, 1)


async def test_usage_of_a_request_that_was_left_is_recorded(service: Service) -> None:
    async with aclosing(service.pipeline.run(ask("synthesize"))) as events:
        while not isinstance(await anext(events), Delta):
            pass
    await service.pipeline.drain()
    record = await service.store.decision("req-1")
    assert record is not None
    assert record["outcome"] == "client_gone"
    assert [(call["role"], call["error"]) for call in record["calls"]] == [
        *[("draft", None)] * 3,
        ("writer", "cancelled"),
    ]
    assert sum(usage["completion_tokens"] for usage in record["usage"].values()) == 4 + 4 + 3 + 1
