"""ChatCoE beyond LangChain's standard tests: what is sent, and what an answer tells."""

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from pydantic import BaseModel

from coe_client import Options, RateLimited, StreamBroken
from coe_client.langchain import ChatCoE
from coe_client.langchain_messages import messages_of
from coe_client.testing import MockService


def model_of(service: MockService, **settings: Any) -> ChatCoE:
    return ChatCoE(client=service.client(max_retries=0), async_client=service.async_client(max_retries=0), **settings)


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def test_an_answer_tells_its_route_and_its_tokens() -> None:
    service = MockService()
    calls = [{"expert": "smol-sql", "role": "answer", "cost": 0.25}]
    service.answer("SELECT 1", expert="smol-sql", category="sql", usage=(7, 3), calls=calls)
    message = model_of(service).invoke("hi")
    assert message.content == "SELECT 1"
    assert message.id == "chatcmpl-mock"
    metadata = message.response_metadata
    assert (metadata["model_name"], metadata["finish_reason"], metadata["request_id"]) == (
        "smol-sql",
        "stop",
        "req-mock",
    )
    assert (metadata["route"]["category"], metadata["route"]["expert"], metadata["route"]["cost"]) == (
        "sql",
        "smol-sql",
        0.25,
    )
    assert message.usage_metadata == {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "input_token_details": {"cache_read": 0},
    }


def test_chunks_add_up_to_the_answer() -> None:
    service = MockService()
    for _ in range(2):
        service.answer("one two three", category="x", tool_calls=[("f", {"a": 1})])
    model = model_of(service)
    total: Any = None
    for chunk in model.stream("hi"):
        total = chunk if total is None else total + chunk
    whole = model.invoke("hi")
    assert isinstance(total, AIMessageChunk)
    assert (total.content, total.tool_calls, total.usage_metadata) == (
        whole.content,
        whole.tool_calls,
        whole.usage_metadata,
    )
    assert total.response_metadata == whole.response_metadata


def test_settings_are_sent_and_those_of_a_call_go_before() -> None:
    service = MockService()
    service.answer("a")
    service.answer("a")
    model = model_of(
        service,
        model="auto",
        temperature=0.5,
        max_tokens=7,
        stop=["x"],
        seed=1,
        coe=Options(k=3),
        model_kwargs={"priority": 2},
    )
    model.invoke("hi")
    model.invoke("hi", stop=["y"], model="smol-sql", temperature=0, coe=Options(explain=True))
    first, second = (request.json for request in service.requests)
    message = {"role": "user", "content": "hi"}
    assert first == {
        "model": "auto",
        "messages": [message],
        "temperature": 0.5,
        "max_tokens": 7,
        "stop": ["x"],
        "seed": 1,
        "coe": {"k": 3},
        "priority": 2,
    }
    assert second == first | {"stop": ["y"], "model": "smol-sql", "temperature": 0, "coe": {"explain": True}}


def test_every_kind_of_message_is_one_of_openai() -> None:
    call = {"name": "weather", "args": {"city": "Rome"}, "id": "1", "type": "tool_call"}
    wrong = {"name": "weather", "args": "{nope", "id": "2", "error": "no JSON", "type": "invalid_tool_call"}
    messages: list[BaseMessage] = [
        SystemMessage("be short"),
        HumanMessage("hi", name="mia"),
        HumanMessage([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:x"}}]),
        AIMessage("", tool_calls=[call], invalid_tool_calls=[wrong]),
        ToolMessage("sunny", tool_call_id="1", name="weather"),
        AIMessage([{"type": "text", "text": "it is "}, {"type": "text", "text": "sunny"}]),
        FunctionMessage(content="3", name="add"),
        ChatMessage(content="rules", role="developer"),
    ]

    def function(arguments: str) -> dict[str, str]:
        return {"name": "weather", "arguments": arguments}

    assert messages_of(messages) == [
        {"role": "system", "content": "be short"},
        {"role": "user", "name": "mia", "content": "hi"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:x"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"type": "function", "id": "1", "function": function('{"city": "Rome"}')},
                {"type": "function", "id": "2", "function": function("{nope")},
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
        {"role": "assistant", "content": "it is sunny"},
        {"role": "function", "name": "add", "content": "3"},
        {"role": "developer", "content": "rules"},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("any", "required"),
        (True, "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
        (None, None),
    ],
)
def test_tools_and_their_choice_are_sent_as_openai_has_them(choice: Any, sent: Any) -> None:
    service = MockService()
    service.answer("", tool_calls=[("weather", {"city": "Rome"})])
    model = model_of(service).bind_tools([weather], tool_choice=choice, parallel_tool_calls=False)
    message = model.invoke("weather?")
    assert message.tool_calls == [{"name": "weather", "args": {"city": "Rome"}, "id": "call_0", "type": "tool_call"}]
    body = service.requests[0].json
    assert body["tools"][0]["function"]["name"] == "weather"
    assert body["tools"][0]["function"]["parameters"]["required"] == ["city"]
    assert body.get("tool_choice") == sent
    assert body["parallel_tool_calls"] is False


def test_a_choice_that_is_no_tool_is_refused() -> None:
    with pytest.raises(ValueError, match=r'tool_choice: got "wether"; allowed are .*weather'):
        model_of(MockService()).bind_tools([weather], tool_choice="wether")


def test_arguments_that_are_no_json_object_are_an_invalid_call() -> None:
    service = MockService()
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": text}} for text in ("{no", "[1]")]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    service.reply(
        {"id": "1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    )
    answer = model_of(service).invoke("hi")
    assert answer.tool_calls == []
    assert [(call["id"], call["args"]) for call in answer.invalid_tool_calls] == [("1", "{no"), ("1", "[1]")]


class City(BaseModel):
    name: str


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_structured_output_is_asked_for_in_three_ways(method: Any) -> None:
    service = MockService()
    if method == "function_calling":
        service.answer("", tool_calls=[("City", {"name": "Rome"})])
    else:
        service.answer('{"name": "Rome"}')
    model = model_of(service).with_structured_output(City, method=method)
    assert model.invoke("a city") == City(name="Rome")
    body = service.requests[0].json
    if method == "json_schema":
        assert body["response_format"]["json_schema"]["name"] == "City"
        assert body["response_format"]["json_schema"]["schema"]["properties"]["name"]["type"] == "string"
    elif method == "json_mode":
        assert body["response_format"] == {"type": "json_object"}
    else:
        assert body["tool_choice"] == {"type": "function", "function": {"name": "City"}}
    assert not {"ls_structured_output_format", "method", "strict"} & body.keys()


def test_what_cannot_be_parsed_is_returned_with_the_raw_answer() -> None:
    service = MockService()
    service.answer("no JSON")
    result = model_of(service).with_structured_output(City, include_raw=True).invoke("a city")
    assert result["raw"].content == "no JSON"
    assert result["parsed"] is None
    assert result["parsing_error"] is not None


def test_an_unknown_method_is_refused() -> None:
    method: Any = "xml"
    with pytest.raises(ValueError, match="'xml'; allowed are json_schema"):
        model_of(MockService()).with_structured_output(City, method=method)


def test_every_choice_is_a_generation_and_tokens_count_once() -> None:
    service = MockService()
    service.answer("a")
    [generations] = model_of(service, n=2).generate([[HumanMessage("hi")]]).generations
    messages: list[Any] = [generation.message for generation in generations]  # type: ignore[union-attr]
    assert [message.content for message in messages] == ["a", "a"]
    assert [message.usage_metadata is None for message in messages] == [False, True]


async def test_errors_are_those_of_the_client() -> None:
    service = MockService()
    service.error(429)
    service.stream(["a"], lost=True)
    model = model_of(service)
    with pytest.raises(RateLimited):
        await model.ainvoke("hi")
    with pytest.raises(StreamBroken):
        _ = [chunk async for chunk in model.astream("hi")]


def test_leaving_a_stream_closes_its_connection() -> None:
    service = MockService()
    service.answer("one two three")
    chunks = model_of(service).stream("hi")
    assert next(chunks).content == "one"
    chunks.close()  # type: ignore[attr-defined]  # it is a generator
    assert service.closed == [True]


def test_callbacks_hear_every_token() -> None:
    class Heard(BaseCallbackHandler):
        tokens: list[Any]

        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            self.tokens.append(token)

    service, heard = MockService(), Heard()
    heard.tokens = []
    service.answer("one two")
    assert len([*model_of(service).stream("hi", {"callbacks": [heard]})]) == 3
    assert heard.tokens[:2] == ["one", " two"]


def test_each_event_loop_has_its_own_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_API_KEY", "k")
    model = ChatCoE()

    async def once() -> tuple[object, object]:
        made = model._async(), model._async()
        await model.aclose()
        return made

    first, again = asyncio.run(once())
    other, _ = asyncio.run(once())
    assert first is again
    assert other is not first
    assert model._sync() is model._sync()
    model.close()


def test_the_key_is_in_no_repr() -> None:
    model = ChatCoE(api_key="secret-key")
    assert "secret-key" not in f"{model!r} {model} {model.model_dump()} {model._identifying_params}"


def test_traces_know_the_model_and_its_settings() -> None:
    params = ChatCoE(model="smol-sql", temperature=0, max_tokens=5, stop="x")._get_ls_params()
    assert params == {
        "ls_provider": "coe",
        "ls_model_type": "chat",
        "ls_model_name": "smol-sql",
        "ls_temperature": 0,
        "ls_max_tokens": 5,
        "ls_stop": ["x"],
    }
