"""What the client does again, against the real API: one execution for all tries, and waiting as the service says."""

import asyncio
from typing import Any

import httpx
import pytest

from coe_client import AsyncCoe, BadRequest, RateLimited
from orchestrator.access.grant import Grant
from tests.client.conftest import Served
from tests.client.virtual import Clock
from tests.orchestrator.parts import SQL


class LosesTheFirst(httpx.AsyncBaseTransport):
    """The network: the first answer is made and never arrives. keys, replayed: of each try."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.replayed: list[bool] = []
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers["idempotency-key"])
        response = await self._real.handle_async_request(request)
        self.replayed.append(response.headers.get("x-coe-replayed") == "true")
        if len(self.keys) == 1:
            await response.aread()
            await response.aclose()
            raise httpx.ReadError("lost on the way")
        return response

    async def aclose(self) -> None:
        await self._real.aclose()


@pytest.mark.parametrize(
    "method", ["chat", "chat_stream", "completions", "completions_stream", "responses", "responses_stream"]
)
async def test_two_tries_are_one_execution_and_one_answer(served: Served, method: str) -> None:
    network, clock = LosesTheFirst(), Clock()
    settings = clock.settings(blocking=False)
    async with AsyncCoe(served.url, served.service.key, transport=network, **settings) as coe:
        made = getattr(coe, method)("hi there", model=SQL)
        answer = await (made.read() if method.endswith("stream") else made)
    assert answer.text == "sql heard: hi there"
    assert served.service.engine.started == 1
    assert network.keys == [network.keys[0]] * 2
    assert network.replayed == [False, True]
    assert len(clock.slept) == 1


async def test_a_key_of_ones_own_is_one_execution_over_calls(served: Served) -> None:
    first = await served.coe.chat("hi", model=SQL, idempotency_key="order-7")
    second = await served.coe.chat("hi", model=SQL, idempotency_key="order-7")
    assert first.raw == second.raw
    assert served.service.engine.started == 1
    with pytest.raises(BadRequest, match="was used with another path or body"):
        await served.coe.chat("something else", model=SQL, idempotency_key="order-7")


async def test_two_requests_are_two_executions(served: Served) -> None:
    for _ in range(2):
        await served.coe.chat("hi", model=SQL)
    assert served.service.engine.started == 2


async def limited(served: Served, clock: Clock, **limits: Any) -> AsyncCoe:
    """A client whose key has these limits; its sleep takes no time."""
    key, _ = await served.service.keys.create("limited", Grant(limits=limits))
    return AsyncCoe(served.url, key, **clock.settings(blocking=False))


async def test_a_limit_of_a_day_is_told_at_once_since_the_service_says_so(served: Served) -> None:
    clock = Clock()
    async with await limited(served, clock, requests_per_day=1) as coe:
        await coe.chat("hi", model=SQL)
        with pytest.raises(RateLimited) as caught:
            await coe.chat("hi", model=SQL, timeout=1_000_000)
    assert caught.value.code == "requests_per_day_exceeded"
    assert caught.value.retry_after is not None
    assert caught.value.retry_after > 60
    assert clock.slept == [], "x-should-retry: false"


async def test_a_limit_that_is_soon_free_again_is_waited_for(served: Served) -> None:
    clock, engine = Clock(), served.service.engine
    async with await limited(served, clock, concurrent=1) as coe:
        await engine.sleep()
        running = asyncio.create_task(coe.chat("hi", model=SQL))
        await engine.reaches(running=1)
        with pytest.raises(RateLimited) as caught:
            await coe.chat("hi", model=SQL)
        await engine.wake()
        await running
    assert (caught.value.code, caught.value.retry_after) == ("concurrent_exceeded", 1)
    assert clock.slept == [1, 1]


async def test_an_expert_that_is_away_is_asked_again_when_the_service_said(served: Served) -> None:
    clock = Clock()
    served.service.engine.fail_next("expert_unavailable")
    async with AsyncCoe(served.url, served.service.key, **clock.settings(blocking=False)) as coe:
        assert (await coe.chat("hi", model=SQL)).text == "sql heard: hi"
    assert clock.slept == [30]
    assert (served.service.engine.failed, served.service.engine.finished) == (1, 1)


async def test_what_is_wrong_is_not_tried_again(served: Served) -> None:
    clock = Clock()
    async with AsyncCoe(served.url, served.service.key, **clock.settings(blocking=False)) as coe:
        with pytest.raises(BadRequest):
            await coe.responses("hi", model=SQL, temperature=9)
    assert clock.slept == []


async def test_the_same_request_twice_at_once_is_one_execution(served: Served) -> None:
    engine = served.service.engine
    await engine.sleep()
    first = asyncio.create_task(served.coe.chat("hi", model=SQL, idempotency_key="held"))
    await engine.reaches(running=1)
    second = asyncio.create_task(served.coe.chat("hi", model=SQL, idempotency_key="held"))
    await engine.wake()
    assert (await first).raw == (await second).raw
    assert engine.started == 1
