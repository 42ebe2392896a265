"""Many chats at once: order, bounds, progress, failures, and leaving early."""

import asyncio
import threading
from typing import Any

import httpx
import pytest

from coe_client import Answer, BadRequest, ConfigError, Progress
from coe_client.testing import MockService, Reply, Request, answered, replied


def asked(request: Request) -> str:
    content: str = request.json["messages"][-1]["content"]
    return content


def respond(request: Request) -> Reply:
    """Repeats what it hears, and refuses a 3."""
    if asked(request) == "3":
        return replied({"error": {"message": "no threes", "code": "invalid_value"}}, status=400)
    return answered(request, f"heard {asked(request)}")


def check(outcomes: list[Any], progress: list[Progress]) -> None:
    assert [o.text if isinstance(o, Answer) else str(o) for o in outcomes] == [
        f"heard {n}" if n != 3 else "400 invalid_value: no threes" for n in range(6)
    ]
    assert [one.done for one in progress] == [1, 2, 3, 4, 5, 6]
    assert {one.total for one in progress} == {6}
    assert progress[-1].failed == 1
    assert sorted(one.index for one in progress) == [*range(6)]
    assert all(outcomes[one.index] is one.outcome for one in progress)


async def test_order_is_kept_and_an_error_is_a_result() -> None:
    service, progress = MockService(respond), list[Progress]()
    prompts = [str(n) for n in range(6)]
    with service.client() as coe:
        check(coe.chat_many(prompts, concurrency=3, on_progress=progress.append), progress)
    progress.clear()
    async with service.async_client() as acoe:
        check(await acoe.chat_many(prompts, concurrency=3, on_progress=progress.append), progress)


def test_a_request_has_fields_of_its_own_over_those_of_all() -> None:
    service = MockService(respond)
    with service.client() as coe:
        coe.chat_many(
            ["a", {"messages": "b", "model": "smol-sql"}, [{"role": "user", "content": "c"}]], model="x", max_tokens=3
        )
    sent = {asked(request): (request.json["model"], request.json["max_tokens"]) for request in service.requests}
    assert sent == {"a": ("x", 3), "b": ("smol-sql", 3), "c": ("x", 3)}
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 3


def test_nothing_asked_is_nothing_answered() -> None:
    with MockService().client() as coe:
        assert coe.chat_many([]) == []


def test_what_cannot_be_sent_is_the_error_of_that_one_alone() -> None:
    service = MockService(respond)
    wrong: Any = {"model": "x"}
    with service.client() as coe:
        first, second = coe.chat_many([wrong, "b"])
    assert isinstance(first, ConfigError)
    assert isinstance(second, Answer)


def test_what_makes_no_sense_for_many_is_refused() -> None:
    with MockService().client() as coe:
        with pytest.raises(ConfigError, match="concurrency"):
            coe.chat_many(["a"], concurrency=0)
        with pytest.raises(ConfigError, match="one key for all"):
            coe.chat_many(["a"], idempotency_key="x")


async def test_no_more_than_asked_for_are_under_way() -> None:
    lock, now, most = threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def count(request: Request) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(10)  # so that three are under way at once
        with lock:
            now -= 1
        return respond(request)

    service = MockService(count)
    with service.client() as coe:
        assert len(await asyncio.to_thread(coe.chat_many, [str(n) for n in range(9)], concurrency=3)) == 9
    assert most == 3


async def test_no_more_tasks_than_asked_for_are_under_way() -> None:
    now = most = 0
    full = asyncio.Event()

    async def handle(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        await full.wait()
        now -= 1
        return httpx.Response(200, json={"choices": []})

    async with MockService().async_client(transport=httpx.MockTransport(handle)) as coe:
        assert len(await coe.chat_many(["x"] * 9, concurrency=3)) == 9
    assert most == 3


async def test_the_first_error_can_be_raised_and_nothing_more_begun() -> None:
    prompts = [str(n) for n in range(100)]
    service = MockService(respond)
    with service.client() as coe, pytest.raises(BadRequest, match="no threes"):
        coe.chat_many(prompts, concurrency=1, raise_errors=True)
    assert [asked(request) for request in service.requests] == ["0", "1", "2", "3"]
    service = MockService(respond)
    async with service.async_client() as acoe:
        with pytest.raises(BadRequest, match="no threes"):
            await acoe.chat_many(prompts, concurrency=1, raise_errors=True)
    assert [asked(request) for request in service.requests] == ["0", "1", "2", "3"]


class _Stop(Exception):
    pass


def test_a_callback_can_end_it() -> None:
    def stop(progress: Progress) -> None:
        raise _Stop

    service = MockService(respond)
    with service.client() as coe, pytest.raises(_Stop):
        coe.chat_many([str(n) for n in range(1000)], concurrency=1, on_progress=stop)
    assert len(service.requests) == 1


async def test_cancelling_it_cancels_the_requests_under_way() -> None:
    begun, cancelled = asyncio.Event(), 0

    async def handle(_: httpx.Request) -> httpx.Response:
        nonlocal cancelled
        begun.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        raise AssertionError

    async with MockService().async_client(transport=httpx.MockTransport(handle)) as coe:
        many = asyncio.create_task(coe.chat_many(["x"] * 5, concurrency=2))
        await begun.wait()
        many.cancel()
        with pytest.raises(asyncio.CancelledError):
            await many
    assert cancelled == 2


def test_a_mistake_in_the_program_is_raised_and_not_returned() -> None:
    def wrong(_: Request) -> Reply:
        raise ZeroDivisionError

    with MockService(wrong).client() as coe, pytest.raises(ZeroDivisionError):
        coe.chat_many(["a", "b"])
