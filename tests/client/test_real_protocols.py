"""Chat with tools and forms, completions, responses and embeddings against the real API over a real socket."""

import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np
import pytest
from pydantic import BaseModel

from coe_client import (
    Answer,
    AuthenticationFailed,
    BadRequest,
    CoeError,
    NotFound,
    Options,
    ResponseEvent,
    StreamBroken,
    ToolCall,
    Unavailable,
)
from coe_client.options import CallFields, ChatFields, CompletionFields, EmbeddingFields, ResponseFields
from coe_client.response_events import AGAIN
from orchestrator.errors import TABLE
from orchestrator.http import wire, wire_completions, wire_responses
from orchestrator.http.embeddings import EmbeddingRequest
from routers.encoders.hashed import HashEncoder
from tests.client.conftest import Served
from tests.orchestrator.parts import MATH, SQL

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"name": "weather", "description": "The weather in a city", "parameters": PLACE}
CLOCK: Any = {"name": "clock", "parameters": PLACE}
TOOLS: Any = [{"type": "function", "function": WEATHER}, {"type": "function", "function": CLOCK}]
FLAT: Any = [{"type": "function", **WEATHER}, {"type": "function", **CLOCK}]
SUN = "sunny, 22 degrees"


class Person(BaseModel):
    name: str
    age: int


def called(answer: Answer) -> list[tuple[str, Any]]:
    return [(call.name, call.parsed) for call in answer.tool_calls]


# The fields that a type checker knows


@pytest.mark.parametrize(
    ("typed", "taken", "own"),
    [
        (ChatFields, wire.ChatRequest, {"messages", "stream", "stream_options"}),
        (CompletionFields, wire_completions.CompletionRequest, {"prompt", "stream", "stream_options"}),
        (ResponseFields, wire_responses.ResponseRequest, {"input", "stream"}),
        (EmbeddingFields, EmbeddingRequest, {"input", "model"}),
    ],
)
def test_the_typed_fields_are_those_that_the_service_takes(typed: type, taken: type[BaseModel], own: set[str]) -> None:
    """own: what methods take beside them, or write themselves."""
    by_service = {field.alias or name for name, field in taken.model_fields.items()}
    assert {*get_type_hints(typed)} - {*get_type_hints(CallFields)} == by_service - own


# Tools


@pytest.mark.parametrize(
    ("said", "choice", "made"),
    [
        ("the weather in Rome", "auto", [("weather", {"city": "Rome"})]),
        ("hello", "auto", []),
        ("the weather in Rome", "none", []),
        ("hello Rome", "required", [("weather", {"city": "Rome"})]),
        ("the weather in Rome", {"type": "function", "function": {"name": "clock"}}, [("clock", {"city": "Rome"})]),
        ("weather and clock", "auto", [("weather", {"city": "x"}), ("clock", {"city": "x"})]),
    ],
)
async def test_tools_are_called_as_the_choice_says(served: Served, said: str, choice: Any, made: Any) -> None:
    whole = await served.coe.chat(said, model=SQL, tools=TOOLS, tool_choice=choice)
    assert called(whole) == made
    assert whole.finish_reason == ("tool_calls" if made else "stop")
    async with served.coe.chat_stream(said, model=SQL, tools=TOOLS, tool_choice=choice) as stream:
        pieces = [piece async for chunk in stream for piece in chunk.tool_calls]
    assert called(stream.answer) == made
    assert stream.answer.finish_reason == whole.finish_reason
    # A call comes in pieces, of which the first has its name and id.
    assert [piece.name for piece in pieces if piece.name] == [name for name, _ in made]
    assert len(pieces) >= 3 * len(made)
    assert [piece.id for piece in pieces if piece.id] == [call.id for call in stream.answer.tool_calls]


async def test_a_conversation_goes_on_with_what_the_tool_gave(served: Served) -> None:
    messages: list[Mapping[str, Any]] = [{"role": "user", "content": "the weather in Rome"}]
    answer = await served.coe.chat(messages, tools=TOOLS, parallel_tool_calls=False)
    [call] = answer.tool_calls
    messages += [answer.message, {"role": "tool", "tool_call_id": call.id, "content": SUN}]
    assert (await served.coe.chat(messages, tools=TOOLS)).text == f"sql heard: {SUN}"
    assert [message["role"] for message in served.service.engine.calls[-1].messages] == ["user", "assistant", "tool"]


async def test_an_expert_without_tools_says_so(served: Served) -> None:
    with pytest.raises(BadRequest, match="the expert 'math' calls no tools"):
        await served.coe.chat("hi", model=MATH, tools=TOOLS)


# Forms, probabilities, several answers


async def test_an_answer_is_in_the_form_of_a_class(served: Served) -> None:
    answer = await served.coe.chat("it is Mira Stone, who is 42", response_format=Person)
    assert answer.parse(Person) == Person(name="Mira Stone", age=42)
    async with served.coe.chat_stream("it is Mira Stone, who is 42", response_format=Person) as stream:
        assert (await stream.read()).parse(Person) == Person(name="Mira Stone", age=42)
    loose = await served.coe.chat("JSON with 'a'", response_format={"type": "json_object"})
    assert json.loads(loose.text) == {"a": "x"}


async def test_each_token_has_its_logarithm_of_probability(served: Served) -> None:
    whole = await served.coe.chat("hi", model=SQL, logprobs=True, top_logprobs=2)
    assert whole.logprobs is not None
    rows = whole.logprobs["content"]
    assert [(row["token"], row["logprob"], len(row["top_logprobs"])) for row in rows] == [
        ("sql", 0, 2),
        (" heard:", 0, 2),
        (" hi", 0, 2),
    ]
    async with served.coe.chat_stream("hi", model=SQL, logprobs=True, top_logprobs=2) as stream:
        assert (await stream.read()).logprobs == whole.logprobs


async def test_several_answers_are_choices(served: Served) -> None:
    whole = await served.coe.chat("hi", model=SQL, n=3, seed=1)
    assert [(choice.index, choice.text) for choice in whole.choices] == [(n, "sql heard: hi") for n in range(3)]
    assert {call.sampling.seed for call in served.service.engine.calls} == {1, 2, 3}
    async with served.coe.chat_stream("hi", model=SQL, n=3) as stream:
        texts = [text async for text in stream.texts()]
    assert "".join(texts) == "sql heard: hi", "those of the first alone"
    assert stream.answer.choices == whole.choices


# Completions


async def test_a_completion_continues_a_text_whole_and_streamed(served: Served) -> None:
    fields: Any = {"model": SQL, "max_tokens": 4, "stop": ["d"], "logprobs": 1, "coe": Options(explain=True)}
    whole = await served.coe.completions("a b c d", **fields)
    assert (whole.text, whole.finish_reason, whole.raw["object"]) == ("sql hear", "stop", "text_completion")
    assert served.service.engine.calls[-1].text == "a b c d", "without the chat template"
    assert whole.route is not None
    assert whole.route.explain is not None
    assert whole.logprobs is not None
    assert whole.logprobs["tokens"] == ["sql", " hear"]
    async with served.coe.completions_stream("a b c d", **fields) as stream:
        texts = [text async for text in stream.texts()]
    assert texts == ["sql", " hear"]
    assert stream.answer.choices == whole.choices
    assert stream.answer.usage == whole.usage
    assert stream.answer.raw.keys() == whole.raw.keys()
    several = await served.coe.completions_stream("hi", model=SQL, n=2).read()
    assert [choice.text for choice in several.choices] == ["sql heard: hi"] * 2


# Responses


async def events_of(served: Served, *args: Any, **fields: Any) -> tuple[list[ResponseEvent], Answer]:
    async with served.coe.responses_stream(*args, **fields) as stream:
        events = [event async for event in stream]
    return events, stream.answer


async def test_a_response_is_the_same_answer_whole_and_streamed(served: Served) -> None:
    whole = await served.coe.responses("some sql please", instructions="be brief", temperature=0.5)
    assert (whole.text, whole.model, whole.finish_reason) == ("sql heard: some sql please", SQL, "stop")
    assert [message["role"] for message in served.service.engine.calls[-1].messages] == ["system", "user"]
    events, answer = await events_of(served, "some sql please", instructions="be brief", temperature=0.5)
    assert answer.choices == whole.choices
    assert answer.usage == whole.usage
    assert "".join(event.text for event in events) == whole.text
    assert sum(bool(event.text) for event in events) == 5
    first, last = events[0], events[-1]
    assert (first.type, last.type) == ("response.created", "response.completed")
    assert first.route is not None
    assert (first.route.expert, first.route.used, first.usage) == (SQL, (), None)
    assert last.route is not None
    assert (last.route.used, last.usage) == ((SQL,), whole.usage)
    cut = await served.coe.responses_stream("a b c", model=SQL, max_output_tokens=2).read()
    assert (cut.text, cut.finish_reason) == ("sql heard:", "length")


async def test_the_functions_of_a_response_are_called_and_their_outputs_sent_back(served: Served) -> None:
    given: list[Mapping[str, Any]] = [{"role": "user", "content": "weather and clock in Rome"}]
    whole = await served.coe.responses(given, tools=FLAT)
    assert called(whole) == [("weather", {"city": "Rome"}), ("clock", {"city": "Rome"})]
    assert (whole.text, whole.finish_reason) == ("", "tool_calls")
    events, streamed = await events_of(served, given, tools=FLAT)
    assert called(streamed) == called(whole)
    joined: dict[int, tuple[str, str, str]] = {}
    for piece in [piece for event in events for piece in event.tool_calls]:
        id, name, arguments = joined.get(piece.index, ("", "", ""))
        joined[piece.index] = (piece.id or id, piece.name or name, arguments + piece.arguments)
    assert [ToolCall(*parts) for parts in joined.values()] == [*streamed.tool_calls]
    given += whole.items
    given += [{"type": "function_call_output", "call_id": call.id, "output": SUN} for call in whole.tool_calls]
    after = await served.coe.responses(given, tools=FLAT)
    assert after.text == f"sql heard: {SUN}"
    again = await served.coe.responses([*given, *after.items, {"role": "user", "content": "and?"}], model=SQL)
    assert again.text == "sql heard: and?"


@pytest.mark.parametrize(
    ("choice", "made"),
    [("none", []), ("required", ["weather"]), ({"type": "function", "name": "clock"}, ["clock"])],
)
async def test_the_choice_of_functions_holds_for_responses_too(served: Served, choice: Any, made: list[str]) -> None:
    answer = await served.coe.responses_stream("hello", tools=FLAT, tool_choice=choice).read()
    assert [call.name for call in answer.tool_calls] == made


async def test_a_response_is_in_the_form_of_a_class(served: Served) -> None:
    answer = await served.coe.responses("it is Mira Stone, who is 42", text=Person)
    assert answer.parse(Person) == Person(name="Mira Stone", age=42)


@pytest.mark.parametrize("method", ["chat_stream", "completions_stream", "responses_stream"])
async def test_a_stream_that_breaks_has_what_came_by_then(served: Served, method: str) -> None:
    served.service.engine.fail_next("engine_died", "down", after=2)
    with pytest.raises(StreamBroken) as caught:
        await getattr(served.coe, method)("a b c", model=SQL).read()
    broken = caught.value
    assert (broken.code, broken.partial.text, broken.partial.finish_reason) == ("engine_died", "sql heard:", None)
    assert (broken.request_id or "").startswith("req-")
    assert broken.partial.route is not None
    assert broken.partial.route.expert == SQL


@pytest.mark.parametrize("method", ["completions_stream", "responses_stream"])
async def test_leaving_a_stream_of_any_protocol_aborts_its_request(served: Served, method: str) -> None:
    engine = served.service.engine
    engine.token_delay = 0.05
    async with getattr(served.coe, method)("a b c d e f", model=SQL) as stream:
        await anext(stream.texts())
    await engine.reaches(running=0)
    assert (engine.aborted, engine.finished) == (1, 0)


def test_the_errors_of_a_response_that_may_pass_are_those_of_the_table() -> None:
    """A stream of responses tells a code alone; what may pass is told by the type in the other protocols."""
    may_pass = {row.code for row in TABLE.values() if row.type in ("server_error", "rate_limit_error")}
    assert may_pass == AGAIN - {"server_error", "rate_limit_exceeded"}, "beside these two, which are OpenAI's own"


# Embeddings, models


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_texts_have_the_vectors_of_the_encoder(served: Served, encoding: Any) -> None:
    texts = ["the first", "the second one"]
    made = await served.coe.embeddings(texts, encoding_format=encoding)
    np.testing.assert_allclose(made.vectors, HashEncoder(16).encode(texts), atol=1e-6)
    assert (made.model, made.truncated) == ("hash-16", ())
    assert made.usage is not None
    assert made.usage.prompt_tokens == 5
    with pytest.raises(NotFound, match="there is 'hash-16'"):
        await served.coe.embeddings("a", model=SQL)


async def test_a_model_tells_what_it_does(served: Served) -> None:
    kinds = {model.id: model.coe["kind"] for model in await served.coe.models()}
    assert kinds == {**kinds, "auto": "router", "hash-16": "encoder"}
    assert (await served.coe.model(SQL)).coe["tools"] is True
    with pytest.raises(NotFound):
        await served.coe.model("nobody/at all?")


# Errors


@pytest.mark.parametrize(
    "method", ["chat", "chat_stream", "completions", "completions_stream", "responses", "responses_stream"]
)
@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        ({"temperature": 9}, BadRequest, "invalid_value"),
        ({"extra_body": {"temprature": 1}}, BadRequest, "unknown_parameter"),
        ({"extra_body": {"store": True}}, BadRequest, None),
        ({"model": "nobody"}, NotFound, "model_not_found"),
        ({"extra_headers": {"authorization": "Bearer nobody"}}, AuthenticationFailed, "invalid_api_key"),
        ({}, Unavailable, "expert_unavailable"),
    ],
)  # fmt: skip
async def test_every_protocol_has_the_same_tree_of_errors(
    served: Served, method: str, fields: Any, kind: type[CoeError], code: str | None
) -> None:
    if not fields:
        served.service.engine.fail_next("expert_unavailable")
    made = getattr(served.coe, method)("hi", **{"model": SQL, **fields})
    with pytest.raises(kind) as caught:
        await (made.read() if method.endswith("stream") else made)
    error: Any = caught.value
    assert code in (None, error.code)
    assert (error.request_id or "").startswith("req-")
