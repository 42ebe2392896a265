"""What a key may do, as its holder meets it over HTTP: scopes, limits, and the API that manages keys."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
import pytest_asyncio

from orchestrator.access.grant import Grant
from orchestrator.access.quota import LimitReached, heeded
from orchestrator.ensembles import Ensemble
from orchestrator.store import Store
from tests.orchestrator.chat_parts import CHAT, USER
from tests.orchestrator.parts import AGGREGATORS, GENERALIST, MATH, REMOTE, SQL, Service

PAIR = Ensemble("ensemble/pair", 2, AGGREGATORS["joined"], (SQL, MATH))
ALL = Ensemble("ensemble/all", 2, AGGREGATORS["joined"])


@pytest_asyncio.fixture
async def paired(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, ensembles=[PAIR, ALL])
    yield service
    await service.stop()


async def with_key(service: Service, **grant: Any) -> httpx2.AsyncClient:
    """A client whose key has this grant."""
    service.key, _ = await service.keys.create("scoped", Grant(**grant))
    return service.http


async def chat(http: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    return await http.post("/v1/chat/completions", json={**CHAT, **fields})


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def settled(service: Service) -> None:
    await service.pipeline.limiter.settled()


# Scopes


async def test_an_expert_outside_of_the_scope_is_as_one_that_is_not_there(paired: Service) -> None:
    http = await with_key(paired, experts=(SQL, GENERALIST))
    outside, nowhere = await chat(http, model=MATH), await chat(http, model="mathx")
    assert code(outside) == code(nowhere) == (404, "model_not_found")
    assert outside.json()["error"]["message"].replace(MATH, "") == nowhere.json()["error"]["message"].replace(
        "mathx", ""
    )
    assert (await chat(http, model=SQL)).json()["model"] == SQL


async def test_the_router_chooses_among_the_experts_of_the_scope_and_names_no_other(paired: Service) -> None:
    http = await with_key(paired, experts=(MATH,))
    answer = await chat(http, coe={"explain": True})
    assert answer.json()["model"] == MATH
    for name in (SQL, GENERALIST, REMOTE):
        assert f'"{name}"' not in answer.text


@pytest.mark.parametrize("field", ["allow", "deny", "force"])
async def test_a_list_cannot_name_an_expert_outside_of_the_scope(paired: Service, field: str) -> None:
    http = await with_key(paired, experts=(SQL, GENERALIST))
    answer = await chat(http, coe={field: [MATH]})
    assert code(answer) == (400, "invalid_value")
    assert answer.json()["error"]["message"] == f"coe.{field}[0]: no expert is named 'math'"


async def test_an_ensemble_outside_of_the_scope_is_as_one_that_is_not_there(paired: Service) -> None:
    http = await with_key(paired, ensembles=("ensemble/all",))
    answer = await chat(http, model="ensemble/pair")
    assert code(answer) == (404, "model_not_found")
    assert "there is 1" in answer.json()["error"]["message"]
    assert (await chat(http, model="ensemble/all")).status_code == 200


async def test_an_ensemble_asks_those_of_its_experts_that_the_key_may_use(paired: Service) -> None:
    http = await with_key(paired, experts=(SQL, GENERALIST))
    assert (await chat(http, model="ensemble/pair")).json()["coe"]["used"] == [SQL]


async def test_a_key_sees_nothing_of_what_it_may_not_use(paired: Service) -> None:
    http = await with_key(paired, experts=(SQL,), ensembles=("ensemble/all",))
    await chat(paired.http, model=SQL)
    models = await http.get("/v1/models")
    assert [model["id"] for model in models.json()["data"]] == ["auto", "ensemble/all", SQL]
    for path in ("/v1/models", "/v1/models/auto", "/v1/experts", "/v1/swaps", "/v1/feedback"):
        text = (await http.get(path)).text
        assert not [name for name in (MATH, GENERALIST, REMOTE, "pair") if f'"{name}"' in text or f"/{name}" in text]
    assert [row["name"] for row in (await http.get("/v1/experts")).json()["data"]] == [SQL]
    assert (await http.get("/v1/models/ensemble/pair")).status_code == 404


async def test_the_priority_class_of_a_key_reaches_the_engine(service: Service) -> None:
    http = await with_key(service, priority="batch")
    await chat(http, priority=7)
    call = service.engine.calls[-1]
    assert (call.priority, call.caller) == (10_007, (await service.keys.find("scoped")).id)


# Limits


async def test_an_answer_tells_where_its_key_stands_as_openai_does(service: Service) -> None:
    http = await with_key(service, limits={"requests_per_minute": 2, "tokens_per_minute": 10_000})
    answer = await chat(http, max_tokens=20)
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit-")}
    assert set(told) == {
        f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
    }
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert told["x-ratelimit-limit-tokens"] == "10000"
    assert 9_900 < int(told["x-ratelimit-remaining-tokens"]) < 9_980
    assert told["x-ratelimit-reset-requests"] == "1m0s"
    stream = await chat(http, stream=True)
    assert stream.headers["x-ratelimit-remaining-requests"] == "0"


async def test_the_openai_client_sees_a_rate_limit_error(service: Service) -> None:
    await with_key(service, limits={"requests_per_minute": 1})
    client = service.openai
    await client.chat.completions.create(model=SQL, messages=[USER])
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model=SQL, messages=[USER])
    assert (caught.value.code, caught.value.type) == ("requests_per_minute_exceeded", "rate_limit_error")
    assert int(caught.value.response.headers["retry-after"]) > 50
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(service.engine.calls) == 1


async def test_tokens_count_as_they_were_used(service: Service) -> None:
    http = await with_key(service, limits={"tokens_per_day": 10_000})
    usage = (await chat(http)).json()["usage"]["total_tokens"]
    await settled(service)
    info = await service.keys.find("scoped")
    used = await service.pipeline.limiter.used(info.lineage)
    assert (used["tokens_per_day"], used["requests_per_day"], used["concurrent"]) == (usage, 1, 0)


async def test_a_client_that_leaves_pays_for_what_it_was_told(service: Service) -> None:
    http = await with_key(service, limits={"tokens_per_day": 10_000, "concurrent": 1})
    service.engine.answer = lambda call: "word " * 400
    service.engine.token_delay = 0.001
    info = await service.keys.find("scoped")
    try:
        async with asyncio.timeout(0.3):
            await chat(http, stream=True)
    except TimeoutError:
        pass
    await service.engine.reaches(0)
    await settled(service)
    used = await service.pipeline.limiter.used(info.lineage)
    assert 3 < used["tokens_per_day"] < 400
    assert used["concurrent"] == 0


async def test_a_request_that_fails_gives_back_what_it_did_not_use(service: Service) -> None:
    http = await with_key(service, limits={"tokens_per_minute": 5_000, "concurrent": 1})
    service.engine.fail_next("internal", times=1)
    assert (await chat(http, model=SQL)).status_code == 500
    await settled(service)
    used = await service.pipeline.limiter.used((await service.keys.find("scoped")).lineage)
    assert (used["tokens_per_minute"], used["requests_per_minute"], used["concurrent"]) == (0, 1, 0)


async def test_a_rotated_key_does_not_begin_anew(service: Service) -> None:
    http = await with_key(service, limits={"requests_per_day": 1})
    await chat(http)
    service.key, _ = await service.keys.rotate("scoped")
    assert code(await chat(service.http)) == (429, "requests_per_day_exceeded")


async def test_a_request_that_can_never_pass_says_what_to_lower(service: Service) -> None:
    http = await with_key(service, limits={"tokens_per_minute": 100})
    answer = await chat(http, max_tokens=400)
    assert code(answer) == (400, "request_over_limit")
    assert "lower 'max_tokens'" in answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers


async def test_an_unknown_model_is_a_request_too(service: Service) -> None:
    http = await with_key(service, limits={"requests_per_day": 2})
    assert [code(await chat(http, model="nobody"))[0] for _ in range(3)] == [404, 404, 429]


async def test_who_has_used_its_day_is_told_not_to_try_again_soon(service: Service) -> None:
    http = await with_key(service, limits={"requests_per_day": 1, "concurrent": 1})
    await chat(http)
    assert (await chat(http)).headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("seconds", "told"), [(0.2, 0.2), (60.0, 60.0), (60.1, 60.0), (62.0, 60.0), (62.1, 62.1)])
def test_the_wait_of_a_minute_is_told_as_one_that_clients_heed(seconds: float, told: float) -> None:
    assert heeded(seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.2, {"retry-after": "1"}),
        (60.0, {"retry-after": "60"}),
        (63.0, {"retry-after": "63", "x-should-retry": "false"}),
    ],
)
def test_a_longer_wait_is_not_to_be_tried(seconds: float, told: dict[str, str]) -> None:
    assert LimitReached("requests_per_day_exceeded", "", seconds, {}).headers == told


@pytest.mark.parametrize(
    ("limits", "trips"), [({}, 0), ({"requests_per_day": 9, "tokens_per_day": 9000, "concurrent": 9}, 1)]
)
async def test_limits_cost_one_trip_to_redis_before_the_answer_and_none_without_them(
    service: Service, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], trips: int
) -> None:
    http = await with_key(service, limits=limits)
    await chat(http)
    await settled(service)
    await service.pipeline.drain()
    asked: list[int] = []
    run = service.store._do

    def counting(command: Any) -> Any:
        asked.append(len(service.engine.calls))
        return run(command)

    monkeypatch.setattr(service.store, "_do", counting)
    before = len(service.engine.calls)
    await chat(http)
    assert asked.count(before) == trips


# The API for keys


@pytest_asyncio.fixture
async def admin(paired: Service) -> httpx2.AsyncClient:
    return await with_key(paired, admin=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("GET", "/keys/x"),
        ("PATCH", "/keys/x"),
        ("DELETE", "/keys/x"),
        ("POST", "/keys/x/rotate"),
        ("GET", "/keys/x/usage"),
    ],
)
async def test_only_admins_manage_keys(paired: Service, method: str, path: str) -> None:
    assert code(await paired.http.request(method, f"/admin/v1{path}")) == (403, "admin_only")
    nobody = httpx2.AsyncClient(transport=httpx2.ASGITransport(paired.app), base_url="http://coe")
    assert code(await nobody.request(method, f"/admin/v1{path}")) == (401, "missing_api_key")
    await nobody.aclose()


async def test_a_key_from_beginning_to_end(paired: Service, admin: httpx2.AsyncClient) -> None:
    made = await admin.post(
        "/admin/v1/keys",
        json={
            "name": "app",
            "experts": [SQL],
            "priority": "interactive",
            "expires": "30d",
            "limits": {"concurrent": 3},
        },
    )
    body = made.json()
    assert made.status_code == 201
    assert (body["experts"], body["ensembles"], body["admin"], body["state"]) == ([SQL], "all", False, "active")
    assert (body["priority"], body["limits"]) == ("interactive", {"concurrent": 3})
    paired.key = body.pop("key")
    user = paired.http
    assert (await chat(user)).json()["model"] == SQL
    assert (await admin.get(f"/admin/v1/keys/{body['id']}")).json() == body

    changed = await admin.patch(
        f"/admin/v1/keys/{body['id']}", json={"experts": "all", "limits": {"concurrent": "default"}}
    )
    assert (changed.json()["experts"], changed.json()["limits"]) == ("all", {})
    assert (await chat(user, model=MATH)).json()["model"] == MATH
    await settled(paired)
    usage = (await admin.get(f"/admin/v1/keys/{body['id']}/usage")).json()["usage"]
    assert usage["requests_per_day"] == {"used": 2.0, "limit": None}

    rotated = (await admin.post(f"/admin/v1/keys/{body['id']}/rotate", json={"grace_s": 0})).json()
    assert rotated["lineage"] == body["id"]
    assert code(await chat(user)) == (401, "invalid_api_key")
    paired.key = rotated["key"]
    assert (await chat(paired.http)).status_code == 200
    disabled = await admin.patch(f"/admin/v1/keys/{rotated['id']}", json={"enabled": False})
    assert disabled.json()["state"] == "disabled"
    assert code(await chat(paired.http)) == (401, "invalid_api_key")
    gone = await admin.delete(f"/admin/v1/keys/{rotated['id']}")
    assert gone.json() == {"object": "key", "id": rotated["id"], "deleted": True}
    assert code(await admin.get(f"/admin/v1/keys/{rotated['id']}")) == (404, "key_not_found")
    listed = (await admin.get("/admin/v1/keys")).json()["data"]
    assert [row["name"] for row in listed] == ["test", "scoped", "app"]
    assert not [row for row in listed if "key" in row]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "two\nlines"}, "name: must be of printable characters"),
        ({"name": "x", "experts": "math"}, "experts: must be a list of names, or 'all'; got 'math'"),
        ({"name": "x", "limits": {"concurrent": "many"}}, "limits.concurrent: must be a number, null or 'default'"),
        ({"name": "x", "experts": ["maths"]}, "no expert is named 'maths'; did you mean 'math'?"),
        ({"name": "x", "ensembles": ["ensemble/pear"]}, "did you mean 'ensemble/pair'"),
        ({"name": "x", "limits": {"token_per_day": 1}}, "allowed: requests_per_minute"),
        ({"name": "x", "limits": {"tokens_per_day": 1.5}}, "limits.tokens_per_day: got 1.5; allowed: a whole number"),
        ({"name": "x", "limits": {"tokens_per_day": True}}, "limits.tokens_per_day"),
        ({"name": "x", "expires": "yesterday"}, "allowed: never, a duration such as 90d"),
        ({"name": "x", "priority": "urgent"}, "'interactive', 'normal' or 'batch'"),
        ({"name": "x", "scope": "all"}, "unknown field 'scope'"),
    ],
)
async def test_a_key_that_cannot_be_is_not_made(
    paired: Service, admin: httpx2.AsyncClient, fields: dict[str, Any], why: str
) -> None:
    answer = await admin.post("/admin/v1/keys", json=fields)
    assert answer.status_code == 400
    assert why in answer.json()["error"]["message"]
    assert len(await paired.keys.list()) == 2
