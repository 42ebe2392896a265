"""The SDK against the whole service with the fake engine: real Ray Serve, real Redis, a real socket."""

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks.live import Live, service
from coe_client import (
    Answer,
    AsyncCoe,
    AuthenticationFailed,
    BadRequest,
    Budget,
    Coe,
    NotFound,
    Options,
    Progress,
)
from coe_client.langchain import ChatCoE
from tests.client.programs import run

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with service(tmp_path_factory.mktemp("client"), ["--fake"], within=120) as running:
        yield running


@pytest.fixture
def coe(live: Live) -> Iterator[Coe]:
    with Coe(live.url, live.key, max_retries=0, timeout=30) as coe:
        yield coe


def test_a_chat_is_routed_and_says_by_whom_it_was_answered(coe: Coe) -> None:
    answer = coe.chat("hello there")
    assert (answer.text, answer.model) == ("smol-general heard: hello there", "smol-general")
    assert answer.route is not None
    assert answer.route.expert == "smol-general"
    assert answer.route.reason
    assert [call.role for call in answer.route.calls] == ["answer"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_a_stream_has_the_route_first_and_everything_at_its_end(coe: Coe) -> None:
    with coe.chat_stream("one two three", model="smol-cron") as stream:
        chunks = [*stream]
    assert chunks[0].route is not None
    assert chunks[0].route.expert == "smol-cron"
    assert "".join(chunk.text for chunk in chunks) == "smol-cron heard: one two three"
    assert stream.answer.text == "smol-cron heard: one two three"
    assert stream.answer.usage is not None
    assert stream.answer.route is not None
    assert stream.answer.route.used == ("smol-cron",)


def test_an_ensemble_has_a_call_for_each_of_its_experts(coe: Coe) -> None:
    options = Options(
        k=2, allow=["smol-sql", "smol-cron"], aggregator="synthesize", budget=Budget(calls=4), explain=True
    )
    answer = coe.chat("hello", coe=options)
    assert answer.route is not None
    assert {*answer.route.used} == {"smol-sql", "smol-cron"}
    assert [call.role for call in answer.route.calls].count("draft") == 2
    assert answer.usage is not None
    assert answer.usage.total_tokens == sum(call.usage.total_tokens for call in answer.route.calls if call.usage)


def test_a_route_alone_generates_nothing(coe: Coe) -> None:
    route = coe.route("hello there", coe=Options(deny=["smol-general"]))
    assert route.experts
    assert "smol-general" not in route.experts
    assert (route.calls, route.used) == ((), ())


def test_feedback_is_kept_on_the_answer(coe: Coe) -> None:
    answer = coe.chat("hello", model="smol-json")
    row = coe.feedback(answer, thumbs="down")
    assert (row.id, row.score, row.expert) == (answer.request_id, 0, "smol-json")


def test_models_experts_and_health(coe: Coe) -> None:
    assert coe.models()[0].id == "auto"
    assert {expert.state for expert in coe.experts()} == {"ready"}
    assert coe.health().ready


def test_errors_have_their_class(coe: Coe, live: Live) -> None:
    with pytest.raises(NotFound, match="smol-sql"):
        coe.chat("hello", model="smol-sqll")
    with pytest.raises(BadRequest) as caught:
        coe.chat("hello", coe=Options(allow=["smol-sql"], needs=["image"]))
    assert caught.value.code == "no_expert_allowed"
    wrong = "coe-" + "x" * 43
    with Coe(live.url, wrong) as stranger, pytest.raises(AuthenticationFailed) as refused:
        stranger.models()
    assert wrong not in str(refused.value)


def test_many_are_asked_at_once_and_come_in_order(live: Live, coe: Coe) -> None:
    names = ("smol-sql", "smol-json", "smol-general")
    heard = [f"{names[n % 3]} heard: number {n}" for n in range(60)]
    progress: list[Progress] = []
    outcomes = coe.chat_many(
        [{"messages": f"number {n}", "model": names[n % 3]} for n in range(60)],
        concurrency=8,
        on_progress=progress.append,
    )
    assert [outcome.text if isinstance(outcome, Answer) else str(outcome) for outcome in outcomes] == heard
    assert [one.done for one in progress] == [*range(1, 61)]

    async def again() -> list[str]:
        async with AsyncCoe(live.url, live.key) as acoe:
            return [
                str(outcome)
                for outcome in await acoe.chat_many(
                    [{"messages": f"number {n}", "model": names[n % 3]} for n in range(60)], concurrency=30
                )
            ]

    assert asyncio.run(again()) == heard


def test_langchain_speaks_to_it(live: Live) -> None:
    model = ChatCoE(model="smol-sql", base_url=live.base_url, api_key=live.key)
    message = model.invoke("hello")
    assert message.content == "smol-sql heard: hello"
    assert message.response_metadata["route"]["expert"] == "smol-sql"
    assert "".join(chunk.text for chunk in model.stream("hello")) == "smol-sql heard: hello"
    model.close()


def test_the_first_example_of_the_readme_runs(live: Live) -> None:
    said = asyncio.run(run("client_chat", live.url, live.key))
    assert "heard: Which SQL lists the names of users" in said
