"""The path of a request without HTTP: what comes out, in which order, and what happens when parts of it fail."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from experts.registry import UnknownExpert
from orchestrator.calls import LocalWorkers
from orchestrator.errors import Overloaded
from orchestrator.events import Answered, Ask, CallMade, PipelineEvent, Routed
from orchestrator.pipeline import not_ready
from orchestrator.store import Store
from tests.orchestrator.parts import GENERALIST, MATH, REGISTRY, REMOTE, SQL, Service, Unheard
from workers.base import ChatCall, Delta, Event, Failure, FailureCode, Sampling, Usage, WorkerStats


def ask(prompt: str = "hello there", *, request_id: str = "req-1", timeout: float = 60, **fields: Any) -> Ask:
    given = {"model": "auto", "messages": ({"role": "user", "content": prompt},), **fields}
    return Ask(request_id=request_id, prompt=prompt, deadline=time.time() + timeout, **given)


async def events(service: Service, request: Ask) -> list[PipelineEvent]:
    return [event async for event in service.pipeline.run(request)]


def text(made: list[PipelineEvent]) -> str:
    return "".join(event.text for event in made if isinstance(event, Delta))


def count(service: Service, metric: str, **labels: str) -> float:
    """The sum over all samples with these labels."""
    return sum(
        sample.value
        for family in service.metrics.registry.collect()
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


class OneWorker:
    """Workers whose one stream is whatever a test makes it."""

    def __init__(self, stream: Callable[[ChatCall], AsyncGenerator[Event, None]]) -> None:
        self._stream = stream

    def generate(self, call: ChatCall) -> AsyncGenerator[Event, None]:
        return self._stream(call)

    async def stats(self) -> dict[str, WorkerStats | str]:
        raise ConnectionError("the cluster is away")


# One expert


async def test_route_then_words_then_the_answer(service: Service) -> None:
    made = await events(service, ask("some sql please", sampling=Sampling(max_tokens=3)))
    routed, answered = made[0], made[-1]
    assert isinstance(routed, Routed)
    assert (routed.route.experts, routed.request_id, routed.candidates) == ((SQL,), "req-1", REGISTRY.names)
    assert text(made) == "sql heard: some"
    assert isinstance(answered, Answered)
    [call] = answered.calls
    assert call == CallMade(SQL, "answer", call.seconds, Usage(3, 3), stamp=SQL)
    assert answered == Answered("length", (call,), winner=SQL, used=(SQL,))
    assert service.engine.calls[-1].sampling == Sampling(max_tokens=3)


async def test_a_named_expert_is_not_routed(service: Service) -> None:
    made = await events(service, ask("some sql please", model=MATH))
    assert isinstance(made[0], Routed)
    assert made[0].route.experts == (MATH,)
    assert made[0].route.router == "named"
    assert service.router.prompts == []


async def test_the_router_reads_what_the_human_asks_for(service: Service) -> None:
    said = ({"role": "user", "content": "some sql please"}, {"role": "user", "content": "Observation: 3 math books"})
    made = await events(service, ask("Observation: 3 math books", messages=said))
    assert isinstance(made[0], Routed)
    assert made[0].route.experts == (SQL,)
    assert service.router.prompts == ["some sql please"]
    assert service.engine.calls[-1].messages == said


async def test_an_unknown_expert_is_told_with_what_may_have_been_meant(service: Service) -> None:
    with pytest.raises(UnknownExpert, match="did you mean 'math'"):
        await events(service, ask(model="maths"))
    assert count(service, "coe_requests_total", expert="none", route="named", outcome="model_not_found") == 1


async def test_a_starting_engine_is_asked_again_until_it_is_up(service: Service) -> None:
    service.engine.fail_next("engine_starting", times=3)
    made = await events(service, ask())
    assert isinstance(made[-1], Answered)
    assert len(service.engine.calls) == 4


async def test_an_engine_that_never_starts_is_an_error_at_the_deadline(service: Service) -> None:
    service.engine.fail_next("engine_starting", "still loading", times=1000)
    assert (await events(service, ask(model=GENERALIST, timeout=1)))[-1] == Failure("engine_starting", "still loading")
    assert 1 < len(service.engine.calls) < 1000


async def test_an_engine_that_died_before_the_first_token_is_asked_once_more(service: Service) -> None:
    service.engine.fail_next("engine_died")
    assert isinstance((await events(service, ask()))[-1], Answered)
    assert len(service.engine.calls) == 2
    service.engine.fail_next("engine_died", "again", times=2)
    assert (await events(service, ask()))[1:] == [Failure("engine_died", "again")]
    assert len(service.engine.calls) == 4


async def test_after_an_engine_has_died_its_start_is_waited_for(service: Service) -> None:
    service.engine.fail_next("engine_died")
    service.engine.fail_next("engine_starting", times=3)
    assert isinstance((await events(service, ask()))[-1], Answered)
    assert len(service.engine.calls) == 5


async def test_near_its_deadline_nothing_is_tried_again(service: Service) -> None:
    service.engine.fail_next("engine_died")
    made = await events(service, ask(model=GENERALIST, timeout=0.005))
    assert isinstance(made[-1], Failure)
    assert len(service.engine.calls) == 1


@pytest.mark.parametrize(
    ("code", "after"),
    [
        ("engine_died", 2),
        *((code, after) for code in ("expert_unavailable", "internal", "invalid_request") for after in (0, 2)),
    ],
)
async def test_other_failures_are_told_and_never_tried_again(service: Service, code: FailureCode, after: int) -> None:
    service.engine.fail_next(code, "bad luck", after=after)
    made = await events(service, ask())
    assert made[-1] == Failure(code, "bad luck")
    assert len(made) == 1 + after + 1
    assert len(service.engine.calls) == 1


async def test_a_start_signal_after_the_first_token_is_no_reason_to_begin_again(service: Service) -> None:
    service.engine.fail_next("engine_starting", "odd", after=1)
    made = await events(service, ask())
    assert made[1:] == [Delta(GENERALIST), Failure("engine_starting", "odd")]
    assert len(service.engine.calls) == 1


async def test_an_answer_with_a_wrong_stamp_is_never_an_answer(service: Service) -> None:
    service.engine.stamp_next(MATH)
    failure = (await events(service, ask("sql")))[-1]
    assert failure == Failure("internal", "routed to sql, computed by math")
    assert count(service, "coe_requests_total", expert=SQL, route="auto", outcome="internal") == 1


async def test_a_silent_worker_is_left_at_the_deadline(service: Service) -> None:
    service.engine.token_delay = 60
    made = await events(service, ask(model=GENERALIST, timeout=1))
    assert made[1:] == [Failure("deadline", "the answer was not ready within the time limit")]
    assert (service.engine.running, service.engine.aborted) == (0, 1)


async def test_a_router_that_hangs_is_left_at_the_deadline(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.router, "route", lambda *_: time.sleep(0.5))
    with pytest.raises(TimeoutError):
        await events(service, ask(timeout=0.05))


async def raising(call: ChatCall) -> AsyncGenerator[Event, None]:
    yield Delta("a")
    raise ZeroDivisionError("a secret of the inside")


async def endless(call: ChatCall) -> AsyncGenerator[Event, None]:
    yield Delta("a")


async def timing_out(call: ChatCall) -> AsyncGenerator[Event, None]:
    yield Delta("a")
    raise TimeoutError


@pytest.mark.parametrize("stream", [raising, endless, timing_out])
async def test_whatever_a_worker_does_a_request_has_an_end(
    service: Service, stream: Callable[[ChatCall], AsyncGenerator[Event, None]]
) -> None:
    service.work_with(OneWorker(stream))
    failure = (await events(service, ask()))[-1]
    assert isinstance(failure, Failure)
    assert failure.code == "internal"
    assert "secret" not in failure.message


async def test_closing_the_pipeline_aborts_the_request_in_the_engine(service: Service) -> None:
    async with aclosing(service.pipeline.run(ask())) as made:
        while not isinstance(await anext(made), Delta):
            pass
        assert service.engine.running == 1
        assert count(service, "coe_requests_in_flight") == 1
    assert (service.engine.running, service.engine.aborted) == (0, 1)
    assert count(service, "coe_requests_in_flight") == 0
    assert count(service, "coe_requests_total", expert=GENERALIST, route="auto", outcome="client_gone") == 1


async def test_cancelling_in_a_silence_aborts_the_request_in_the_engine(service: Service) -> None:
    service.engine.token_delay = 60
    task = asyncio.create_task(events(service, ask()))
    await service.engine.reaches(running=1)
    task.cancel()
    await asyncio.wait([task])
    assert (service.engine.running, service.engine.aborted) == (0, 1)


async def test_more_than_the_limit_is_refused_and_room_is_made_again(store: Store) -> None:
    service = await Service.start(store, concurrent=2)
    running = [service.pipeline.run(ask(request_id=f"req-{n}")) for n in range(2)]
    for one in running:
        await anext(one)
    with pytest.raises(Overloaded, match="2 requests are running"):
        await events(service, ask())
    with pytest.raises(Overloaded):
        await service.pipeline.decide(ask())
    await running[0].aclose()
    assert isinstance((await events(service, ask()))[-1], Answered)
    await running[1].aclose()
    await service.stop()


# Several experts


async def test_drafts_of_several_experts_become_one_answer(service: Service) -> None:
    made = await events(service, ask("sql", k=2))
    answered = made[-1]
    assert text(made) == "[sql heard: sql][generalist heard: sql]"
    assert isinstance(answered, Answered)
    assert answered.usage_by_expert == {SQL: Usage(1, 3), GENERALIST: Usage(1, 3)}
    assert answered.usage == Usage(2, 6)
    assert (answered.winner, answered.used, answered.failed) == (None, (SQL, GENERALIST), {})
    assert [(call.expert, call.role, call.stamp) for call in answered.calls] == [
        (SQL, "draft", SQL),
        (GENERALIST, "draft", GENERALIST),
    ]


async def test_a_missing_draft_is_named_and_does_not_fail_the_request(service: Service) -> None:
    service.work_with(Unheard(service.engines, REGISTRY))
    service.engine.fail_start(SQL, "no weights")
    answered = (await events(service, ask("sql", k=2)))[-1]
    assert isinstance(answered, Answered)
    assert answered.used == (GENERALIST,)
    assert answered.failed == {SQL: "expert_unavailable: expert 'sql': no weights"}


async def test_a_draft_with_a_wrong_stamp_takes_no_part(service: Service) -> None:
    service.engine.stamp_next(MATH)
    answered = (await events(service, ask("sql", k=2)))[-1]
    assert isinstance(answered, Answered)
    assert answered.used == (GENERALIST,)
    assert answered.failed == {SQL: "internal error"}


async def test_no_draft_at_all_is_the_failure_of_the_best_expert(service: Service) -> None:
    service.engine.fail_next("engine_died", "down", times=4)
    failure = (await events(service, ask("sql", k=2)))[-1]
    assert isinstance(failure, Failure)
    assert failure.code == "engine_died"
    assert failure.message == (
        "every expert of the route failed: sql: engine_died: down; generalist: engine_died: down"
    )


async def test_the_caller_chooses_the_aggregator_and_drafts_that_are_not_needed_are_aborted(service: Service) -> None:
    service.engines[REMOTE].token_delay = 60
    request = ask("sql", k=4, aggregator="first")
    made = await events(service, request)
    answered = made[-1]
    assert isinstance(made[0], Routed)
    assert made[0].route.aggregator == "first"
    assert isinstance(answered, Answered)
    assert answered.used == (answered.winner,)
    assert service.engines[REMOTE].aborted == 1
    assert service.engine.running == service.engines[REMOTE].running == 0


async def test_an_aggregator_that_fails_aborts_all_drafts(service: Service) -> None:
    service.engines[REMOTE].token_delay = 60
    with pytest.raises(ZeroDivisionError):
        await events(service, ask("sql", k=4, aggregator="broken"))
    assert service.engine.running == service.engines[REMOTE].running == 0
    assert service.engines[REMOTE].aborted == 1


async def test_closing_the_pipeline_aborts_every_draft(service: Service) -> None:
    service.engine.token_delay = 60
    task = asyncio.create_task(events(service, ask("sql", k=3)))
    await service.engine.reaches(running=3)
    task.cancel()
    await asyncio.wait([task])
    assert (service.engine.running, service.engine.aborted) == (0, 3)


# Records and states


async def test_the_decision_is_recorded_without_a_word_of_prompt_or_answer(service: Service) -> None:
    await events(service, ask("tell sql about Rumpelstiltskin", stream=True))
    await service.pipeline.drain()
    record = await service.store.decision("req-1")
    assert record is not None
    assert record["choices"] == [{"expert": SQL, "weight": 1.0}]
    assert record["usage"] == {SQL: {"prompt_tokens": 4, "completion_tokens": 6, "cached_tokens": 0}}
    assert (record["outcome"], record["winner"], record["used"]) == ("ok", SQL, [SQL])
    assert record["probabilities"] == {"a": 0.75, "b": 0.25}
    assert 0 < record["router_seconds"] <= record["first_token_seconds"] <= record["seconds"]
    assert "Rumpelstiltskin" not in str(record)
    assert "heard" not in str(record)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_first_token_has_a_time_where_somebody_looks_on(service: Service, stream: bool) -> None:
    await events(service, ask("sql", stream=stream))
    await service.pipeline.drain()
    [record] = await service.store.decisions()
    assert (record["first_token_seconds"] is not None) == stream
    assert record["seconds"] > 0


async def test_how_a_request_failed_is_recorded(service: Service) -> None:
    service.engine.fail_next("engine_died", times=2)
    await events(service, ask())
    await service.pipeline.drain()
    [record] = await service.store.decisions()
    assert record["outcome"] == "engine_died"
    assert record["usage"] == {}
    [call] = record["calls"]
    assert (call["role"], call["error"]) == ("answer", "engine_died: scripted failure")


async def test_answers_do_not_need_the_store() -> None:
    service = await Service.start(store := Store("redis://127.0.0.1:1"), key="coe-unused")
    made = await events(service, ask())
    assert isinstance(made[-1], Answered)
    await service.pipeline.drain()
    assert count(service, "coe_decision_records_lost_total") == 1
    await store.close()


async def test_metrics_count_tokens_and_times(service: Service) -> None:
    await events(service, ask("sql", stream=True))
    await events(service, ask("sql", model=SQL))
    for kind, tokens in (("prompt", 2), ("completion", 6), ("cached", 0)):
        assert count(service, "coe_tokens_total", expert=SQL, kind=kind) == tokens
    assert count(service, "coe_requests_total", expert=SQL, route="named", outcome="ok") == 1
    assert count(service, "coe_requests_total", key_class="normal") == 2
    assert count(service, "coe_first_token_seconds_count", expert=SQL) == 1, "nobody looked on at the other one"
    assert count(service, "coe_admission_seconds_count", key_class="normal") == 2
    assert count(service, "coe_router_seconds_count") == 1
    assert count(service, "coe_routed_total", router="keyword") == 1, "the other one was named"
    assert count(service, "coe_route_margin_sum", router="keyword") == 0.5
    assert count(service, "coe_calls_total", expert=SQL, role="answer", outcome="ok") == 2
    for phase in ("queue", "swap", "prefill", "decode"):
        assert count(service, "coe_call_seconds_count", expert=SQL, phase=phase) == 2
    assert count(service, "coe_inter_token_seconds_count", expert=SQL) == 2


async def test_aggregation_is_what_comes_after_the_last_draft_that_was_wanted(service: Service) -> None:
    await events(service, ask("sql", k=3))
    await events(service, ask("sql", k=3, aggregator="first"))
    await events(service, ask("sql"))
    for aggregator in ("joined", "first"):
        assert count(service, "coe_aggregation_seconds_count", aggregator=aggregator) == 1
    assert count(service, "coe_aggregation_seconds_count") == 2


async def test_ready_means_that_every_expert_can_answer(service: Service) -> None:
    assert await service.pipeline.not_ready() == {}
    service.engine.fail_start(SQL, "no weights")
    assert await service.pipeline.not_ready() == {SQL: "failed: no weights"}


def test_why_an_expert_is_not_ready() -> None:
    stats: dict[str, WorkerStats | str] = {"small": WorkerStats("small", {GENERALIST: "disk", SQL: "host"})}
    assert not_ready(REGISTRY, stats) == {MATH: "not loaded yet", REMOTE: "the worker of its family does not run"}
    stats[REMOTE] = "it is starting"
    assert not_ready(REGISTRY, stats)[REMOTE] == "it is starting"


async def test_workers_that_cannot_be_asked_are_not_ready(service: Service) -> None:
    service.work_with(OneWorker(raising))
    assert await service.pipeline.not_ready() == dict.fromkeys(REGISTRY.names, "no answer: ConnectionError")


async def test_local_workers_tell_when_nobody_serves_a_family(service: Service) -> None:
    workers = LocalWorkers({}, REGISTRY)
    [failure] = [event async for event in workers.generate(ChatCall("req-1", SQL, ()))]
    assert failure == Failure("expert_unavailable", "no worker serves the family 'small'")
