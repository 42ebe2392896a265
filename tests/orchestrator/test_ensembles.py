"""Ensembles as callers meet them: model names under which several experts answer."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from aggregators.registry import make
from aggregators.settings import Settings, best_seat
from aggregators.synthesize import Synthesize
from orchestrator.ensembles import Ensemble
from orchestrator.routing import Tenant
from orchestrator.store import Store
from routers.policies.budget import Budget
from tests.orchestrator.chat_parts import USER
from tests.orchestrator.parts import AGGREGATORS, GENERALIST, MATH, REGISTRY, REMOTE, SQL, KeywordRouter, Service

TRIO = Ensemble("ensemble/trio", 3, AGGREGATORS["joined"], (SQL, MATH, GENERALIST), description="Three for one.")
PAIR = Ensemble("ensemble/pair", 2, AGGREGATORS["first"])
FRUGAL = Ensemble("ensemble/frugal", 4, AGGREGATORS["joined"], budget=Budget(calls=3))


@pytest_asyncio.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, ensembles=[TRIO, PAIR, FRUGAL])
    yield service
    await service.stop()


async def coe(service: Service, model: str, **options: Any) -> dict[str, Any]:
    answer = await service.openai.chat.completions.create(
        model=model, messages=[USER], extra_body={"coe": {"explain": True, **options}}
    )
    assert answer.model_extra is not None
    field: dict[str, Any] = answer.model_extra["coe"]
    return field


def asked(service: Service) -> list[str]:
    return sorted(call.expert for engine in service.engines.values() for call in engine.calls)


async def test_its_experts_answer_together(service: Service) -> None:
    answer = await service.openai.chat.completions.create(model=TRIO.model, messages=[USER])
    text = "some sql please"
    assert answer.choices[0].message.content == f"[sql heard: {text}][generalist heard: {text}][math heard: {text}]"
    assert answer.model == TRIO.model
    assert answer.usage is not None
    assert answer.usage.total_tokens == 24
    assert answer.model_extra is not None
    told = answer.model_extra["coe"]
    assert (told["experts"], told["aggregator"]) == ([SQL, GENERALIST, MATH], "joined")
    assert sum(usage["total_tokens"] for usage in told["usage_by_expert"].values()) == 24
    assert asked(service) == [GENERALIST, MATH, SQL]


async def test_without_experts_the_router_chooses_among_all(service: Service) -> None:
    told = await coe(service, PAIR.model)
    assert (told["experts"], told["aggregator"]) == ([SQL, GENERALIST], "first")
    assert told["explain"]["candidates"] == list(REGISTRY.names)


async def test_route_tells_who_would_answer(service: Service) -> None:
    body = {"model": TRIO.model, "prompt": "some math"}
    route = (await service.http.post("/v1/route", json=body)).json()
    assert (route["model"], route["experts"]) == (TRIO.model, [MATH, GENERALIST, SQL])
    assert asked(service) == []


async def test_a_request_may_take_experts_away(service: Service) -> None:
    told = await coe(service, TRIO.model, deny=[MATH])
    assert (told["experts"], told["used"]) == ([SQL, GENERALIST], [SQL, GENERALIST])
    assert "2 experts answer, not 3: no others may or can" in told["note"]
    alone = await coe(service, TRIO.model, include=[MATH, REMOTE])
    assert (alone["experts"], alone["aggregator"]) == ([MATH], "single")
    assert alone["note"] == "one expert answers, so there is nothing for joined to do"
    with pytest.raises(openai.BadRequestError) as caught:
        await coe(service, TRIO.model, allow=[REMOTE])
    assert caught.value.code == "no_expert_allowed"


async def test_more_experts_than_there_are_is_told(service: Service) -> None:
    told = await coe(service, "auto", k=8, aggregator="joined")
    assert len(told["used"]) == 4
    assert "4 experts answer, not 8: no others may or can" in told["note"]


async def test_an_expert_without_a_seat_may_write(store: Store) -> None:
    aggregator = make("synthesize", Settings(expert=GENERALIST))
    pair = Ensemble("ensemble/pair", 2, aggregator, (MATH, REMOTE), GENERALIST)
    service = await Service.start(store, ensembles=[pair])
    try:
        told = await coe(service, pair.model)
        assert (told["experts"], told["expert"]) == ([MATH, REMOTE], None)
        roles = {(call["expert"], call["role"]) for call in told["calls"]}
        assert roles == {(MATH, "draft"), (REMOTE, "draft"), (GENERALIST, "writer")}
        assert set(told["usage_by_expert"]) == {MATH, REMOTE, GENERALIST}
        denied = await coe(service, pair.model, deny=[GENERALIST])
        assert [call["expert"] for call in denied["calls"] if call["role"] == "writer"] == [MATH]
    finally:
        await service.stop()


class Greedy(Synthesize):
    """Says that it makes no calls of its own."""

    def calls(self, drafts: int) -> int:
        return 0


async def test_a_call_over_the_budget_is_not_made(store: Store) -> None:
    pair = Ensemble("ensemble/pair", 2, Greedy(Settings(), best_seat), (GENERALIST, REMOTE), budget=Budget(calls=2))
    service = await Service.start(store, ensembles=[pair])
    try:
        told = await coe(service, pair.model)
        assert [(call["role"], call["error"] is None) for call in told["calls"]] == [
            ("draft", True),
            ("draft", True),
            ("writer", False),
        ]
        assert "the budget of 2 calls does not allow another call" in told["note"]
        assert asked(service) == [GENERALIST, REMOTE]
    finally:
        await service.stop()


async def test_the_tighter_budget_of_ensemble_and_request_holds(service: Service) -> None:
    assert len((await coe(service, FRUGAL.model))["used"]) == 3
    told = await coe(service, FRUGAL.model, budget={"calls": 1})
    assert len(told["used"]) == 1
    assert told["note"].startswith("1 of 4 experts answer, for the budget is 1 call")
    assert len((await coe(service, FRUGAL.model, budget={"calls": 8}))["used"]) == 3


async def test_an_unknown_ensemble_is_not_found(service: Service) -> None:
    for path in (service.openai.chat.completions.create(model="ensemble/tiro", messages=[USER]),
                 service.openai.models.retrieve("ensemble/tiro")):  # fmt: skip
        with pytest.raises(openai.NotFoundError) as caught:
            await path
        assert caught.value.code == "model_not_found"
        assert (
            "no ensemble is named 'ensemble/tiro' (there are 3); did you mean 'ensemble/trio'?" in caught.value.message
        )
    with pytest.raises(openai.NotFoundError, match="did you mean 'ensemble/trio'"):
        await service.openai.chat.completions.create(model="trio", messages=[USER])


async def test_the_models_endpoint_tells_what_they_do(service: Service) -> None:
    models = {model.id: model async for model in service.openai.models.list()}
    assert list(models) == ["auto", TRIO.model, PAIR.model, FRUGAL.model, *REGISTRY.names]
    assert models[TRIO.model].model_extra == {
        "coe": {
            "kind": "ensemble",
            "experts": [SQL, MATH, GENERALIST],
            "k": 3,
            "aggregator": "joined",
            "settings": {},
            "expert": None,
            "budget": {"calls": None, "usd": None},
            "description": "Three for one.",
        }
    }
    one = await service.openai.models.retrieve(FRUGAL.model)
    assert one == models[FRUGAL.model]


async def test_a_key_asks_only_experts_that_it_may_use(store: Store) -> None:
    others = {"school": Tenant(KeywordRouter(), experts=frozenset({MATH, SQL}))}
    stranger = Ensemble("ensemble/stranger", 2, AGGREGATORS["joined"], (GENERALIST, REMOTE))
    service = await Service.start(store, ensembles=[TRIO, stranger], others=others)
    try:
        service.key, _ = await service.keys.create("school")
        assert (await coe(service, TRIO.model))["experts"] == [SQL, MATH]
        models = {model.id: model async for model in service.openai.models.list()}
        assert list(models) == ["auto", TRIO.model, SQL, MATH]
        assert (models[TRIO.model].model_extra or {})["coe"]["experts"] == [SQL, MATH]
        with pytest.raises(openai.BadRequestError, match="tenant: not for this API key"):
            await coe(service, stranger.model)
        with pytest.raises(openai.NotFoundError, match="no ensemble is named 'ensemble/stranger'"):
            await service.openai.models.retrieve(stranger.model)
    finally:
        await service.stop()


async def test_the_decision_record_and_the_metrics_know_it(service: Service) -> None:
    told = await coe(service, TRIO.model)
    await service.pipeline.drain()
    record = await service.store.decision(told["request_id"])
    assert record is not None
    assert (record["model"], record["aggregator"]) == (TRIO.model, "joined")
    assert b'route="ensemble"' in service.metrics.render({})
