"""Completions, responses, embeddings, routes, feedback, models, experts and health."""

import base64
import struct
from typing import Any

import pytest

from coe_client import InvalidAnswer, NotFound, Options, ToolCall
from coe_client.testing import MockService


def test_a_completion_continues_a_text() -> None:
    service = MockService()
    choice = {"index": 0, "text": " world", "finish_reason": "length", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    service.reply({"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], "usage": usage})
    with service.client() as coe:
        answer = coe.completions("hello", max_tokens=1, top_k=5)
    assert service.requests[0].path == "/v1/completions"
    assert service.requests[0].json == {"model": "auto", "prompt": "hello", "max_tokens": 1, "top_k": 5}
    assert (answer.text, answer.finish_reason, answer.id) == (" world", "length", "cmpl-1")


def response(**more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "input_tokens_details": {"cached_tokens": 2}}
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]}
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": [text],
        "usage": usage,
    } | more


def test_a_response_is_an_answer_like_any_other() -> None:
    service = MockService()
    service.reply(response(coe={"expert": "m", "request_id": "req-9"}))
    with service.client() as coe:
        answer = coe.responses("hi", instructions="be short", max_output_tokens=5, coe=Options(k=1))
    assert service.requests[0].path == "/v1/responses"
    assert service.requests[0].json == {
        "model": "auto",
        "input": "hi",
        "store": False,
        "instructions": "be short",
        "max_output_tokens": 5,
        "coe": {"k": 1},
    }
    assert (answer.text, answer.finish_reason, answer.request_id) == ("hello", "stop", "req-9")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 4, 7)
    assert answer.usage.cached_tokens == 2


@pytest.mark.parametrize(
    ("more", "finish_reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "in_progress"}, None),
    ],
)
def test_how_a_response_ended_is_told_in_the_words_of_chat(more: Any, finish_reason: str | None) -> None:
    service = MockService()
    service.reply(response(**more))
    with service.client() as coe:
        assert coe.responses("hi").finish_reason == finish_reason


def test_the_function_calls_of_a_response_are_tool_calls() -> None:
    service = MockService()
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
    service.reply(response(output=[{"type": "reasoning", "summary": []}, call]))
    with service.client() as coe:
        answer = coe.responses([{"role": "user", "content": "hi"}])
    assert answer.tool_calls == (ToolCall("call_1", "f", '{"a": 1}'),)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize("encoded", [False, True], ids=["float", "base64"])
def test_embeddings_are_floats_in_the_order_of_the_inputs(encoded: bool) -> None:
    def vector(*numbers: float) -> list[float] | str:
        return base64.b64encode(struct.pack("<2f", *numbers)).decode() if encoded else [*numbers]

    service = MockService()
    rows = [{"index": 1, "embedding": vector(0.5, -2)}, {"index": 0, "embedding": vector(1, 0.25)}]
    service.reply({"object": "list", "data": rows, "model": "e", "usage": {"prompt_tokens": 4, "total_tokens": 4}})
    with service.client() as coe:
        made = coe.embeddings(["a", "b"], model="e", encoding_format="base64" if encoded else "float")
    assert made.vectors == ((1, 0.25), (0.5, -2))
    assert made.usage is not None
    assert made.usage.prompt_tokens == 4
    assert service.requests[0].json["input"] == ["a", "b"]
    assert service.requests[0].json["model"] == "e"


@pytest.mark.parametrize("vector", ["not base64!", "AAA=", ["a"], 3])
def test_a_vector_that_is_none_is_no_answer(vector: Any) -> None:
    service = MockService()
    service.reply({"data": [{"index": 0, "embedding": vector}]})
    with service.client() as coe, pytest.raises(InvalidAnswer):
        coe.embeddings("a", model="e")


def test_a_route_tells_who_would_answer() -> None:
    service = MockService()
    service.reply(
        {
            "object": "route",
            "model": "auto",
            "expert": None,
            "experts": ["a", "b"],
            "category": "sql",
            "probabilities": {"sql": 1.0},
            "margin": 1.0,
            "reason": "because",
            "explain": {"weights": {"a": 0.6, "b": 0.4}, "removed": {"c": "deny"}},
        }
    )
    with service.client() as coe:
        route = coe.route("hi", coe=Options(k=2))
    assert service.requests[0].json == {
        "model": "auto",
        "messages": [{"role": "user", "content": "hi"}],
        "coe": {"k": 2},
    }
    assert (route.experts, route.category, route.reason, route.margin) == (("a", "b"), "sql", "because", 1.0)
    assert route.explain is not None
    assert route.explain["removed"] == {"c": "deny"}
    assert route.cost is None


def test_feedback_takes_an_answer_or_its_id() -> None:
    service = MockService()
    service.answer("a")
    row = {"object": "feedback", "id": "req-mock", "at": 1.5, "score": 1.0, "expert": "expert", "category": None}
    service.reply(row)
    service.reply(row | {"score": 0.25})
    with service.client() as coe:
        answer = coe.chat("hi")
        assert coe.feedback(answer, thumbs="up").score == 1
        assert coe.feedback("req-mock", score=0.25).expert == "expert"
    assert [request.json for request in service.requests[1:]] == [
        {"id": "chatcmpl-mock", "thumbs": "up"},
        {"id": "req-mock", "score": 0.25},
    ]


def test_a_decision_record_is_fetched_by_answer_or_id_and_listed() -> None:
    service = MockService()
    service.answer("a")
    row = {"object": "route.summary", "id": "req-mock", "created": 1.5, "outcome": "ok", "model": "auto", "score": None}
    coe_field = {"experts": ["a"], "reason": "because", "calls": [{"expert": "a", "phases": {"prefill": 0.25}}]}
    service.reply(row | {"object": "route.record", "prompt": None, "coe": coe_field})
    service.reply(row)
    service.reply({"object": "list", "data": [row], "first_id": "req-mock", "last_id": "req-mock", "has_more": False})
    with service.client() as coe:
        record = coe.explain(coe.chat("hi"))
        assert record.route is not None
        assert (record.route.reason, record.prompt) == ("because", None)
        assert record.route.calls[0].phases == {"prefill": 0.25}
        assert coe.explain("req-mock").outcome == "ok"
        [listed] = coe.routes(expert="a b", limit=5)
    assert (listed.id, listed.route, listed.score) == ("req-mock", None, None)
    assert [(request.method, request.path) for request in service.requests[1:]] == [
        ("GET", "/v1/routes/chatcmpl-mock"),
        ("GET", "/v1/routes/req-mock"),
        ("GET", "/v1/routes"),
    ]


def test_models_and_experts_are_listed() -> None:
    service = MockService()
    service.reply(
        {"data": [{"id": "auto", "object": "model", "created": 1, "owned_by": "coe", "coe": {"kind": "router"}}]}
    )
    expert = {"name": "a", "kind": "checkpoint", "family": "f", "state": "starting", "tier": None, "why": "loading"}
    service.reply({"data": [expert | {"active": False, "queued": 2, "description": "d"}], "families": {}})
    with service.client() as coe:
        [model], [state] = coe.models(), coe.experts()
    assert (model.id, model.coe["kind"]) == ("auto", "router")
    assert (state.name, state.state, state.tier, state.why, state.queued) == ("a", "starting", None, "loading", 2)
    assert [(request.method, request.path, request.content) for request in service.requests] == [
        ("GET", "/v1/models", b""),
        ("GET", "/v1/experts", b""),
    ]


def test_not_being_ready_is_an_answer_about_health() -> None:
    service = MockService()
    service.reply({"status": "not_ready", "live": True, "not_ready": {"a": "loading"}, "store": "ok"}, status=503)
    service.reply({"status": "ready", "live": True, "not_ready": {}, "store": "unreachable"})
    with service.client() as coe:
        before, after = coe.health(), coe.health()
    assert (before.ready, before.live, before.not_ready) == (False, True, {"a": "loading"})
    assert (after.ready, after.store) == (True, "unreachable")
    assert service.requests[0].path == "/health"


async def test_the_asynchronous_client_has_every_method() -> None:
    service = MockService()
    service.reply({"choices": [{"text": "a"}]})
    service.reply(response())
    service.reply({"data": [{"embedding": [1]}]})
    service.reply({"experts": ["a"]})
    service.reply({"id": "x", "score": 0})
    service.reply({"data": []})
    service.reply({"data": []})
    service.reply({"status": "ready"})
    service.error(404, "model_not_found")
    async with service.async_client() as coe:
        assert (await coe.completions("a")).text == "a"
        assert (await coe.responses("a")).text == "hello"
        assert (await coe.embeddings("a", model="e")).vectors == ((1,),)
        assert (await coe.route("a")).experts == ("a",)
        assert (await coe.feedback("x", score=0)).score == 0
        assert (await coe.models(), await coe.experts()) == ((), ())
        assert (await coe.health()).ready
        with pytest.raises(NotFound):
            await coe.chat("a")
