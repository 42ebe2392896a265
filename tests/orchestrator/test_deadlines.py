"""A request has one deadline: the service's, or an earlier one that it brings."""

from dataclasses import replace

import pytest

from orchestrator.store import Store
from tests.orchestrator.chat_parts import CHAT, frames
from tests.orchestrator.parts import LIMITS, Service


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
