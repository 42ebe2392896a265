"""Over a real socket: bytes arrive as they are made, and a client that leaves aborts its request in the engine."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from orchestrator.http.guards import Bounds
from orchestrator.http.server import make_server
from orchestrator.store import Store
from tests.orchestrator.parts import LIMITS, SQL, Service

CHAT = {"model": SQL, "messages": [{"role": "user", "content": "a b c d e f"}]}


@pytest_asyncio.fixture
async def served(store: Store) -> AsyncIterator[tuple[Service, httpx2.AsyncClient]]:
    service = await Service.start(store, replace(LIMITS, keep_alive_s=0.05))
    server = make_server(service.app, Bounds())
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    headers = {"authorization": f"Bearer {service.key}"}
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        yield service, client
    server.should_exit = True
    await serving
    await service.stop()


async def test_a_stream_whose_client_leaves_between_tokens_is_aborted(
    served: tuple[Service, httpx2.AsyncClient],
) -> None:
    service, client = served
    service.engine.token_delay = 0.05
    async with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        async for line in response.aiter_lines():
            if "heard" in line:
                break
        assert service.engine.running == 1
    await service.engine.reaches(running=0)
    assert (service.engine.aborted, service.engine.finished) == (1, 0)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_in_a_silence_aborts_its_request(
    served: tuple[Service, httpx2.AsyncClient], streamed: bool
) -> None:
    service, client = served
    service.engine.token_delay = 600
    request = asyncio.create_task(client.post("/v1/chat/completions", json={**CHAT, "stream": streamed}))
    await service.engine.reaches(running=1)
    request.cancel()
    await asyncio.wait([request])
    await service.engine.reaches(running=0)
    assert service.engine.aborted == 1
    assert (await client.get("/health/live")).status_code == 200


async def test_a_cold_expert_has_headers_and_signs_of_life_before_the_answer(
    served: tuple[Service, httpx2.AsyncClient],
) -> None:
    service, client = served
    service.engine.fail_next("engine_starting", times=10**6)
    async with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as response:
        assert response.headers["x-coe-expert"] == SQL
        seen = ""
        async for part in response.aiter_text():
            seen += part
            if seen.count(": keep-alive\n\n") == 3:
                service.engine.heal()
    assert '"role":"assistant"' in seen.partition(": keep-alive")[0]
    assert '"content":" heard:"' in seen.rpartition(": keep-alive")[2]
    assert seen.endswith("data: [DONE]\n\n")


async def test_a_slow_router_does_not_hold_the_stream_back(
    served: tuple[Service, httpx2.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, client = served
    decided, route = threading.Event(), service.router.route

    def slow(*args: Any) -> Any:
        decided.wait(60)
        return route(*args)

    monkeypatch.setattr(service.router, "route", slow)
    body = {**CHAT, "model": "auto", "stream": True}
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert [name for name in response.headers if name.startswith("x-coe-")] == ["x-coe-request-id"]
        seen = ""
        async for part in response.aiter_text():
            seen += part
            decided.set()
    assert seen.startswith(": keep-alive\n\n")
    assert '"role":"assistant"' in seen
    assert seen.endswith("data: [DONE]\n\n")


async def test_a_body_over_the_limit_in_chunks_is_refused_before_it_ends(
    served: tuple[Service, httpx2.AsyncClient],
) -> None:
    _, client = served
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000_000:
            sent += 10_000
            yield b" " * 10_000

    try:
        response = await client.post("/v1/chat/completions", content=endless())
    except httpx2.NetworkError:
        pass  # the connection was closed while the client was still writing
    else:
        assert response.status_code == 413
    assert sent < 100_000_000


async def test_a_client_that_leaves_while_it_sends_is_no_error(served: tuple[Service, httpx2.AsyncClient]) -> None:
    service, client = served
    port = client.base_url.port
    assert port
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {service.key}\r\n"
    writer.write(head.encode() + b"content-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await client.get("/health/live")).status_code == 200
    errors = re.findall(r"^coe_errors_total.* ([0-9.]+)$", service.metrics.render({}).decode(), re.M)
    assert not any(map(float, errors))
