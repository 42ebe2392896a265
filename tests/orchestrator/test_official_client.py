"""OpenAI's own client over a socket, as users have it: it blocks, and takes no answer that does not fit its types."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from tests.orchestrator.parts import SQL, Service
from tests.orchestrator.served import in_background

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello sql"}]
HEARD = "sql heard: hello sql"
CALL: list[ChatCompletionMessageParam] = [{"role": "user", "content": "call weather for sql"}]


class weather(BaseModel):  # the client makes the function's name of it
    city: str


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture(scope="module")
def live(redis_server: EmbeddedRedis) -> Iterator[tuple[str, str]]:
    """Address and key."""

    async def start() -> Service:
        return await Service.start(Store(redis_server.url, timeout=30), encoder=HashEncoder(16))

    with in_background(start) as (url, service):
        yield f"{url}/v1", service.key


@pytest.fixture
def client(live: tuple[str, str]) -> Iterator[openai.OpenAI]:
    url, key = live
    with openai.OpenAI(
        base_url=url, api_key=key, max_retries=0, timeout=60, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def easy(live: tuple[str, str]) -> Iterator[openai.OpenAI]:
    """As users have it. Its own types have no vectors in base64, for which it asks, and no chunk of a text without an
    end, which OpenAI sends too."""
    url, key = live
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=60) as client:
        yield client


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="auto", messages=HELLO, logprobs=True, top_logprobs=1)
    assert (answer.choices[0].message.content, answer.model) == (HEARD, SQL)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_and_its_usage(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model="auto", messages=HELLO, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == HEARD
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


def test_a_stream_s_helper_puts_it_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="auto", messages=HELLO) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content == HEARD
    assert "content.done" in kinds


def test_a_tool_s_arguments_are_parsed(client: openai.OpenAI) -> None:
    tools = [openai.pydantic_function_tool(weather)]
    answer = client.chat.completions.parse(model="auto", messages=CALL, tools=tools)
    [call] = answer.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == weather(city="x")
    sent: Any = answer.choices[0].message.model_dump(exclude_none=True)
    sent["tool_calls"] = [{**own, "function": {**own["function"]}} for own in sent["tool_calls"]]
    for own in sent["tool_calls"]:
        own["function"].pop("parsed_arguments", None)
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    after = client.chat.completions.create(model=SQL, messages=[*CALL, sent, result], tools=tools)
    assert after.choices[0].message.content == "sql heard: sun"


def test_structured_outputs_are_parsed(client: openai.OpenAI) -> None:
    whole = client.chat.completions.parse(model="auto", messages=HELLO, response_format=Person)
    assert whole.choices[0].message.parsed == Person(name="x", age=0)
    with client.chat.completions.stream(model="auto", messages=HELLO, response_format=Person) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Person(name="x", age=0)


def test_responses(client: openai.OpenAI) -> None:
    whole = client.responses.create(model="auto", input="hello sql", instructions="Be brief.")
    assert (whole.status, whole.output_text) == ("completed", HEARD)
    with client.responses.stream(model="auto", input="hello sql") as stream:
        assert [event.type for event in stream][-1] == "response.completed"
        assert stream.get_final_response().output_text == HEARD
    parsed = client.responses.parse(model="auto", input="hello sql", text_format=Person)
    assert parsed.output_parsed == Person(name="x", age=0)


def test_a_function_of_a_response(client: openai.OpenAI) -> None:
    tools: Any = [openai.pydantic_function_tool(weather)["function"] | {"type": "function"}]
    with client.responses.stream(model="auto", input="call weather for sql", tools=tools) as stream:
        kinds = [event.type for event in stream]
        [item] = stream.get_final_response().output
    assert "response.function_call_arguments.done" in kinds
    assert item.type == "function_call"
    assert json.loads(item.arguments) == {"city": "x"}


def test_completions(client: openai.OpenAI, easy: openai.OpenAI) -> None:
    whole = client.completions.create(model=SQL, prompt=["one", "two"], n=2, logprobs=1)
    assert [choice.text.split()[-1] for choice in whole.choices] == ["one", "one", "two", "two"]
    texts = ["", ""]
    with easy.completions.create(model=SQL, prompt=["one", "two"], stream=True) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
    assert texts == ["sql heard: one", "sql heard: two"]


def test_embeddings(client: openai.OpenAI, easy: openai.OpenAI) -> None:
    texts = ["the first", "the second one"]
    wanted = HashEncoder(16).encode(texts)
    packed = easy.embeddings.create(model="auto", input=texts)
    plain = client.embeddings.create(model="hash-16", input=texts, encoding_format="float", dimensions=16)
    for answer in (packed, plain):
        np.testing.assert_allclose([own.embedding for own in answer.data], wanted, atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="hash-16 has 16"):
        client.embeddings.create(model="auto", input=texts, dimensions=8)


def test_models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[0] == "auto"
    assert client.models.retrieve(SQL).id == SQL


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"model": "sqll"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value"),
        ({"messages": [{"role": "user", "content": "word " * 60}], "model": SQL}, openai.BadRequestError,
         "context_length_exceeded"),
    ],
)  # fmt: skip
def test_errors_have_their_class(
    client: openai.OpenAI, body: dict[str, Any], kind: type[openai.APIStatusError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "auto", "messages": HELLO, **body})
    assert caught.value.code == code
    assert (caught.value.request_id or "").startswith("req-")


def test_a_wrong_key(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="coe-" + "x" * 43).models.list()
    assert caught.value.code == "invalid_api_key"
