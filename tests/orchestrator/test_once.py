"""Idempotency-Key: the same key twice is one execution and the same answer, whatever happens in between."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from redis import Redis

from orchestrator.access.once import Execution, Kept, Lost, Other, Running, claim
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.http.once import Rules
from orchestrator.store import Store
from tests.orchestrator.parts import MATH, SQL, Service

CHAT: dict[str, Any] = {"model": SQL, "messages": [{"role": "user", "content": "some sql please"}]}
PATH = "/v1/chat/completions"


async def post(service: Service, key: str = "k-1", **fields: Any) -> httpx2.Response:
    return await service.http.post(PATH, json={**CHAT, **fields}, headers={"Idempotency-Key": key})


def code(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@asynccontextmanager
async def started(store: Store, rules: Rules) -> AsyncIterator[Service]:
    service = await Service.start(store, once=rules)
    yield service
    await service.stop()


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    """The request is under way, and does not end by itself."""
    service.engine.token_delay = 600
    first = asyncio.create_task(post(service))
    await service.engine.reaches(1)
    yield
    first.cancel()
    await asyncio.wait([first])


async def test_the_same_key_twice_is_one_execution_and_the_same_answer(service: Service) -> None:
    first, second = await post(service), await post(service)
    assert first.content == second.content
    assert first.status_code == second.status_code == 200
    assert len(service.engine.calls) == 1
    assert "x-coe-replayed" not in first.headers
    assert second.headers["x-coe-replayed"] == "true"
    assert second.headers["x-coe-request-id"] == first.headers["x-coe-request-id"] != second.headers["x-request-id"]
    assert second.headers["x-coe-expert"] == SQL


async def test_a_stream_is_replayed_event_by_event(service: Service) -> None:
    first, second = await post(service, stream=True), await post(service, stream=True)
    assert first.text == second.text
    assert second.text.endswith("data: [DONE]\n\n")
    assert second.headers["content-type"] == first.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert len(service.engine.calls) == 1


async def test_tries_at_the_same_time_wait_for_the_one_that_runs(service: Service) -> None:
    service.engine.token_delay = 0.02
    answers = await asyncio.gather(*(post(service) for _ in range(5)))
    assert len({answer.content for answer in answers}) == 1
    assert len(service.engine.calls) == 1


async def test_a_try_waits_no_longer_than_its_own_deadline(service: Service) -> None:
    async with running(service):
        headers = {"Idempotency-Key": "k-1", "x-coe-timeout-s": "0.05"}
        answer = await service.http.post(PATH, json=CHAT, headers=headers)
        assert code(answer) == (409, "idempotency_running")
        wrong = await service.http.post(PATH, json=CHAT, headers={**headers, "x-coe-timeout-s": "soon"})
        assert code(wrong) == (400, "invalid_value")
    assert len(service.engine.calls) == 1


async def test_the_next_gateway_gives_the_same_answer(service: Service, store: Store) -> None:
    first = await post(service)
    other = await Service.start(store, key=service.key)
    assert (await post(other)).content == first.content
    assert len(other.engine.calls) == 0
    await other.stop()


@pytest.mark.parametrize("fields", [{"model": MATH}, {"stream": True}, {"temperature": 0.5}])
async def test_another_body_under_the_same_key_is_an_error(service: Service, fields: dict[str, Any]) -> None:
    await post(service)
    assert code(await post(service, **fields)) == (422, "idempotency_mismatch")
    assert len(service.engine.calls) == 1


async def test_another_caller_has_keys_of_its_own(service: Service) -> None:
    first = await post(service)
    service.key, _ = await service.keys.create("other")
    assert (await post(service)).content != first.content


async def test_a_rotated_api_key_is_the_same_caller(service: Service) -> None:
    first = await post(service)
    service.key, _ = await service.keys.rotate("test")
    assert (await post(service)).content == first.content


async def test_nobody_is_answered_without_a_valid_api_key(service: Service) -> None:
    await post(service)
    await service.keys.revoke("test")
    assert code(await post(service)) == (401, "invalid_api_key")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_is_not_kept(service: Service, stream: bool) -> None:
    service.engine.fail_next("internal", after=1)
    assert "internal_error" in (await post(service, stream=stream)).text
    assert (await post(service, stream=stream)).status_code == 200
    assert len(service.engine.calls) == 2


async def test_what_is_refused_may_be_sent_again(service: Service) -> None:
    service.engine.fail_next("overloaded")
    assert code(await post(service)) == (429, "overloaded")
    assert code(await post(service, k=1)) == (400, "unknown_parameter")  # nothing is kept of either
    assert (await post(service)).status_code == 200


@pytest.mark.parametrize("key", ["", "two words", "x" * 256])
async def test_a_key_is_of_printable_characters(service: Service, key: str) -> None:
    answer = await post(service, key)
    assert code(answer) == (400, "invalid_value")
    assert "1 to 255 printable ASCII characters" in answer.json()["error"]["message"]


async def test_an_answer_that_is_too_large_is_told_and_not_executed_again(store: Store) -> None:
    async with started(store, Rules(max_bytes=100)) as service:
        assert (await post(service)).status_code == 200
        assert code(await post(service)) == (409, "idempotency_lost")
        assert len(service.engine.calls) == 1


async def test_a_try_that_waits_too_long_for_another_is_told(store: Store) -> None:
    async with started(store, Rules(wait_s=0.05)) as service, running(service):
        assert code(await post(service)) == (409, "idempotency_running")


async def test_switched_off_the_header_has_no_effect(store: Store) -> None:
    async with started(store, Rules(enabled=False)) as service:
        assert (await post(service)).content != (await post(service)).content


async def test_answers_that_hold_new_keys_are_never_kept(service: Service, redis_url: str) -> None:
    from orchestrator.access.grant import Grant

    service.key, _ = await service.keys.create("ops", Grant(admin=True))
    made = [
        await service.http.post("/admin/v1/keys", json={"name": "x"}, headers={"Idempotency-Key": "k-1"})
        for _ in range(2)
    ]
    assert made[0].json()["key"] != made[1].json()["key"]
    with Redis.from_url(redis_url) as redis:
        assert not redis.keys("coe:once:*")
        redis.connection_pool.disconnect()


async def test_what_is_kept_has_the_answer_but_not_the_prompt_and_expires(service: Service, redis_url: str) -> None:
    service.engine.answer = lambda call: "forty-two"
    await post(service, messages=[{"role": "user", "content": "a question of mine"}])
    with Redis.from_url(redis_url, decode_responses=True) as redis:
        [name] = redis.keys("coe:once:*")
        kept = str(redis.hgetall(name))
        assert "forty-two" in kept
        assert "question" not in kept
        assert service.key not in kept
        assert 86_000 < redis.ttl(name) <= 86_400
        redis.connection_pool.disconnect()


# Crashes and absences


async def test_after_a_crash_the_next_try_executes(service: Service, store: Store) -> None:
    """The lease of a gateway that renews none any more ends."""
    info = await service.keys.find("test")
    body = PATH.encode() + b"\n" + httpx2.Request("POST", "http://coe", json=CHAT).content
    assert isinstance(await claim(store, info.lineage, "k-1", body, lease_s=0.3), Execution)
    assert isinstance(await claim(store, info.lineage, "k-1", body), Running)
    answer = await post(service)
    assert answer.status_code == 200
    assert len(service.engine.calls) == 1


async def test_a_long_execution_keeps_its_lease(store: Store) -> None:
    execution = await claim(store, "a", "k", b"", lease_s=0.3)
    assert isinstance(execution, Execution)
    async with execution.held():
        await asyncio.sleep(0.7)
        assert isinstance(await claim(store, "a", "k", b"", lease_s=0.3), Running)
    await execution.keep(Kept(200, (("x", "y"),), "é"), 10)
    assert await claim(store, "a", "k", b"") == Kept(200, (("x", "y"),), "é")
    assert await claim(store, "a", "k", b"other") == Other()


async def test_one_that_lost_its_lease_does_not_overwrite_the_answer(store: Store) -> None:
    slow = await claim(store, "a", "k", b"", lease_s=0.05)
    await asyncio.sleep(0.1)
    fast = await claim(store, "a", "k", b"")
    assert isinstance(slow, Execution)
    assert isinstance(fast, Execution)
    await slow.keep(Lost(), 10)
    await slow.forget()
    assert isinstance(await claim(store, "a", "k", b""), Running)
    await fast.keep(Lost(), 10)
    assert await claim(store, "a", "k", b"") == Lost()


@asynccontextmanager
async def left(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that has just left its request, over a real socket; it asks under the same key again."""
    server = uvicorn.Server(uvicorn.Config(service.app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"authorization": f"Bearer {service.key}", "Idempotency-Key": "k-1"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        leaving = asyncio.create_task(client.post(PATH, json=CHAT))
        await service.engine.reaches(1)
        leaving.cancel()
        await asyncio.wait([leaving])
        yield client
    server.should_exit = True
    await serving


async def test_a_client_that_leaves_gets_the_answer_at_its_next_try(service: Service) -> None:
    service.engine.token_delay = 0.1
    async with left(service) as client:
        answer = await client.post(PATH, json=CHAT)
    assert answer.json()["choices"][0]["message"]["content"] == "sql heard: some sql please"
    assert answer.headers["x-coe-replayed"] == "true"
    assert (len(service.engine.calls), service.engine.aborted) == (1, 0)


async def test_what_nobody_comes_back_for_is_given_up_and_executed_by_a_later_try(store: Store) -> None:
    service = await Service.start(store, once=Rules(linger_s=0.05))
    service.engine.token_delay = 600
    async with left(service) as client:
        await service.engine.reaches(0)
        service.engine.token_delay = 0
        answer = await client.post(PATH, json=CHAT)
    assert answer.json()["choices"][0]["message"]["content"] == "sql heard: some sql please"
    assert "x-coe-replayed" not in answer.headers
    assert (len(service.engine.calls), service.engine.aborted) == (2, 1)
    await service.stop()


@pytest.mark.parametrize(("closed", "status"), [(True, 503), (False, 200)])
async def test_with_redis_killed_it_is_refused_or_as_without_the_header(
    tmp_path: Path, closed: bool, status: int
) -> None:
    server = EmbeddedRedis(tmp_path)
    store = Store(server.start(), timeout=30)
    try:
        async with started(store, Rules(closed=closed)) as service:
            await service.http.get("/v1/models")  # the API key is known from now on
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            while server.pid is not None:
                await asyncio.sleep(0.01)
            answers = [await post(service) for _ in range(2)]
            assert [answer.status_code for answer in answers] == [status, status]
            assert len(service.engine.calls) == (0 if closed else 2)
    finally:
        await store.close()
        server.stop()
