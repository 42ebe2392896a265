"""/v1/feedback, over the real API and a real Redis."""

from typing import Any

import pytest
from redis import Redis

from orchestrator import store as store_module
from orchestrator.access.grant import Grant
from orchestrator.store import Store
from tests.orchestrator.parts import SQL, Service


async def answered(service: Service) -> str:
    """The id of an answer of sql's."""
    messages: Any = [{"role": "user", "content": "some sql please"}]
    answer = await service.openai.chat.completions.create(model="auto", messages=messages)
    await service.pipeline.drain()
    return str(answer.id)


@pytest.mark.parametrize(
    ("said", "score"), [({"score": 0.25}, 0.25), ({"thumbs": "up"}, 1.0), ({"thumbs": "down", "score": None}, 0.0)]
)
async def test_a_word_on_an_answer_is_kept_with_who_gave_it(
    service: Service, said: dict[str, Any], score: float
) -> None:
    answer_id = await answered(service)
    answer = await service.http.post("/v1/feedback", json={"id": answer_id, **said})
    assert answer.status_code == 200
    row = answer.json()
    assert row.pop("object") == "feedback"
    assert {name: value for name, value in row.items() if name != "at"} == {
        "id": "req-" + answer_id.removeprefix("chatcmpl-"),
        "score": score,
        "expert": SQL,
        "category": service.router.category,
    }
    assert (await service.http.get("/v1/feedback")).json() == {"object": "list", "data": [row]}
    [kept] = await service.store.feedback()
    assert kept == row | {"key": (await service.keys.list())[0].lineage}


async def test_the_request_id_is_as_good_and_the_last_word_counts(service: Service) -> None:
    answer_id = await answered(service)
    await service.http.post("/v1/feedback", json={"id": answer_id, "thumbs": "up"})
    request_id = answer_id.replace("chatcmpl-", "req-")
    await service.http.post("/v1/feedback", json={"id": request_id, "thumbs": "down"})
    assert [(row["id"], row["score"]) for row in await service.store.feedback()] == [(request_id, 0.0)]


@pytest.mark.parametrize("answer_id", ["chatcmpl-0123", "req-9", "x", "é" * 100, "*", "coe:keys"])
async def test_an_unknown_answer_is_not_found(service: Service, answer_id: str) -> None:
    answer = await service.http.post("/v1/feedback", json={"id": answer_id, "thumbs": "up"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["code"], error["type"], error["param"]) == ("answer_not_found", "invalid_request_error", "id")
    assert await service.store.feedback() == []


async def test_an_answer_to_another_key_is_as_unknown_except_for_an_admin(service: Service) -> None:
    answer_id = await answered(service)
    other, _ = await service.keys.create("other")
    admin, _ = await service.keys.create("admin", Grant(admin=True))
    said = {"id": answer_id, "thumbs": "down"}
    foreign = await service.http.post("/v1/feedback", json=said, headers={"authorization": f"Bearer {other}"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (404, "answer_not_found")
    assert await service.store.feedback() == []
    allowed = await service.http.post("/v1/feedback", json=said, headers={"authorization": f"Bearer {admin}"})
    assert allowed.status_code == 200


async def test_a_request_without_an_answer_cannot_be_judged(service: Service) -> None:
    service.engine.fail_next("deadline")
    answer = await service.http.post(
        "/v1/chat/completions", json={"model": SQL, "messages": [{"role": "user", "content": "x"}]}
    )
    await service.pipeline.drain()
    request_id = answer.headers["x-request-id"]
    answer = await service.http.post("/v1/feedback", json={"id": request_id, "thumbs": "up"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"id: '{request_id}' has no answer to judge; its outcome was 'deadline'"


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({}, "invalid_value", "id: field required"),
        ({"id": 5, "thumbs": "up"}, "invalid_value", "id: input should be a valid string; got 5"),
        ({"id": "", "thumbs": "up"}, "invalid_value", "id: string should have at least 1 character"),
        ({"id": "x" * 101, "thumbs": "up"}, "invalid_value", "id: string should have at most 100 characters"),
        ({"id": "x"}, "invalid_value", "give one of 'score', from 0 to 1, and 'thumbs'"),
        ({"id": "x", "thumbs": "up", "score": 1}, "invalid_value", "give one of 'score', from 0 to 1, and 'thumbs'"),
        ({"id": "x", "thumbs": "sideways"}, "invalid_value", "thumbs: input should be 'up' or 'down'"),
        ({"id": "x", "score": 1.5}, "invalid_value", "score: input should be less than or equal to 1; got 1.5"),
        ({"id": "x", "score": "1"}, "invalid_value", "score: input should be a valid number; got '1'"),
        ({"id": "x", "score": True}, "invalid_value", "score: input should be a valid number; got True"),
        ({"id": "x", "thumbs": "up", "stars": 5}, "unknown_parameter", "unknown field 'stars'"),
        ([], "invalid_json", "the body must be a JSON object; got []"),
    ],
)
async def test_what_is_wrong_is_told(service: Service, body: Any, code: str, told: str) -> None:
    answer = await service.http.post("/v1/feedback", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert told in answer.json()["error"]["message"]


async def test_it_needs_a_key_and_a_body_within_the_limit(service: Service) -> None:
    client = service.http
    big = await client.post("/v1/feedback", content=b"x" * 30_000)
    assert big.status_code == 413
    del client.headers["authorization"]
    for method in ("GET", "POST"):
        assert (await client.request(method, "/v1/feedback")).status_code == 401


async def test_feedback_is_bounded_and_expires(store: Store, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_FEEDBACK", 5)
    now = 1_700_000_000.0
    for number in range(12):
        await store.put_feedback(f"req-{number}", {"n": number}, now + number)
    assert await store.feedback() == [{"n": number} for number in range(7, 12)]
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        assert sorted(redis.keys("coe:feedback:*")) == sorted(f"coe:feedback:req-{n}" for n in range(7, 12))
        assert redis.zcard("coe:feedbacks") == 5
        assert 0 < redis.ttl("coe:feedback:req-11") <= store_module.FEEDBACK_TTL_S
        redis.delete("coe:feedback:req-11")  # as if expired
        redis.connection_pool.disconnect()
    assert await store.feedback() == [{"n": number} for number in range(7, 11)]
    await store.put_feedback("req-99", {"n": 99}, now + store_module.FEEDBACK_TTL_S + 9.5)
    assert await store.feedback() == [{"n": 10}, {"n": 99}], "an index entry goes with its row"
