"""Policies in a running service: who is asked, what the caller is told, and what each key has of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import openai
import pytest
import pytest_asyncio

from experts.registry import Registry
from orchestrator.ensembles import Ensemble
from orchestrator.events import Answered, Ask, Routed
from orchestrator.routing import Tenant
from orchestrator.store import Store
from orchestrator.turns import RememberedTurns, StoredTurns
from routers.fixed import FixedRouter
from routers.policies.conversation import Stay
from routers.policies.load_price import LoadPrice
from routers.policies.number import TopP
from routers.policies.policy_set import PolicySet
from tests.orchestrator.parts import AGGREGATORS, GENERALIST, MATH, REGISTRY, REMOTE, SQL, Service, Unheard
from tests.routers.policies.parts import Scored
from workers.base import WorkerStats

SCORES = {GENERALIST: 0.5, MATH: 0.8, SQL: 0.9, REMOTE: 0.4}
HELLO: Any = [{"role": "user", "content": "hello there"}]


def scored_router() -> Scored:
    return Scored(SCORES, aggregator="joined")


@pytest_asyncio.fixture
async def scored(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, router=scored_router())
    yield service
    await service.stop()


async def chat(service: Service, model: str = "auto", messages: Any = HELLO, **coe: Any) -> dict[str, Any]:
    """The answer's `coe` field, with `explain`."""
    answer = await service.openai.chat.completions.create(
        model=model, messages=messages, extra_body={"coe": {"explain": True, **coe}} if model == "auto" else None
    )
    assert answer.model_extra is not None
    coe_field: dict[str, Any] = answer.model_extra["coe"]
    return coe_field


def asked(service: Service) -> set[str]:
    return {call.expert for engine in service.engines.values() for call in engine.calls}


# Constraints


async def test_a_denied_expert_gets_no_call(scored: Service) -> None:
    for _ in range(20):
        assert (await chat(scored, deny=[SQL], k=3))["experts"] == [MATH, GENERALIST, REMOTE]
    assert asked(scored) == {MATH, GENERALIST, REMOTE}


async def test_lists_of_a_request(scored: Service) -> None:
    assert (await chat(scored, allow=[MATH, REMOTE]))["experts"] == [MATH]
    assert (await chat(scored, force=[REMOTE]))["experts"] == [REMOTE]
    told = await chat(scored, force=[REMOTE], k=2, deny=[SQL])
    assert told["experts"] == [REMOTE, MATH]
    assert told["reason"].endswith("; the request asks for remote")
    assert told["explain"]["removed"] == {SQL: "lists: in 'deny'"}
    assert told["explain"]["candidates"] == [GENERALIST, MATH, REMOTE]


async def test_a_prompt_goes_past_experts_whose_context_is_too_short(scored: Service) -> None:
    told = await chat(scored, messages=[{"role": "user", "content": "word " * 60}])
    assert told["experts"] == [MATH]
    assert told["explain"]["removed"] == {SQL: "context: takes fewer than about 80 tokens"}
    with pytest.raises(openai.BadRequestError) as caught:  # the engine of the longest one counts exactly
        await chat(scored, messages=[{"role": "user", "content": "word " * 3000}], deny=[REMOTE])
    assert caught.value.code == "context_length_exceeded"
    assert GENERALIST in caught.value.message


async def test_an_expert_gets_prompts_in_its_languages_alone(store: Store) -> None:
    languages = {SQL: ("en",), MATH: ("de",)}
    specs = [spec.model_copy(update={"languages": languages.get(spec.name, ())}) for spec in REGISTRY]
    service = await Service.start(store, router=scored_router(), registry=Registry(specs))
    german, english = "Was ist das und wie geht es weiter?", "What is this and how does it go on?"
    assert (await chat(service, messages=[{"role": "user", "content": english}]))["experts"] == [SQL]
    told = await chat(service, messages=[{"role": "user", "content": german}])
    assert (told["experts"], told["explain"]["removed"]) == ([MATH], {SQL: "language: does not speak 'de'"})
    turns = [german, "x = 3"]
    history = [{"role": role, "content": text} for text in turns for role in ("user", "assistant")][:-1]
    assert (await chat(service, messages=history))["experts"] == [MATH]
    assert (await chat(service, messages=history, languages=["en"]))["experts"] == [SQL]
    assert len([call for call in service.engine.calls if call.expert == SQL]) == 2
    await service.stop()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route"])
async def test_when_nobody_may_answer_the_error_says_which_constraint_removed_whom(scored: Service, path: str) -> None:
    body = {"model": "auto", "messages": HELLO, "coe": {"deny": [SQL], "needs": ["image"]}}
    response = await scored.http.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "no expert may answer: needs: takes no image: generalist, math, remote; lists: in 'deny': sql",
        "type": "invalid_request_error",
        "param": None,
        "code": "no_expert_allowed",
    }
    assert "retry-after" not in response.headers
    assert asked(scored) == set()


# Outages


async def test_an_expert_whose_worker_says_that_it_failed_is_not_asked(scored: Service) -> None:
    scored.engine.fail_start(SQL, "no weights")
    told = await chat(scored)
    assert (told["experts"], told["explain"]["removed"]) == ([MATH], {SQL: "outage: no weights"})
    assert asked(scored) == {MATH}


async def test_when_all_failed_the_error_says_why_and_that_later_may_be_better(scored: Service) -> None:
    for name in (SQL, MATH, GENERALIST):
        scored.engine.fail_start(name, "no weights")
    response = await scored.http.post(
        "/v1/chat/completions", json={"model": "auto", "messages": HELLO, "coe": {"deny": [REMOTE]}}
    )
    error = response.json()["error"]
    assert (response.status_code, error["code"], response.headers["retry-after"]) == (503, "no_expert", "30")
    assert error["message"].startswith("no expert can answer now: outage: no weights: generalist, sql, math")


async def test_after_a_failure_the_next_request_goes_elsewhere(scored: Service) -> None:
    scored.engine.fail_next("expert_unavailable", "out of order")
    with pytest.raises(openai.InternalServerError, match="out of order"):
        await chat(scored)
    told = await chat(scored)
    assert (told["experts"], told["explain"]["removed"]) == ([MATH], {SQL: "outage: out of order"})
    assert (await chat(scored, force=[SQL]))["experts"] == [SQL]  # and it answers
    assert (await chat(scored))["experts"] == [SQL]


async def test_a_named_expert_is_tried_whatever_is_known_of_it(scored: Service) -> None:
    scored.engine.fail_start(SQL, "no weights")
    with pytest.raises(openai.InternalServerError, match="no weights"):
        await chat(scored, model=SQL)


# Number, load price


async def test_the_service_says_how_many_answer_and_the_request_may_say_otherwise(store: Store) -> None:
    policies = PolicySet(k=3, number=TopP(0.6), sharpness=1.0)
    service = await Service.start(store, router=scored_router(), policies=policies)
    assert (await chat(service))["experts"] == [SQL, MATH]
    assert (await chat(service, k=1))["experts"] == [SQL]
    assert (await chat(service, k=4))["experts"] == [SQL, MATH, GENERALIST, REMOTE]
    await service.stop()


async def test_a_resident_expert_goes_before_a_cold_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stats() -> WorkerStats:
        tiers = {GENERALIST: "device", MATH: "device", SQL: "disk"}
        return WorkerStats("small", tiers, loads={"disk": 2}, moved_seconds={"disk": 8.0})

    service = await Service.start(store, router=scored_router(), policies=PolicySet(price=LoadPrice(0.03)))
    monkeypatch.setattr(service.engine, "stats", stats)
    told = await chat(service)
    assert told["experts"] == [MATH]
    assert told["reason"].endswith("; math instead of sql, whose load takes 4 s for 0.1 more expected score")
    await service.stop()


# Conversations


@pytest.mark.parametrize("memory", ["redis", "process"])
async def test_a_conversation_keeps_its_expert(store: Store, memory: str) -> None:
    turns = StoredTurns(store, 60) if memory == "redis" else RememberedTurns(60)
    router = scored_router()
    service = await Service.start(store, router=router, policies=PolicySet(stay=Stay(0.2)), turns=turns)
    assert (await chat(service))["experts"] == [SQL]
    await service.pipeline.drain()
    router.scores[MATH] = 1.0
    history = [*HELLO, {"role": "assistant", "content": "sql heard: hello there"}, {"role": "user", "content": "go on"}]
    told = await chat(service, messages=history)
    assert told["experts"] == [SQL]
    assert told["reason"] == "math ranks first; sql stays from the last turn, within 0.2 of the best"
    assert (await chat(service))["experts"] == [MATH]  # a first turn
    await service.pipeline.drain()
    router.scores[SQL] = 0.7
    assert (await chat(service, messages=history))["experts"] == [MATH]
    await service.stop()


async def test_a_conversation_may_have_an_id(store: Store) -> None:
    router = scored_router()
    service = await Service.start(store, router=router, policies=PolicySet(stay=Stay(0.2)), turns=RememberedTurns(60))

    async def turn(conversation: str, text: str) -> str | None:
        answer = await service.openai.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": text}],
            metadata={"conversation_id": conversation},
        )
        return answer.model

    assert await turn("one", "hello") == SQL
    router.scores[MATH] = 1.0
    assert await turn("one", "something else") == SQL
    assert await turn("two", "hello") == MATH
    await service.stop()


async def test_of_several_experts_the_best_that_took_part_stays(store: Store) -> None:
    turns = RememberedTurns(60)
    service = await Service.start(store, router=scored_router(), policies=PolicySet(k=3, stay=Stay(0.2)), turns=turns)
    service.work_with(Unheard(service.engines, REGISTRY))
    service.engine.fail_start(SQL, "no weights")
    assert (await chat(service))["used"] == [MATH, GENERALIST]
    [(_, kept)] = turns._turns.values()
    assert kept == MATH
    await service.stop()


async def test_without_redis_a_conversation_is_routed_turn_by_turn() -> None:
    store = Store("redis://127.0.0.1:1")
    service = await Service.start(
        store,
        key="coe-unused",
        router=scored_router(),
        policies=PolicySet(stay=Stay(0.2)),
        turns=StoredTurns(store, 60),
    )
    for _ in range(2):
        ask = Ask("req-1", "auto", tuple(HELLO), "hello there", float("inf"), conversation="one")
        events = [event async for event in service.pipeline.run(ask)]
        assert isinstance(events[0], Routed)
        assert events[0].route.experts == (SQL,)
        assert isinstance(events[-1], Answered)
        await service.pipeline.drain()
    await service.stop()
    await store.close()


# Tenants


async def as_tenant(service: Service, name: str) -> Service:
    service.key = (await service.keys.create(name))[0]
    return service


def others(**tenants: Tenant) -> Mapping[str, Tenant]:
    return tenants


async def test_a_key_uses_the_experts_that_it_may_use_and_no_other(store: Store) -> None:
    tenant = Tenant(router := scored_router(), experts=frozenset({MATH, GENERALIST}))
    service = await Service.start(store, router=router, others=others(school=tenant))
    assert (await chat(service))["experts"] == [SQL]
    await as_tenant(service, "school")
    scored_before = asked(service)
    assert (await chat(service, k=4))["experts"] == [MATH, GENERALIST]
    assert (await chat(service, model=MATH))["experts"] == [MATH]
    assert asked(service) - scored_before == {MATH, GENERALIST}
    calls = len(service.engine.calls)
    for refused in (
        {"model": SQL},
        {"model": "auto", "coe": {"force": [SQL]}},
        {"model": "auto", "coe": {"allow": [SQL]}},
    ):
        response = await service.http.post("/v1/chat/completions", json={"messages": HELLO, **refused})
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "no_expert_allowed")
        assert "API key" in error["message"]
    assert len(service.engine.calls) == calls
    await service.stop()


async def test_a_key_is_shown_the_experts_that_it_may_use_and_no_other(store: Store) -> None:
    tenant = Tenant(scored_router(), experts=frozenset({MATH, GENERALIST}))
    by_sql = {"expert": SQL, "layers": 2}
    pair = Ensemble("ensemble/pair", 2, AGGREGATORS["first"], (SQL, MATH), settings=by_sql)
    whole = Ensemble("ensemble/all", 2, AGGREGATORS["first"])
    service = await Service.start(
        store,
        router=scored_router(),
        others=others(school=tenant),
        ensembles=[pair, whole],
        settings={"first": by_sql, "joined": {}},
    )

    async def settings(model: str) -> Any:
        return (await service.http.get(f"/v1/models/{model}")).json()["coe"]["settings"]

    async def shown() -> dict[str, list[str]]:
        models = (await service.http.get("/v1/models")).json()["data"]
        assert [(await service.http.get(f"/v1/models/{model['id']}")).json() for model in models] == models
        return {model["id"]: model["coe"].get("experts") for model in models}

    names = list(REGISTRY.names)
    told = {"auto": names, pair.model: [SQL, MATH], whole.model: names}
    assert await shown() == told | dict.fromkeys(names)
    assert await settings("auto") == {"first": by_sql, "joined": {}}
    await as_tenant(service, "school")
    assert await settings("auto") == {"first": {"expert": None, "layers": 2}, "joined": {}}
    assert await settings(pair.model) == {"expert": None, "layers": 2}
    own = [name for name in names if name in (MATH, GENERALIST)]
    assert await shown() == {"auto": own, pair.model: [MATH], whole.model: own} | dict.fromkeys(own)
    hidden = await service.http.get(f"/v1/models/{SQL}")
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")
    assert "there are 2" in hidden.json()["error"]["message"]
    await service.stop()


async def test_a_key_has_a_router_and_policies_of_its_own(store: Store) -> None:
    tenant = Tenant(FixedRouter(REMOTE, aggregator="joined"), PolicySet(k=2))
    service = await Service.start(store, router=scored_router(), others=others(lab=tenant))
    assert (await chat(service))["router"] == "ranked"
    await as_tenant(service, "lab")
    told = await chat(service)
    assert (told["router"], told["experts"]) == ("fixed", [REMOTE, GENERALIST])
    await service.stop()


async def test_a_keys_id_comes_before_its_name(store: Store) -> None:
    service = await Service.start(store, router=scored_router())
    await as_tenant(service, "lab")
    known = await service.keys.verify(service.key)
    by_name, by_id = Tenant(FixedRouter(REMOTE, aggregator="joined")), Tenant(FixedRouter(MATH))
    service.pipeline._routing._others = {"lab": by_name, known.id: by_id}
    assert (await chat(service))["experts"] == [MATH]
    service.pipeline._routing._others = {"lab": by_name}
    assert (await chat(service))["experts"] == [REMOTE]
    await service.stop()


async def test_many_at_once_keep_every_constraint(scored: Service) -> None:
    names = REGISTRY.names

    async def one(n: int) -> None:
        denied = [names[n % 4], names[(n // 4) % 4]]
        told = await chat(scored, deny=denied, k=1 + n % 3)
        assert not set(told["experts"]) & set(denied)

    await asyncio.gather(*(one(n) for n in range(8)))
