"""What is refused before anybody answers: a wrong body, model, path or method, and one request too many."""

import asyncio
import json
from collections.abc import AsyncIterator

import openai
import pytest

from orchestrator.store import Store
from tests.orchestrator.chat_parts import CHAT, USER
from tests.orchestrator.parts import SQL, Service

# What is asked


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


# Where it is asked


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


# When it is asked


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
