"""The API as its users meet it: the official `openai` client and plain HTTP against the real application."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints
from unittest.mock import AsyncMock

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from orchestrator.store import Store
from tests.orchestrator.parts import GENERALIST, LIMITS, MATH, REGISTRY, REMOTE, SQL, Service, Unheard
from workers.base import SwapEvent, WorkerStats

DOCS = Path(__file__).parents[2] / "docs" / "api.md"
USER: Any = {"role": "user", "content": "some sql please"}
CHAT: dict[str, Any] = {"model": "auto", "messages": [USER]}


async def chunks_of(stream: AsyncIterator[ChatCompletionChunk]) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in stream]


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def frames(body: str) -> list[Any]:
    """The events of a stream; comments and [DONE] as they are."""
    parts = body.split("\n\n")
    assert parts.pop() == ""
    bare = [part.removeprefix("data: ") for part in parts]
    return [part if part.startswith((":", "[")) else json.loads(part) for part in bare]


# Chat with the openai client


async def test_a_routed_answer_says_who_answered_and_why(service: Service) -> None:
    raw = await service.openai.chat.completions.with_raw_response.create(model="auto", messages=[USER])
    answer = raw.parse()
    assert answer.choices[0].message.content == "sql heard: some sql please"
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", SQL)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 5, 8)
    assert answer.model_extra is not None
    coe = answer.model_extra["coe"]
    request_id = coe.pop("request_id")
    assert coe == {
        "expert": SQL,
        "experts": [SQL],
        "category": service.router.category,
        "probabilities": {"a": 0.75, "b": 0.25},
        "margin": 0.5,
        "reason": "the word stands there — naïve",
        "router": "keyword",
        "aggregator": "single",
        "used": [SQL],
        "failed": {},
        "usage_by_expert": {SQL: answer.usage.model_dump(exclude_unset=True)},
        "calls": [
            {
                "expert": SQL,
                "role": "answer",
                "usage": answer.usage.model_dump(exclude_unset=True),
                "seconds": coe["calls"][0]["seconds"],
                "cost": None,
                "error": None,
                "phases": coe["calls"][0]["phases"],
            }
        ],
        "note": "",
    }
    assert {name: value for name, value in raw.headers.items() if name.startswith("x-")} == {
        "x-content-type-options": "nosniff",
        "x-request-id": request_id,
        "x-coe-request-id": request_id,
        "x-coe-expert": SQL,
        "x-coe-category": "categorie x-evil: 1",
        "x-coe-reason": "the word stands there ? naive",
        "x-coe-router": "keyword",
    }
    await service.pipeline.drain()
    assert await service.store.decision(request_id)


async def test_a_streamed_answer_has_the_route_in_its_first_chunk(service: Service) -> None:
    raw = await service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=[USER], stream=True, stream_options={"include_usage": True}
    )
    chunks = await chunks_of(raw.parse())
    first, last, usage = chunks[0], chunks[-2], chunks[-1]
    assert text(chunks) == "sql heard: some sql please"
    assert {chunk.model for chunk in chunks} == {SQL}
    assert len({chunk.id for chunk in chunks}) == 1
    assert first.choices[0].delta.role == "assistant"
    assert first.model_extra is not None
    assert last.model_extra is not None
    assert first.model_extra["coe"]["reason"] == "the word stands there — naïve"
    assert (first.model_extra["coe"]["expert"], first.model_extra["coe"]["used"]) == (SQL, [])
    assert (last.choices[0].finish_reason, last.model_extra["coe"]["used"]) == ("stop", [SQL])
    assert (usage.choices, usage.usage and usage.usage.total_tokens) == ([], 8)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len([name for name in raw.headers if name.startswith("x-coe-")]) == 5
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_usage_is_streamed_only_when_asked_for(service: Service) -> None:
    chunks = await chunks_of(await service.openai.chat.completions.create(model=SQL, messages=[USER], stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


async def test_a_named_expert_answers(service: Service) -> None:
    answer = await service.openai.chat.completions.create(model=MATH, messages=[USER], max_tokens=2)
    assert answer.choices[0].message.content == "math heard:"
    assert answer.choices[0].finish_reason == "length"
    assert answer.model_extra is not None
    assert answer.model_extra["coe"]["router"] == "named"


async def test_the_whole_conversation_reaches_the_expert(service: Service) -> None:
    first = await service.openai.chat.completions.create(model="auto", messages=[USER])
    history: Any = [{"role": "developer", "content": "be brief"}, USER, first.choices[0].message, USER]
    await service.openai.chat.completions.create(model="auto", messages=history, stop="heard", seed=7)
    call = service.engine.calls[-1]
    assert [message["role"] for message in call.messages] == ["system", "user", "assistant", "user"]
    assert call.messages[2] == {"role": "assistant", "content": "sql heard: some sql please"}
    assert (call.sampling.stop, call.sampling.seed) == (("heard",), 7)


async def test_priority_and_caller_reach_the_worker(service: Service) -> None:
    other, info = await service.keys.create("other")
    await service.http.post("/v1/chat/completions", json={**CHAT, "priority": -3})
    await service.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {other}"})
    first, second = service.engine.calls
    assert (first.priority, second.priority) == (-3, 0)
    assert (first.caller, second.caller) == ((await service.keys.verify(service.key)).id, info.id)
    assert first.caller != second.caller


@pytest.mark.parametrize("streamed", [False, True])
async def test_several_experts_give_one_answer_that_names_them(service: Service, streamed: bool) -> None:
    service.work_with(Unheard(service.engines, REGISTRY))
    service.engine.fail_start(GENERALIST, "no weights")
    body = {**CHAT, "coe": {"k": 3, "aggregator": "joined", "explain": True}, "stream": streamed}
    response = await service.http.post("/v1/chat/completions", json=body)
    answer = frames(response.text)[-2] if streamed else response.json()
    assert answer["model"] == "auto"
    coe = answer["coe"]
    assert (coe["expert"], coe["experts"], coe["aggregator"]) == (None, [SQL, GENERALIST, MATH], "joined")
    assert coe["used"] == [SQL, MATH]
    assert coe["failed"] == {GENERALIST: "expert_unavailable: expert 'generalist': no weights"}
    assert set(coe["usage_by_expert"]) == {SQL, MATH}
    assert coe["explain"]["weights"] == dict.fromkeys([SQL, GENERALIST, MATH], 1 / 3)
    assert coe["explain"]["candidates"] == list(REGISTRY.names)
    assert coe["explain"]["votes"] == {"all": 1.0}
    assert [draft["expert"] for draft in coe["explain"]["drafts"]] == [SQL, GENERALIST, MATH]
    drafts = [draft["text"] for draft in coe["explain"]["drafts"]]
    assert drafts == [
        f"{SQL} heard: {CHAT['messages'][0]['content']}",
        "",
        f"{MATH} heard: {CHAT['messages'][0]['content']}",
    ]
    assert response.headers["x-coe-expert"] == "sql,generalist,math"
    if not streamed:
        assert answer["usage"]["total_tokens"] == 16


async def test_the_winner_of_several_is_the_model(service: Service) -> None:
    response = await service.http.post("/v1/chat/completions", json={**CHAT, "coe": {"k": 3, "aggregator": "first"}})
    answer = response.json()
    assert answer["model"] == answer["coe"]["expert"] == response.headers["x-coe-expert"]
    assert answer["model"] in (SQL, GENERALIST, MATH)


# Errors


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("prompt_too_long", 400, openai.BadRequestError),
        ("expert_unavailable", 503, openai.InternalServerError),
        ("engine_died", 503, openai.InternalServerError),
        ("deadline", 504, openai.InternalServerError),
        ("internal", 500, openai.InternalServerError),
    ],
)
async def test_what_fails_at_once_has_its_status_also_on_a_stream(
    service: Service, streamed: bool, code: Any, status: int, error: type[openai.APIStatusError]
) -> None:
    service.engine.fail_next(code, "the reason", times=2)  # an engine that died is asked once more
    with pytest.raises(error) as caught:
        await service.openai.chat.completions.create(model="auto", messages=[USER], stream=streamed)
    assert caught.value.status_code == status
    assert ("the reason" in caught.value.message) == (code != "internal")
    assert ("retry-after" in caught.value.response.headers) == (status == 503)
    if status >= 500:
        assert caught.value.response.headers["x-request-id"] in caught.value.message


async def test_what_fails_later_is_an_error_in_the_stream_and_then_done(service: Service) -> None:
    service.engine.fail_next("engine_died", "it went down", after=2)
    stream = await service.openai.chat.completions.create(model="auto", messages=[USER], stream=True)
    seen = [await anext(stream) for _ in range(3)]
    with pytest.raises(openai.APIError, match="it went down") as caught:
        await anext(stream)
    assert text(seen) == "sql heard:"
    assert caught.value.code == "engine_died"
    service.engine.fail_next("internal", "a secret of the inside", after=1)
    response = await service.http.post("/v1/chat/completions", json={**CHAT, "model": SQL, "stream": True})
    *_, error, done = frames(response.text)
    assert (response.status_code, done) == (200, "[DONE]")
    assert error["error"]["code"] == "internal_error"
    assert response.headers["x-request-id"] in error["error"]["message"]
    assert "secret" not in response.text


async def test_what_fails_later_in_one_piece_is_an_error_status(service: Service) -> None:
    service.engine.fail_next("engine_died", "it went down", after=2)
    with pytest.raises(openai.InternalServerError, match="it went down"):
        await service.openai.chat.completions.create(model="auto", messages=[USER])


async def test_an_aggregator_that_raises_is_an_internal_error(service: Service) -> None:
    body = {**CHAT, "coe": {"k": 2, "aggregator": "broken"}}
    whole = await service.http.post("/v1/chat/completions", json=body)
    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "internal_error")
    streamed = await service.http.post("/v1/chat/completions", json={**body, "stream": True})
    assert "internal_error" in streamed.text
    assert "secret" not in whole.text + streamed.text


async def test_a_prompt_over_the_context_is_refused(service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await service.openai.chat.completions.create(
            model=SQL, messages=[{"role": "user", "content": "word " * 60}], stream=True
        )
    assert caught.value.code == "context_length_exceeded"
    assert "60 tokens" in caught.value.message
    assert "50 in all" in caught.value.message


async def test_an_unknown_model_is_told_with_what_may_have_been_meant(service: Service) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await service.openai.chat.completions.create(model="maths", messages=[USER])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "did you mean 'math'" in caught.value.message


async def test_a_malformed_request_is_told_where(service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await service.openai.chat.completions.create(model="auto", messages=[USER], temperature=3)
    assert (caught.value.param, caught.value.code) == ("temperature", "invalid_value")
    for body, code in ((b"{", "invalid_json"), (b'{"audio": {}}', "unsupported_parameter")):
        response = await service.http.post("/v1/chat/completions", content=body)
        assert (response.status_code, response.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": ""}, "missing_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"authorization": "Basic Zm9vOmJhcg=="}, "missing_api_key"),
        ({"authorization": "Bearer coe-wrong"}, "invalid_api_key"),
        ({"authorization": b"Bearer \xff\xfe"}, "invalid_api_key"),
    ],
)
async def test_without_a_valid_key_nothing_is_told(service: Service, header: Any, code: str) -> None:
    client = service.http
    del client.headers["authorization"]
    for method, path in (
        ("POST", "/v1/chat/completions"), ("POST", "/v1/route"), ("GET", "/v1/models"), ("GET", "/v1/models/sql"),
        ("GET", "/v1/experts"),
    ):  # fmt: skip
        response = await client.request(method, path, headers=header, content=b"{")
        assert (response.status_code, response.json()["error"]["code"]) == (401, code)
        assert response.headers["x-request-id"]


async def test_the_key_may_be_written_bearer_in_any_case(service: Service) -> None:
    response = await service.http.get("/v1/models", headers={"authorization": f"bearer   {service.key}"})
    assert response.status_code == 200


async def test_without_redis_a_key_that_is_not_remembered_is_a_503() -> None:
    service = await Service.start(store := Store("redis://10.255.0.1:1", timeout=0.05), key="coe-unused")
    response = await service.http.get("/v1/models")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "store_unavailable")
    assert response.headers["retry-after"]
    assert "10.255" not in response.text
    health = await service.http.get("/health")
    assert (health.status_code, health.json()["store"]) == (200, "unreachable")
    await service.stop()
    await store.close()


async def test_a_body_over_the_limit_is_refused_by_its_length_and_while_it_is_read(service: Service) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 10_000

    for content in (b" " * 20_001, in_pieces()):
        response = await service.http.post("/v1/chat/completions", content=content)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    response = await service.http.post("/v1/chat/completions", content=json.dumps(CHAT).ljust(20_000).encode())
    assert response.status_code == 200


@pytest.mark.parametrize("length", ["", "-1", "1e3", "9" * 30, "²"])
async def test_a_wrong_content_length_is_not_a_fault_of_the_service(service: Service, length: str) -> None:
    headers = {b"content-length": length.encode()}
    response = await service.http.post("/v1/chat/completions", content=b"{}", headers=headers)
    assert response.status_code in (400, 413)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/v1/images/generations", 404, "not_found"),
        ("GET", "/v1/models/", 404, "model_not_found"),
        ("GET", "/v1/models/a/b", 404, "model_not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/health/live", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods_are_errors_in_the_same_shape(
    service: Service, method: str, path: str, status: int, code: str
) -> None:
    response = await service.http.request(method, path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.json()["error"]["code"] == code
    assert ("allow" in response.headers) == (status == 405)
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/chat/completions", "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/feedback", "GET, HEAD, POST"),
        ("/admin/v1/keys", "GET, HEAD, POST"),
        ("/admin/v1/keys/x", "DELETE, GET, HEAD, PATCH"),
    ],
)
async def test_a_wrong_method_is_told_all_that_the_path_takes(service: Service, path: str, allowed: str) -> None:
    response = await service.http.request("OPTIONS", path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["error"]["message"] == f"OPTIONS {path}: allowed is {allowed}"


async def test_more_requests_than_the_limit_are_asked_to_come_again(store: Store) -> None:
    service = await Service.start(store, concurrent=1)
    service.engine.token_delay = 60
    running = asyncio.create_task(service.http.post("/v1/chat/completions", json=CHAT))
    await service.engine.reaches(running=1)
    for body in (CHAT, {**CHAT, "stream": True}):
        response = await service.http.post("/v1/chat/completions", json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (429, "overloaded")
        assert response.headers["retry-after"] == "1"
    running.cancel()
    await asyncio.wait([running])
    await service.stop()


async def test_a_request_has_one_deadline(store: Store) -> None:
    service = await Service.start(store, replace(LIMITS, timeout_s=1.5))
    service.engine.token_delay = 60
    response = await service.http.post("/v1/chat/completions", json=CHAT)
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    response = await service.http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert (response.status_code, frames(response.text)[-1]) == (200, "[DONE]")
    assert frames(response.text)[-2]["error"]["code"] == "deadline_exceeded"
    assert service.engine.running == 0
    await service.stop()


async def test_the_openai_client_does_not_mind_signs_of_life(store: Store) -> None:
    service = await Service.start(store, replace(LIMITS, keep_alive_s=0.001))
    service.engine.token_delay = 0.02
    chunks = await chunks_of(await service.openai.chat.completions.create(model=SQL, messages=[USER], stream=True))
    assert text(chunks) == "sql heard: some sql please"
    await service.stop()


# Route, models, experts, health, metrics


async def test_route_tells_the_decision_and_generates_nothing(service: Service) -> None:
    for body in ({"prompt": USER["content"], "coe": {"k": 2}}, {**CHAT, "coe": {"k": 2}}):
        response = await service.http.post("/v1/route", json=body)
        route = response.json()
        assert (route["object"], route["experts"], route["aggregator"]) == ("route", [SQL, GENERALIST], "joined")
        assert route["explain"]["weights"] == {SQL: 0.5, GENERALIST: 0.5}
        assert response.headers["x-coe-expert"] == "sql,generalist"
    assert not service.engine.calls
    response = await service.http.post("/v1/route", json={"prompt": "x", "model": "nobody"})
    assert response.json()["error"]["code"] == "model_not_found"


async def test_a_router_that_fails_is_an_internal_error(service: Service) -> None:
    service.router.error = ZeroDivisionError("a secret of the inside")
    for path, body in (("/v1/route", {"prompt": "x"}), ("/v1/chat/completions", {**CHAT, "stream": True})):
        response = await service.http.post(path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in response.text


async def test_models_are_auto_and_the_experts(service: Service) -> None:
    models = await service.openai.models.list()
    assert [model.id for model in models.data] == ["auto", *REGISTRY.names]
    sql = await service.openai.models.retrieve(SQL)
    assert sql.model_extra is not None
    assert sql.model_extra["coe"]["context_length"] == 50
    assert sql.model_extra["coe"]["tags"] == ["code"]
    auto = await service.openai.models.retrieve("auto")
    assert auto.model_extra is not None
    assert auto.model_extra["coe"]["aggregators"] == ["joined", "first", "broken"]
    with pytest.raises(openai.NotFoundError, match="did you mean 'math'"):
        await service.openai.models.retrieve("maths")
    everything = (await service.http.get("/v1/models")).text
    assert "models/sql" not in everything
    assert "env:SECRET" not in everything


async def test_experts_tell_state_and_tier(service: Service) -> None:
    service.engine.fail_start(MATH, "no weights")
    await service.http.post("/v1/chat/completions", json=CHAT)
    told = (await service.http.get("/v1/experts")).json()
    experts = {expert["name"]: expert for expert in told["data"]}
    assert (experts[SQL]["state"], experts[SQL]["tier"], experts[SQL]["active"]) == ("ready", "device", True)
    assert (experts[MATH]["state"], experts[MATH]["tier"], experts[MATH]["active"]) == ("failed", None, False)
    assert experts[MATH]["why"] == "failed: no weights"
    assert told["families"]["small"]["active"] == SQL


async def test_swaps_are_the_events_of_all_families_in_their_order(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def happened(at: float, kind: str, image: str) -> SwapEvent:
        return SwapEvent(1, at, kind, image, "disk", "device", 7, 0.5, "why")

    def log(family: str, *events: SwapEvent) -> None:
        stats = WorkerStats(family, {}, events=events)
        monkeypatch.setattr(service.engines[family], "stats", AsyncMock(return_value=stats))

    log("small", happened(1.0, "loaded", SQL), happened(3.0, "swap", SQL))
    log("remote", happened(2.0, "note", REMOTE))
    told = (await service.http.get("/v1/swaps")).json()
    assert told["object"] == "list"
    assert [(event["family"], event["at"], event["kind"]) for event in told["data"]] == [
        ("small", 1.0, "loaded"),
        ("remote", 2.0, "note"),
        ("small", 3.0, "swap"),
    ]
    assert told["data"][0] == {"family": "small", **asdict(happened(1.0, "loaded", SQL))}


def test_the_docs_name_every_kind_of_event() -> None:
    from workers.images import ImageEvent

    kinds = {"swap", "woke", "slept", *get_args(get_type_hints(ImageEvent)["kind"])}
    [row] = [line for line in DOCS.read_text().splitlines() if "`/v1/swaps`" in line]
    assert {kind for kind in kinds if f"`{kind}`" not in row} == set()


async def test_health_needs_no_key_and_tells_who_cannot_answer(service: Service) -> None:
    client = service.http
    del client.headers["authorization"]
    for path in ("/health", "/health/live", "/health/ready"):
        assert (await client.get(path)).status_code == 200
    service.engine.fail_start(SQL, "no weights")
    for path in ("/health", "/health/ready"):
        response = await client.get(path)
        assert response.status_code == 503
        assert response.json()["not_ready"] == {SQL: "failed: no weights"}
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get("/health")).json()["store"] == "ok"


async def test_metrics_need_no_key_and_have_no_label_that_a_caller_made_up(service: Service) -> None:
    for body in (CHAT, {**CHAT, "model": "made-up-name"}, {**CHAT, "bad": 1}):
        await service.http.post("/v1/chat/completions", json=body)
    client = service.http
    del client.headers["authorization"]
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'coe_requests_total{expert="sql",key_class="normal",outcome="ok",route="auto"} 1.0' in response.text
    assert 'coe_errors_total{cause="model_not_found"} 1.0' in response.text
    assert 'coe_errors_total{cause="unknown_parameter"} 1.0' in response.text
    assert 'coe_expert_tier{expert="sql",family="small",tier="device"} 1.0' in response.text
    assert "made-up-name" not in response.text


# A deadline of one's own


async def test_a_request_may_bring_its_own_time_limit(service: Service) -> None:
    service.engine.token_delay = 60
    answer = await service.http.post("/v1/chat/completions", json=CHAT, headers={"x-coe-timeout-s": "0.3"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert service.engine.running == 0


async def test_a_time_limit_is_bounded_by_the_services(store: Store) -> None:
    service = await Service.start(store, replace(LIMITS, timeout_s=0.3))
    service.engine.token_delay = 60
    answer = await service.http.post("/v1/chat/completions", json=CHAT, headers={"x-coe-timeout-s": "1e9"})
    assert answer.status_code == 504
    await service.stop()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", ""])
async def test_a_time_limit_is_a_number_of_seconds(service: Service, seconds: str) -> None:
    answer = await service.http.post("/v1/chat/completions", json=CHAT, headers={"x-coe-timeout-s": seconds})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "x-coe-timeout-s")
    assert "allowed: seconds, more than 0, of which 60 count" in error["message"]
