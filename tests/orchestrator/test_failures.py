"""What fails while an answer is made is an error status, or an error in a stream that has begun, without a secret."""

from typing import Any

import openai
import pytest

from tests.orchestrator.chat_parts import CHAT, USER, frames, text
from tests.orchestrator.parts import SQL, Service


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


async def test_a_router_that_fails_is_an_internal_error(service: Service) -> None:
    service.router.error = ZeroDivisionError("a secret of the inside")
    for path, body in (("/v1/route", {"prompt": "x"}), ("/v1/chat/completions", {**CHAT, "stream": True})):
        response = await service.http.post(path, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
        assert "secret" not in response.text
