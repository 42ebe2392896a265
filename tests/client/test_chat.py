"""What a chat sends, and what comes back."""

import json
from typing import Any

import httpx
import pydantic
import pytest

from coe_client import AsyncCoe, Budget, Coe, ConfigError, InvalidAnswer, Options, ToolCall
from coe_client.testing import KEY, MockService


def test_a_string_is_a_message_of_the_user_to_auto() -> None:
    service = MockService()
    service.answer("SELECT 1", expert="smol-sql", category="sql", probabilities={"sql": 0.9, "general": 0.1})
    with service.client() as coe:
        answer = coe.chat("hello")
    [request] = service.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.json == {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("coe-client/")
    assert (answer.text, str(answer), answer.model, answer.finish_reason) == (
        "SELECT 1",
        "SELECT 1",
        "smol-sql",
        "stop",
    )
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 2, 5)
    assert answer.route is not None
    assert (answer.route.expert, answer.route.experts, answer.route.category) == ("smol-sql", ("smol-sql",), "sql")
    assert answer.route.probabilities == {"sql": 0.9, "general": 0.1}
    assert answer.route.reason == "smol-sql was put in by a test"
    assert (answer.route.used, answer.route.failed) == (("smol-sql",), {})
    assert answer.request_id == answer.route.request_id == "req-mock"
    assert answer.raw["object"] == "chat.completion"


async def test_the_asynchronous_client_sends_and_gets_the_same() -> None:
    service = MockService()
    service.answer("a")
    service.answer("a")
    with service.client() as coe:
        blocking = coe.chat("hello", seed=1)
    async with service.async_client() as acoe:
        awaited = await acoe.chat("hello", seed=1)
    assert awaited == blocking
    first, second = service.requests
    assert (first.path, first.json) == (second.path, second.json)


def test_fields_go_out_under_the_names_of_openai() -> None:
    service = MockService()
    service.answer("a")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    with service.client() as coe:
        coe.chat(
            [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
            model="smol-json",
            temperature=0,
            max_tokens=5,
            stop=["x"],
            n=1,
            logprobs=True,
            top_logprobs=2,
            tools=tools,
            tool_choice="auto",
            user="me",
            extra_body={"top_k": 3},
            extra_headers={"X-Trace": "7"},
        )
    [request] = service.requests
    assert request.headers["x-trace"] == "7"
    assert request.json == {
        "model": "smol-json",
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}],
        "temperature": 0,
        "max_tokens": 5,
        "stop": ["x"],
        "n": 1,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": tools,
        "tool_choice": "auto",
        "user": "me",
        "top_k": 3,
    }


def test_options_go_out_in_the_field_coe_without_what_is_not_given() -> None:
    service = MockService()
    service.answer("a")
    service.answer("a")
    options = Options(
        k=3, allow=("a", "b"), force=["a"], needs=["tools"], languages=[], budget=Budget(calls=4), explain=True
    )
    with service.client() as coe:
        coe.chat("hi", coe=options)
        coe.chat("hi", coe={"k": 2})
    assert service.requests[0].json["coe"] == {
        "k": 3,
        "allow": ["a", "b"],
        "force": ["a"],
        "needs": ["tools"],
        "languages": [],
        "budget": {"calls": 4},
        "explain": True,
    }
    assert service.requests[1].json["coe"] == {"k": 2}


def test_a_name_alone_is_not_a_list_of_its_letters() -> None:
    with pytest.raises(TypeError, match=r"allow is a list of names; got the string 'sql', write \['sql'\]"):
        Options(allow="sql")


def test_an_answer_of_several_experts_tells_what_each_call_cost() -> None:
    service = MockService()
    calls = [
        {"expert": "a", "role": "draft", "usage": {"prompt_tokens": 1}, "seconds": 0.5, "cost": 0.25, "error": None},
        {"expert": "b", "role": "draft", "usage": None, "seconds": 2.0, "cost": None, "error": "deadline"},
        {"expert": "a", "role": "judge", "usage": None, "seconds": 0.1, "cost": 0.5, "error": None},
    ]
    service.answer("x", expert=None, experts=["a", "b"], used=["a"], failed={"b": "deadline"}, calls=calls)
    with service.client() as coe:
        answer = coe.chat("hi")
    assert answer.route is not None
    assert answer.model == "auto"
    assert answer.route.expert is None
    assert answer.route.failed == {"b": "deadline"}
    assert [(call.expert, call.role, call.cost, call.error) for call in answer.route.calls] == [
        ("a", "draft", 0.25, None),
        ("b", "draft", None, "deadline"),
        ("a", "judge", 0.5, None),
    ]
    assert answer.cost == answer.route.cost == 0.75


def test_no_prices_are_not_a_price_of_zero() -> None:
    service = MockService()
    service.answer("x")
    with service.client() as coe:
        assert coe.chat("hi").cost is None


def test_tool_calls_are_typed_and_go_back_as_a_message() -> None:
    service = MockService()
    service.answer("", tool_calls=[("weather", {"city": "Rome"}), ("time", {})])
    service.answer("sunny")
    with service.client() as coe:
        answer = coe.chat("weather?")
        assert answer.tool_calls == (
            ToolCall("call_0", "weather", '{"city": "Rome"}'),
            ToolCall("call_1", "time", "{}"),
        )
        assert (answer.text, answer.finish_reason) == ("", "tool_calls")
        assert answer.tool_calls[0].parsed == {"city": "Rome"}
        coe.chat([answer.message, {"role": "tool", "tool_call_id": "call_0", "content": "22 C"}])
    sent = service.requests[1].json["messages"][0]
    assert sent["content"] is None
    assert sent["tool_calls"][0] == {
        "id": "call_0",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
    }


def test_arguments_that_are_no_json_are_told_when_they_are_parsed() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        _ = ToolCall("1", "f", "{nope").parsed


def test_several_choices_and_their_logprobs() -> None:
    service = MockService()
    logprobs = {"content": [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    choices = [
        {"index": 0, "message": {"content": "a", "role": "assistant"}, "logprobs": logprobs, "finish_reason": "stop"},
        {"index": 1, "message": {"content": "b", "role": "assistant"}, "logprobs": None, "finish_reason": "length"},
    ]
    service.reply({"id": "1", "model": "m", "choices": choices})
    with service.client() as coe:
        answer = coe.chat("hi", n=2, logprobs=True)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
    ]
    assert answer.logprobs == logprobs
    assert (answer.route, answer.usage) == (None, None)  # any service of OpenAI's protocol will do


class City(pydantic.BaseModel):
    name: str
    people: int


def test_a_pydantic_class_is_its_schema_and_reads_the_answer() -> None:
    service = MockService()
    service.answer(json.dumps({"name": "Rome", "people": 3}))
    with service.client() as coe:
        answer = coe.chat("Rome?", response_format=City)
    asked = service.requests[0].json["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["name"] == "City"
    assert asked["json_schema"]["schema"]["required"] == ["name", "people"]
    assert answer.parse(City) == City(name="Rome", people=3)


def test_what_a_later_service_adds_is_kept() -> None:
    service = MockService()
    service.answer("x", novelty={"a": 1})
    with service.client() as coe:
        answer = coe.chat("hi")
    assert answer.route is not None
    assert answer.route.model_extra == {"novelty": {"a": 1}}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>a proxy's page</html>", "<html>"),
        (b"", "''"),
        ([], "list"),
        ({"choices": None}, "'choices' must be a list"),
        ({"choices": [{"index": 0}]}, "neither 'message' nor 'text'"),
        ({"choices": [], "coe": {"experts": 3}}, "experts"),
        ({"choices": [], "usage": {"total_tokens": "many"}}, "total_tokens"),
        ({"choices": [{"message": {"content": "a", "tool_calls": [3]}}]}, "AttributeError"),
    ],
)
def test_what_is_no_answer_is_said_to_be_none(body: Any, why: str) -> None:
    service = MockService()
    service.reply(body)
    with service.client() as coe, pytest.raises(InvalidAnswer, match="none of this service") as caught:
        coe.chat("hi")
    assert why in str(caught.value)
    assert caught.value.request_id == "req-mock"
    assert len(service.requests) == 1  # asking again would give the same


# How the service is reached


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://a.test", "http://a.test/v1/models"),
        ("http://a.test/v1", "http://a.test/v1/models"),
        ("https://a.test:8443/coe/v1/", "https://a.test:8443/coe/v1/models"),
    ],
)
def test_the_url_is_given_with_or_without_v1(given: str, asked: str) -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200, json={"data": []})

    with Coe(given, "k", transport=httpx.MockTransport(handle)) as coe:
        coe.models()
    assert seen == [asked]


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_URL", "http://elsewhere.test:9000/v1")
    monkeypatch.setenv("COE_API_KEY", "of-the-environment")
    service = MockService()
    service.reply({"data": []})
    with Coe(transport=service.transport) as coe:
        coe.models()
        assert repr(coe) == "Coe(base_url='http://elsewhere.test:9000')"
    assert service.requests[0].headers["host"] == "elsewhere.test:9000"
    assert service.requests[0].headers["authorization"] == "Bearer of-the-environment"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://a.test", "http://", "http://a:b@c.test", "http://a.test:x"])
def test_a_url_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url") as caught:
        Coe(url, "secret-key")
    assert isinstance(caught.value, ValueError)
    assert "a:b" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nend", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AsyncCoe("http://a.test", key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"timeout": float("nan")}, {"max_retries": -1}])
def test_numbers_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Coe("http://a.test", "k", **settings)


def test_a_request_that_is_no_json_is_never_sent() -> None:
    service = MockService()
    with service.client() as coe:
        with pytest.raises(ConfigError, match="JSON"):
            coe.chat("hi", temperature=float("inf"))
        with pytest.raises(ConfigError, match="JSON"):
            coe.chat("hi", extra_body={"a": object()})
    assert service.requests == []


def test_a_proxy_is_asked_for_other_machines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test:1")
    with Coe("http://127.0.0.1:8000", "k") as near, Coe("http://far.test", "k") as far:
        assert near._http.trust_env is False
        assert far._http.trust_env is True


def test_a_client_of_yours_is_used_and_left_open() -> None:
    service = MockService()
    service.answer("a")
    with httpx.Client(transport=service.transport) as mine:
        with Coe("http://a.test", "k", http_client=mine) as coe:
            assert coe.chat("hi").text == "a"
        assert not mine.is_closed
