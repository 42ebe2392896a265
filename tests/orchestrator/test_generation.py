"""Tools, forms, probabilities and several answers; embeddings and /v1/responses: driven by the official client."""

import json
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any

import numpy as np
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from orchestrator.access.grant import Grant
from orchestrator.profile.ask import ServiceAsker
from orchestrator.store import Store
from routers.encoders.hashed import HashEncoder
from tests.orchestrator.parts import GENERALIST, MATH, REMOTE, SQL, Service
from workers.base import CallPart, ChatCall, Delta, Event, Finish, Form, Tools, Usage

PROMPT = "call weather for sql"
USER: Any = {"role": "user", "content": PROMPT}
WEATHER: Any = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TOOLS: Any = [{"type": "function", "function": WEATHER}]
FLAT: Any = [{"type": "function", **WEATHER, "strict": None}]


class Person(BaseModel):
    name: str
    age: int


# Chat


async def test_a_tool_is_called_and_its_result_sent_back(service: Service) -> None:
    chat = service.openai.chat.completions
    answer = await chat.create(model="auto", messages=[USER], tools=TOOLS)
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content, answer.model) == ("tool_calls", None, SQL)
    [call] = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "x"})
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sun"}
    sent: Any = choice.message.model_dump()
    after = await chat.create(model=SQL, messages=[USER, sent, result], tools=TOOLS)
    assert after.choices[0].message.content == "sql heard: sun"
    assert after.choices[0].finish_reason == "stop"
    told = service.engine.calls[-1].messages
    assert told[1]["tool_calls"] == [
        {"id": call.id, "type": "function", "function": {"name": "weather", "arguments": call.function.arguments}}
    ]
    assert told[2] == result


async def test_calls_stream_as_the_client_puts_them_together(service: Service) -> None:
    async with service.openai.chat.completions.stream(model="auto", messages=[USER], tools=TOOLS) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_completion()
    [choice] = answer.choices
    [call] = choice.message.tool_calls or []
    assert choice.finish_reason == "tool_calls"
    assert (call.function.name, call.function.arguments) == ("weather", '{"city": "x"}')


async def test_pieces_of_a_call_that_come_together_are_one_entry_of_a_chunk(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def together(call: ChatCall, tools: Tools) -> Iterator[tuple[CallPart, ...]]:
        """As the channel joins what waits while the gateway is busy."""
        yield CallPart(0, "", "call_a", "weather"), CallPart(0, '{"city": '), CallPart(1, "", "call_b", "weather")
        yield CallPart(0, '"x"}'), CallPart(1, '{"city":'), CallPart(1, ' "y"}')

    monkeypatch.setattr("workers.fake_forms.calls", together)
    chat = service.openai.chat.completions
    async for chunk in await chat.create(model="auto", messages=[USER], tools=TOOLS, stream=True):
        entries = [entry.index for entry in chunk.choices[0].delta.tool_calls or []]
        assert len(entries) == len(set(entries))
    async with chat.stream(model="auto", messages=[USER], tools=TOOLS) as stream:
        async for _ in stream:
            pass
        [choice] = (await stream.get_final_completion()).choices
    called = [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
    assert called == [("call_a", "weather", '{"city": "x"}'), ("call_b", "weather", '{"city": "y"}')]


async def test_tools_go_to_experts_that_call_them(service: Service) -> None:
    math: Any = {"role": "user", "content": "call weather for math"}
    answer = await service.openai.chat.completions.create(model="auto", messages=[math], tools=TOOLS)
    assert answer.model == SQL, "the only one that calls tools"
    none = await service.openai.chat.completions.create(model="auto", messages=[math], tools=TOOLS, tool_choice="none")
    assert none.model == MATH
    with pytest.raises(openai.BadRequestError, match=r"the expert 'math' calls no tools; 'auto' chooses among those"):
        await service.openai.chat.completions.create(model=MATH, messages=[math], tools=TOOLS)


async def test_structured_outputs_are_parsed_by_the_client(service: Service) -> None:
    answer = await service.openai.chat.completions.parse(model="auto", messages=[USER], response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="x", age=0)
    loose = await service.openai.chat.completions.create(
        model="auto", messages=[USER], response_format={"type": "json_object"}
    )
    assert loose.choices[0].message.content == "{}"
    assert service.engine.calls[-1].sampling.form == Form()


async def test_each_token_has_its_logarithm_of_probability(service: Service) -> None:
    ask: Any = {"model": SQL, "messages": [{"role": "user", "content": "hi"}], "logprobs": True, "top_logprobs": 2}
    whole = await service.openai.chat.completions.create(**ask)
    assert whole.choices[0].logprobs is not None
    rows = whole.choices[0].logprobs.content or []
    assert "".join(row.token for row in rows) == whole.choices[0].message.content == "sql heard: hi"
    assert [(own.token, own.logprob, own.bytes) for own in rows[0].top_logprobs] == [
        ("sql", 0.0, list(b"sql")),
        ("other1", -9999.0, list(b"other1")),
    ]
    streamed = [
        row.token
        async for chunk in await service.openai.chat.completions.create(**ask, stream=True)
        if chunk.choices and chunk.choices[0].logprobs
        for row in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == [row.token for row in rows]


async def test_several_answers_are_calls_of_one_expert_with_seeds_of_their_own(service: Service) -> None:
    answer = await service.openai.chat.completions.create(model="auto", messages=[USER], n=3, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {f"sql heard: {PROMPT}"}
    assert sorted(call.sampling.seed or 0 for call in service.engine.calls) == [7, 8, 9]
    assert len({call.request_id for call in service.engine.calls}) == 3
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3 * 6
    assert (answer.model_extra or {})["coe"]["experts"] == [SQL]


async def test_several_answers_stream_side_by_side(service: Service) -> None:
    texts, reasons, roles = ["", ""], {}, []
    async for chunk in await service.openai.chat.completions.create(model="auto", messages=[USER], n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.delta.role:
                roles.append(choice.index)
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts == [f"sql heard: {PROMPT}"] * 2
    assert reasons == {0: "stop", 1: "stop"}
    assert roles == [0, 1]


async def test_the_failure_of_one_of_several_answers_ends_the_others(service: Service) -> None:
    service.engine.fail_next("engine_died", "down", after=2)
    with pytest.raises(openai.APIStatusError) as caught:
        await service.openai.with_options(max_retries=0).chat.completions.create(model="auto", messages=[USER], n=3)
    assert caught.value.code == "engine_died"
    assert service.engine.running == 0
    assert service.engine.finished < 3


async def test_what_binds_an_answer_is_for_one_expert_where_several_would_answer(service: Service) -> None:
    answer = await service.openai.chat.completions.create(model="auto", messages=[USER], logprobs=True)
    assert len((answer.model_extra or {})["coe"]["experts"]) == 1
    with pytest.raises(openai.BadRequestError, match=r"tools: one expert alone can answer it, and"):
        await service.openai.chat.completions.create(
            model="auto", messages=[USER], tools=TOOLS, extra_body={"coe": {"k": 2}}
        )


# Embeddings


@pytest_asyncio.fixture
async def encoding(store: Store) -> AsyncIterator[Service]:
    service = await Service.start(store, encoder=HashEncoder(16))
    yield service
    await service.stop()


async def test_an_encoder_is_no_expert(encoding: Service) -> None:
    listed = {
        model.id: (model.model_extra or {})["coe"]["kind"] for model in (await encoding.openai.models.list()).data
    }
    assert listed["hash-16"] == "encoder"
    with pytest.raises(openai.NotFoundError):
        await encoding.openai.chat.completions.create(model="hash-16", messages=[USER])
    asker = await ServiceAsker.connect(encoding.openai, "here")
    assert set(asker.prices) == {GENERALIST, SQL, MATH, REMOTE}


async def test_texts_are_not_counted_where_streams_are_written(store: Store) -> None:
    threads = []

    class Slow(HashEncoder):
        def tokens(self, texts: Sequence[str]) -> list[int]:
            threads.append(threading.get_ident())
            return super().tokens(texts)

    service = await Service.start(store, encoder=Slow(16))
    await service.openai.embeddings.create(model="auto", input="x")
    assert threads
    assert threading.get_ident() not in threads
    await service.stop()


async def test_vectors_count_for_the_limits_of_a_key(encoding: Service) -> None:
    key, _ = await encoding.keys.create("few", Grant(limits={"requests_per_minute": 1}))
    client = encoding.openai.with_options(api_key=key, max_retries=0)
    await client.embeddings.create(model="auto", input="x")
    with pytest.raises(openai.RateLimitError) as caught:
        await client.embeddings.create(model="auto", input="x")
    assert caught.value.code == "requests_per_minute_exceeded"


async def test_a_router_without_an_encoder_says_so(service: Service) -> None:
    with pytest.raises(openai.NotFoundError, match="this service has no encoder"):
        await service.openai.embeddings.create(model="auto", input="x")


async def test_texts_have_vectors_of_the_router_s_encoder(encoding: Service) -> None:
    texts = ["the first", "the second one"]
    answer = await encoding.openai.embeddings.create(model="hash-16", input=texts)
    vectors = HashEncoder(16).encode(texts)
    np.testing.assert_allclose([own.embedding for own in answer.data], vectors, atol=1e-6)
    assert (answer.model, answer.usage.prompt_tokens) == ("hash-16", 5)
    plain = await encoding.openai.embeddings.create(model="auto", input="the first", encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, vectors[0], atol=1e-6)
    assert "hash-16" in [model.id for model in (await encoding.openai.models.list()).data]


@pytest.mark.parametrize(
    ("body", "status", "param", "words"),
    [
        ({"model": "sql"}, 404, "model", "there is 'hash-16'"),
        ({"dimensions": 8}, 400, "dimensions", "hash-16 has 16"),
        ({"input": []}, 400, "input", "at least 1"),
        ({"input": ["a", ""]}, 400, "input[1]", "at least 1"),
        ({"input": [1, 2]}, 400, "input", "tokens are not supported"),
        ({"input": ["x"] * 257}, 400, "input", "at most 256"),
        ({"input": "x" * 8193}, 400, "input[0]", "at most 8192"),
        ({"encoding_format": "int8"}, 400, "encoding_format", "'float' or 'base64'"),
        ({"mood": 1}, 400, "mood", "unknown field"),
    ],
)
async def test_what_has_no_vector_is_told(
    encoding: Service, body: dict[str, Any], status: int, param: str, words: str
) -> None:
    response = await encoding.http.post("/v1/embeddings", json={"model": "auto", "input": "x", **body})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert words in error["message"]


async def test_vectors_count_their_tokens_and_ask_no_expert(encoding: Service) -> None:
    answer = await encoding.http.post("/v1/embeddings", json={"model": "auto", "input": ["two words", "one"]})
    shown = (await encoding.http.get("/metrics")).text
    counted = re.findall(r'^coe_(?:requests|tokens)_total\{(.*route="embedding".*)\} (.*)$', shown, re.M)
    assert counted == [
        ('expert="none",key_class="normal",outcome="ok",route="embedding"', "1.0"),
        (
            'expert="none",key_class="normal",kind="prompt",route="embedding"',
            str(float(answer.json()["usage"]["prompt_tokens"])),
        ),
    ]


# Responses


async def test_a_response_has_its_text_route_and_usage(service: Service) -> None:
    answer = await service.openai.responses.create(
        model="auto", input="some sql please", instructions="Be brief.", metadata={"a": "b"}, temperature=0.5
    )
    assert (answer.status, answer.output_text, answer.model) == ("completed", "sql heard: some sql please", SQL)
    assert answer.usage is not None
    assert (answer.usage.output_tokens, answer.metadata, answer.instructions) == (5, {"a": "b"}, "Be brief.")
    assert (answer.model_extra or {})["coe"]["expert"] == SQL
    [call] = service.engine.calls
    assert call.messages == (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "some sql please"},
    )
    assert call.sampling.temperature == 0.5


async def test_a_response_that_is_cut_says_so(service: Service) -> None:
    answer = await service.openai.responses.create(model=SQL, input="a b c d", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert [item.status for item in answer.output if item.type == "message"] == ["incomplete"]


async def test_a_function_is_called_and_its_output_sent_back(service: Service) -> None:
    responses = service.openai.responses
    first = await responses.create(model="auto", input=PROMPT, tools=FLAT)
    [item] = first.output
    assert item.type == "function_call"
    assert (item.name, json.loads(item.arguments), first.output_text) == ("weather", {"city": "x"}, "")
    sent: Any = [
        {"role": "user", "content": PROMPT},
        item.model_dump(),
        {"type": "function_call_output", "call_id": item.call_id, "output": "sun"},
    ]
    after = await responses.create(model=SQL, input=sent, tools=FLAT)
    assert after.output_text == "sql heard: sun"
    assert [message["role"] for message in service.engine.calls[-1].messages] == ["user", "assistant", "tool"]
    said: Any = [own.model_dump() for own in after.output]
    again = await responses.create(model=SQL, input=[*sent, *said, {"role": "user", "content": "and?"}])
    assert again.output_text == "sql heard: and?"


async def test_a_response_streams_as_the_client_puts_it_together(service: Service) -> None:
    kinds = []
    async with service.openai.responses.stream(model="auto", input="some sql please") as stream:
        kinds.extend([event.type async for event in stream])
        final = await stream.get_final_response()
    assert final.output_text == "sql heard: some sql please"
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[4:9] == ["response.output_text.delta"] * 5
    assert kinds[9:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    whole = await service.openai.responses.create(model="auto", input="some sql please")
    assert [_plain(item) for item in whole.output] == [_plain(item) for item in final.output]


def _plain(item: Any) -> dict[str, Any]:
    plain: dict[str, Any] = item.model_dump(exclude={"id"})
    for part in plain.get("content") or ():
        part.pop("parsed", None)
    return plain


async def test_calls_of_functions_stream(service: Service) -> None:
    async with service.openai.responses.stream(model="auto", input=PROMPT, tools=FLAT) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    [item] = final.output
    assert item.type == "function_call"
    assert json.loads(item.arguments) == {"city": "x"}
    assert "response.function_call_arguments.done" in [event.type for event in events]
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(set(numbers))


async def test_structured_outputs_of_a_response_are_parsed(service: Service) -> None:
    answer = await service.openai.responses.parse(model="auto", input="some sql", text_format=Person)
    assert answer.output_parsed == Person(name="x", age=0)


async def test_a_stream_that_fails_says_so_twice(service: Service) -> None:
    service.engine.fail_next("engine_died", "down", after=2)
    body = {"model": SQL, "input": "hi there", "stream": True}
    response = await service.http.post("/v1/responses", json=body)
    kinds = [line.removeprefix("event: ") for line in response.text.splitlines() if line.startswith("event: ")]
    assert kinds[-2:] == ["error", "response.failed"]
    failed = json.loads(response.text.strip().splitlines()[-1].removeprefix("data: "))["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "engine_died")


async def test_a_call_that_was_cut_is_not_told_as_whole(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cut(call: ChatCall) -> AsyncGenerator[Event, None]:
        yield Delta(calls=(CallPart(0, '{"city": "R', "call_a", "weather"),))
        yield Finish("length", call.expert, Usage(3, 2))

    monkeypatch.setattr(service.engine, "generate", cut)
    answer = await service.openai.responses.create(model=SQL, input=PROMPT, tools=FLAT)
    assert answer.status == "incomplete"
    assert [item.status for item in answer.output if item.type == "function_call"] == ["incomplete"]
    async with await service.openai.responses.create(model=SQL, input=PROMPT, tools=FLAT, stream=True) as stream:
        done = [event.item async for event in stream if event.type == "response.output_item.done"]
    assert [item.status for item in done if item.type == "function_call"] == ["incomplete"]


async def test_null_within_a_field_that_is_not_supported_asks_for_nothing(service: Service) -> None:
    answer = await service.openai.responses.create(model=SQL, input="hi", reasoning={"effort": None, "summary": None})
    assert answer.output_text == "sql heard: hi"


async def test_there_is_no_obfuscation_to_be_switched_off(service: Service) -> None:
    options: Any = {"include_obfuscation": False}
    stream = await service.openai.responses.create(model=SQL, input="hi", stream=True, stream_options=options)
    assert [event.type async for event in stream][-1] == "response.completed"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": ""}, "input[0]", "must not be empty"),
        ({"input": []}, "input", "at least 1"),
        ({"input": [{"type": "reasoning"}]}, "input[0]", "items of the type 'reasoning' are not supported yet"),
        ({"input": [{"role": "user"}]}, "input[0]", "needs 'content'"),
        ({"input": [{"role": "user", "content": "x", "output": "y"}]}, "input[0]", "'message' has no field 'output'"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0]", "needs 'output'"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0]", "only text"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id", "not supported yet; leave it out"),
        ({"input": "x", "store": True}, "store", "not supported yet; allowed: False"),
        ({"input": "x", "max_output_tokens": 501}, "max_output_tokens", "the limit is 500"),
        (
            {"input": "x", "tools": [{"type": "web_search"}]},
            "tools[0]",
            "'web_search' are not supported yet",
        ),
        ({"input": "x", "tool_choice": "any"}, "tool_choice", """'required' or {"type": "function", "name": "..."}"""),
        (
            {"input": "x", "tool_choice": {"type": "allowed_tools"}},
            "tool_choice",
            "'allowed_tools' is not supported yet",
        ),
        ({"input": "x", "text": {"verbosity": "low"}}, "text.verbosity", "not supported yet; allowed: 'medium'"),
        ({"input": "x", "tool_choice": {"type": "function", "name": "f"}}, None, "'tool_choice' needs 'tools'"),
        ({"input": "x", "temprature": 1}, "temprature", "did you mean 'temperature'"),
    ],
)
async def test_what_is_wrong_with_a_response_s_body_is_told(
    service: Service, body: dict[str, Any], param: str | None, words: str
) -> None:
    response = await service.http.post("/v1/responses", json={"model": "auto", **body})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert words in error["message"]


async def test_a_named_expert_answers_a_response_as_it_does_a_chat(service: Service) -> None:
    answer = await service.openai.responses.create(model=GENERALIST, input="hi")
    assert (answer.model, answer.output_text) == (GENERALIST, "generalist heard: hi")
