"""The circuit breaker of a remote expert: by itself with a clock that the test turns, and in the service."""

import time
from typing import Any

import pytest

from orchestrator.access.breaker import LAST, Breaker, Rules
from orchestrator.events import Answered, Ask
from orchestrator.pipeline import Pipeline
from orchestrator.store import Store
from tests.orchestrator.parts import GENERALIST, REMOTE, SQL, Service
from workers.base import Failure

RULES = Rules(failures=3, share=0.5, cooldown_s=10, longest_s=35)


def request(breaker: Breaker, now: float, *, fails: bool) -> bool:
    """A request that is answered or fails, if it may begin; did it?"""
    if breaker.enter(now):
        return False
    breaker.failed(now) if fails else breaker.answered()
    breaker.left()
    return True


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(3):
        request(breaker, now, fails=True)
    return breaker


def test_so_many_failures_in_a_row_open_it() -> None:
    breaker = Breaker(RULES)
    for fails in (True, True, False, True, True):
        request(breaker, 0, fails=fails)
    assert breaker.state(0) == "closed"
    request(breaker, 0, fails=True)
    assert breaker.state(0) == "open"
    assert breaker.enter(4) == "its provider failed, 3 times in a row; it is tried again in 6 s"


def test_a_share_of_failures_opens_it_too_once_there_are_enough_requests() -> None:
    breaker = Breaker(RULES)
    for _ in range(LAST // 4):
        for fails in (True, True, False, False):
            assert breaker.state(0) == "closed"
            request(breaker, 0, fails=fails)
    request(breaker, 0, fails=True)
    assert breaker.state(0) == "open"


def test_after_the_cooldown_one_request_tries_it() -> None:
    breaker = opened()
    assert not request(breaker, 9.9, fails=False)
    assert breaker.state(10) == "half_open"
    assert breaker.problem(10) is None
    assert breaker.enter(10) is None
    assert breaker.enter(10) == "its provider failed, 3 times in a row; it is tried again just now"
    breaker.answered()
    assert (breaker.state(10), breaker.enter(10)) == ("closed", None)


def test_one_that_fails_opens_it_for_twice_as_long_up_to_a_bound() -> None:
    breaker, now = opened(), 0.0
    for cooldown in (10, 20, 35, 35):
        assert not request(breaker, now + cooldown - 0.1, fails=True)
        now += cooldown
        assert request(breaker, now, fails=True)
    assert request(breaker, now + 35, fails=False)
    for _ in range(3):
        request(breaker, now + 35, fails=True)
    assert breaker.state(now + 44.9) == "open"
    assert breaker.state(now + 45) == "half_open"  # it begins anew with the first cooldown


def test_one_that_left_without_telling_anything_makes_way_for_the_next() -> None:
    breaker = opened()
    assert breaker.enter(10) is None
    breaker.left()
    assert breaker.enter(10) is None


def test_what_began_before_it_was_opened_does_not_prolong_it() -> None:
    breaker = opened()
    breaker.failed(5)
    assert breaker.state(10) == "half_open"


# In the service


def ask(model: str, prompt: str = "remote or sql", **fields: Any) -> Ask:
    return Ask("req-1", model, ({"role": "user", "content": prompt},), prompt, time.time() + 60, **fields)


async def last(pipeline: Pipeline, model: str) -> Any:
    return [event async for event in pipeline.run(ask(model))][-1]


async def test_an_open_expert_is_left_alone_and_told(store: Store) -> None:
    service = await Service.start(store)
    engine = service.engines[REMOTE]
    engine.fail_next("expert_unavailable", "the remote expert remote failed: ServerError", times=5)
    for _ in range(5):
        assert isinstance(await last(service.pipeline, REMOTE), Failure)
    assert len(engine.calls) == 5
    refused = await last(service.pipeline, REMOTE)
    assert refused.code == "expert_unavailable"
    assert "its provider failed, 5 times in a row; it is tried again in" in refused.message
    assert len(engine.calls) == 5
    routed = await service.pipeline.decide(ask("auto", "remote please"))
    assert REMOTE not in routed.route.experts
    assert routed.removed[REMOTE].startswith("outage: its provider failed")

    rows = {row["name"]: row["circuit"] for row in (await service.http.get("/v1/experts")).json()["data"]}
    assert (rows[REMOTE], rows[SQL], rows[GENERALIST]) == ("open", None, None)
    assert 'coe_expert_circuit{expert="remote"} 2.0' in (await service.http.get("/metrics")).text
    await service.stop()


@pytest.mark.parametrize("code", ["invalid_request", "prompt_too_long", "deadline", "overloaded", "internal"])
async def test_what_is_not_the_providers_fault_opens_nothing(store: Store, code: Any) -> None:
    service = await Service.start(store)
    service.engines[REMOTE].fail_next(code, times=10)
    for _ in range(10):
        await last(service.pipeline, REMOTE)
    assert isinstance(await last(service.pipeline, REMOTE), Answered)
    await service.stop()


async def test_experts_of_ones_own_have_no_breaker(service: Service) -> None:
    service.engine.fail_next("expert_unavailable", times=10)
    for _ in range(10):
        await last(service.pipeline, SQL)
    assert isinstance(await last(service.pipeline, SQL), Answered)
