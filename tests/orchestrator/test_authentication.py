"""Without a valid key nothing is told, and a key that cannot be looked up is no fault of its holder."""

from typing import Any

import pytest

from orchestrator.store import Store
from tests.orchestrator.parts import Service


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
