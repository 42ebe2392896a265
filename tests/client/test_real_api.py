"""The client against the real API over a real socket."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping

import pytest

from benchmarks.live import free_port
from coe_client import (
    AsyncCoe,
    AuthenticationFailed,
    BadRequest,
    Budget,
    Coe,
    ConnectionFailed,
    NotFound,
    Options,
    Overloaded,
    StreamBroken,
    TimedOut,
    Unavailable,
)
from coe_client.langchain import ChatCoE
from coe_client.testing import MockService
from tests.client.conftest import Served
from tests.orchestrator.parts import GENERALIST, MATH, SQL


async def test_every_field_of_an_answer_is_read(served: Served) -> None:
    answer = await served.coe.chat("some sql please", coe=Options(explain=True, budget=Budget(calls=4)))
    assert (answer.text, answer.model, answer.finish_reason) == ("sql heard: some sql please", SQL, "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cached_tokens) == (3, 5, 0)
    route = answer.route
    assert route is not None
    assert (route.expert, route.experts, route.used, route.failed, route.router) == (SQL, (SQL,), (SQL,), {}, "keyword")
    assert (route.category, route.probabilities, route.margin) == (
        served.service.router.category,
        {"a": 0.75, "b": 0.25},
        0.5,
    )
    assert [(call.expert, call.role, call.cost, call.error) for call in route.calls] == [(SQL, "answer", None, None)]
    assert route.usage_by_expert == {SQL: answer.usage}
    assert route.explain is not None
    assert route.explain["weights"] == {SQL: 1.0}
    assert route.explain["skills"] == {"joins": 4.25, "'the'": -1.5}
    assert not route.model_extra  # nothing comes that the client has no name for


async def test_every_field_of_a_decision_record_is_read(served: Served) -> None:
    answer = await served.coe.chat("some sql please", coe=Options(explain=True))
    await served.coe.feedback(answer, score=0.5)
    record = await served.coe.explain(answer)
    assert record.route == answer.route
    assert (record.outcome, record.expert, record.experts, record.score) == ("ok", SQL, (SQL,), 0.5)
    assert record.model_extra == {"object": "route.record"}
    [listed] = await served.coe.routes(expert=SQL)
    assert (listed.id, listed.created, listed.route) == (record.id, record.created, None)
    assert listed.model_extra == {"object": "route.summary"}
    assert await served.coe.routes(after=listed.id) == ()


async def test_a_stream_is_the_same_answer(served: Served) -> None:
    whole = await served.coe.chat("one two", model=SQL)
    async with served.coe.chat_stream("one two", model=SQL) as stream:
        texts = [text async for text in stream.texts()]
    assert len(texts) > 1
    assert "".join(texts) == whole.text
    assert stream.answer.usage == whole.usage
    assert stream.answer.choices == whole.choices


async def test_the_blocking_client_does_the_same(served: Served) -> None:
    def ask() -> tuple[str, str, list[str]]:
        with Coe(f"{served.url}/v1", served.service.key) as coe:
            many = coe.chat_many([f"number {n}" for n in range(12)], concurrency=4, model=SQL)
            return coe.chat("hi", model=SQL).text, coe.chat_stream("hi", model=SQL).read().text, [str(o) for o in many]

    whole, streamed, many = await asyncio.to_thread(ask)
    assert whole == streamed == "sql heard: hi"
    assert many == [f"sql heard: number {n}" for n in range(12)]


async def test_several_experts_and_one_that_fails(served: Served) -> None:
    served.service.engines["small"].fail_next("expert_unavailable", times=1)
    answer = await served.coe.chat("sql and math", coe=Options(k=2, allow=[SQL, MATH]))
    assert answer.route is not None
    assert (answer.model, answer.route.expert, answer.route.aggregator) == ("auto", None, "joined")
    assert len(answer.route.used) == 1
    assert {*answer.route.used, *answer.route.failed} == {SQL, MATH}


async def test_route_feedback_models_experts_and_health(served: Served) -> None:
    route = await served.coe.route("math please", coe=Options(deny=[GENERALIST]))
    assert (route.expert, route.used) == (MATH, ())
    answer = await served.coe.chat("math please")
    row = await served.coe.feedback(answer, thumbs="up")
    assert (row.id, row.score, row.expert) == (answer.request_id, 1.0, MATH)
    assert (await served.coe.feedback(answer, score=0.25)).score == 0.25
    models = await served.coe.models()
    assert models[0].id == "auto"
    assert {model.id for model in models} >= {SQL, MATH}
    experts = {expert.name: expert for expert in await served.coe.experts()}
    assert experts[SQL].state == "ready"
    assert (await served.coe.health()).ready


async def test_errors_of_the_real_service_have_their_class(served: Served) -> None:
    with pytest.raises(NotFound, match="did you mean 'sql'") as not_found:
        await served.coe.chat("hi", model="sqll")
    assert (not_found.value.code, not_found.value.param) == ("model_not_found", "model")
    assert (not_found.value.request_id or "").startswith("req-")
    with pytest.raises(BadRequest, match="max_tokens"):
        await served.coe.chat("hi", max_tokens=0)
    with pytest.raises(BadRequest, match="did you mean 'temperature'"):
        await served.coe.chat("hi", temperture=1)  # type: ignore[call-arg]  # a type checker sees it first
    with pytest.raises(BadRequest, match="no expert is named 'nobody'"):
        await served.coe.chat("hi", coe=Options(allow=["nobody"]))
    with pytest.raises(NotFound, match="answer_not_found"):
        await served.coe.feedback("chatcmpl-0", score=1)
    served.service.engines["small"].fail_next("expert_unavailable")
    with pytest.raises(Unavailable) as unavailable:
        await served.coe.chat("hi", model=SQL)
    assert unavailable.value.retry_after == 30


async def test_a_wrong_key_is_told_and_not_repeated(served: Served) -> None:
    wrong = "coe-" + "x" * 43
    async with AsyncCoe(served.url, wrong) as coe:
        with pytest.raises(AuthenticationFailed) as caught:
            await coe.chat("hi")
    assert caught.value.code == "invalid_api_key"
    assert wrong not in str(caught.value)


async def test_an_overloaded_service_is_asked_again_when_it_said(served: Served) -> None:
    engine, slept = served.service.engines["small"], list[float]()
    engine.token_delay = 600
    running = [asyncio.create_task(served.coe.chat("hi", model=SQL)) for _ in range(8)]  # all that are admitted
    await engine.reaches(running=8)
    with pytest.raises(Overloaded) as caught:
        await served.coe.chat("hi", model=SQL)
    told = caught.value.retry_after
    assert told is not None

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        for one in running:
            one.cancel()
        await asyncio.wait(running)
        await engine.reaches(running=0)
        engine.token_delay = 0

    async with AsyncCoe(served.url, served.service.key, sleep=sleep, random=lambda: 0.0) as patient:
        assert (await patient.chat("hi", model=SQL)).text == "sql heard: hi"
    assert slept == [told]


async def test_leaving_a_stream_aborts_its_request_in_the_engine(served: Served) -> None:
    engine = served.service.engines["small"]
    engine.token_delay = 0.05
    async with served.coe.chat_stream("a b c d e f", model=SQL) as stream:
        async for text in stream.texts():
            if "heard" in text:
                break
        assert engine.running == 1
    await engine.reaches(running=0)
    assert (engine.aborted, engine.finished) == (1, 0)


async def test_leaving_a_blocking_stream_does_so_too(served: Served) -> None:
    engine = served.service.engines["small"]
    engine.token_delay = 0.05

    def leave() -> str:
        with Coe(served.url, served.service.key) as coe, coe.chat_stream("a b c d e f", model=SQL) as stream:
            return next(stream.texts())

    await asyncio.to_thread(leave)
    await engine.reaches(running=0)
    assert (engine.aborted, engine.finished) == (1, 0)


async def test_cancelling_a_batch_aborts_its_requests_in_the_engine(served: Served) -> None:
    engine = served.service.engines["small"]
    engine.token_delay = 600
    many = asyncio.create_task(served.coe.chat_many(["a"] * 10, concurrency=3, model=SQL))
    await engine.reaches(running=3)
    many.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await many
    await engine.reaches(running=0)
    assert engine.aborted == 3


async def test_an_engine_that_dies_in_mid_answer_breaks_the_stream(served: Served) -> None:
    engine = served.service.engines["small"]
    engine.token_delay = 0.05
    async with served.coe.chat_stream("a b c d e f", model=SQL) as stream:
        first = await anext(stream.texts())
        engine.die()
        with pytest.raises(StreamBroken) as caught:
            await stream.read()
    assert caught.value.code == "engine_died"
    assert caught.value.partial.text.startswith(first)
    assert (caught.value.request_id or "").startswith("req-")


async def test_a_time_limit_ends_the_wait_and_the_request(served: Served) -> None:
    engine = served.service.engines["small"]
    engine.token_delay = 600
    with pytest.raises(TimedOut):
        await served.coe.chat("hi", model=SQL, timeout=0.3)
    await engine.reaches(running=0)
    assert engine.aborted == 1


async def test_nobody_there_says_where_it_looked() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncCoe(url, "k", max_retries=0) as coe:
        with pytest.raises(ConnectionFailed, match=f"cannot reach {url}.*does the service run there"):
            await coe.chat("hi")


async def test_langchain_speaks_to_it_too(served: Served) -> None:
    model = ChatCoE(model=SQL, base_url=served.url, api_key=served.service.key)
    message = await model.ainvoke("hi there")
    assert message.content == "sql heard: hi there"
    assert message.response_metadata["route"]["expert"] == SQL
    blocking = await asyncio.to_thread(lambda: [chunk.text for chunk in model.stream("hi there")])
    assert "".join(blocking) == "sql heard: hi there"
    model.close()
    await model.aclose()


@pytest.mark.parametrize("method", ["chat", "completions", "responses"])
async def test_the_mock_makes_up_no_field(served: Served, method: str) -> None:
    """What a user's tests see, the service sends too."""

    async def sent(coe: AsyncCoe) -> list[Mapping[str, object]]:
        whole, streamed = getattr(coe, method), getattr(coe, f"{method}_stream")
        return [(await whole("hi", model=SQL)).raw, *[piece.raw async for piece in streamed("hi", model=SQL)]]

    mock = MockService()
    mock.answer("sql heard: hi", expert=SQL)
    mock.answer("sql heard: hi", expert=SQL)
    async with mock.async_client() as coe:
        mocked = await sent(coe)
    real = [piece for piece in await sent(served.coe) if piece.get("type") not in OPTIONAL]
    assert len(mocked) == len(real)
    for made_up, came in zip(mocked, real, strict=True):
        assert made_up.get("type") == came.get("type")
        assert {*shape(made_up)} <= {*shape(came)}


OPTIONAL = ("response.content_part.added", "response.output_text.done", "response.content_part.done")
"""Events that say nothing new, and which the mock leaves out."""


def shape(value: object, at: str = "") -> Iterator[str]:
    """The paths of a JSON value, without what differs by expert."""
    if isinstance(value, dict):
        for key in sorted(value):
            if at.endswith(("probabilities", "usage_by_expert")):
                continue
            yield from shape(value[key], f"{at}.{key}")
    elif isinstance(value, list):
        for item in value[:1]:
            yield from shape(item, f"{at}[]")
    else:
        yield at
