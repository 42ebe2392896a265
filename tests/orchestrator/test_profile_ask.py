"""How a profile run reaches the experts of a running service, with the real API and the official client."""

from dataclasses import replace
from pathlib import Path

import openai
import pytest

from experts.registry import Registry
from experts.spec import ExpertSpec, Price
from orchestrator.profile.answers import Given
from orchestrator.profile.ask import CannotAsk, EngineAsker, ServiceAsker, feedback_of, load_of, named, price_of
from orchestrator.profile.questions import ProfileQuestion
from orchestrator.profile.run import run
from orchestrator.profile.scoring import method
from tests.orchestrator.parts import GENERALIST, MATH, REMOTE, SQL, Service
from workers.base import Failure, SwapEvent, WorkerStats
from workers.fake_engine import FakeEngine

QUESTION = ProfileQuestion("q1", "some words", method("contains"), ("heard: some words",), max_tokens=10)


def loaded(number: int, image: str, seconds: float, kind: str = "loaded") -> SwapEvent:
    return SwapEvent(number, 1.0, kind, image, "disk", "device", 10, seconds)


EVENTS = (loaded(1, SQL, 0.5), loaded(2, MATH, 0.7), loaded(3, SQL, 0.25), loaded(4, SQL, 9.0, "swap"))


async def asker(service: Service) -> ServiceAsker:
    return await ServiceAsker.connect(service.openai, "http://coe")


async def test_a_service_tells_its_experts_and_answers(service: Service) -> None:
    asked = await asker(service)
    assert list(asked.prices) == [GENERALIST, SQL, MATH, REMOTE], "without the router"
    assert asked.order([MATH, GENERALIST]) == [GENERALIST, MATH]
    given = await asked.ask(SQL, QUESTION)
    assert isinstance(given, Given)
    assert (given.text, given.finish_reason) == ("sql heard: some words", "stop")
    assert (given.prompt_tokens, given.completion_tokens, given.key) == (2, 4, ("q1", SQL))
    assert given.first_token_seconds is not None
    assert given.seconds >= given.first_token_seconds > 0
    [call] = service.engine.calls
    assert (call.expert, call.sampling.temperature, call.sampling.max_tokens) == (SQL, 0, 10)


async def test_a_prompt_that_is_too_long_is_the_experts_answer(service: Service) -> None:
    given = await (await asker(service)).ask(SQL, replace(QUESTION, prompt="word " * 60))
    assert isinstance(given, Given)
    assert (given.failure, given.text) == ("prompt_too_long", "")


@pytest.mark.parametrize("after", [0, 2])
async def test_a_passing_failure_is_told_as_one(service: Service, after: int) -> None:
    service.engine.fail_next("engine_died", "it went down", after=after, times=2)
    given = await (await asker(service)).ask(SQL, QUESTION)
    assert isinstance(given, Failure)
    assert given.code == "engine_died"


async def test_an_expert_that_is_down(service: Service) -> None:
    service.engine.fail_start(SQL, "no weights")
    with pytest.raises(CannotAsk, match="no weights"):
        await (await asker(service)).ask(SQL, QUESTION)


async def test_what_asking_again_does_not_mend(service: Service) -> None:
    asked = await asker(service)
    with pytest.raises(CannotAsk, match=r"http://coe refuses: .*no expert is named"):
        await asked.ask("eve", QUESTION)


async def test_a_wrong_key_is_told(service: Service) -> None:
    client = service.openai.with_options(api_key="coe-wrong")
    with pytest.raises(CannotAsk, match="http://coe does not list its models"):
        await ServiceAsker.connect(client, "http://coe")
    with pytest.raises(CannotAsk, match="http://coe gives no feedback"):
        await feedback_of(client, "http://coe")


async def test_a_whole_run_through_a_service(service: Service, tmp_path: Path) -> None:
    outcome = await run(await asker(service), [SQL, MATH], [QUESTION], tmp_path)
    assert {name: each.overall.mean for name, each in outcome.profile.experts.items()} == {SQL: 1.0, MATH: 1.0}


async def test_a_service_tells_what_a_load_took(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = await service.engine.stats()

    async def with_events() -> WorkerStats:
        return replace(stats, events=EVENTS)

    monkeypatch.setattr(service.engine, "stats", with_events)
    asked = await asker(service)
    assert await asked.load_seconds(SQL) == 0.25
    assert await asked.load_seconds(GENERALIST) is None


async def test_another_service_need_not_tell(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = await asker(service)

    async def missing(*_: object, **__: object) -> None:
        raise openai.APIConnectionError(request=None)  # type: ignore[arg-type]

    monkeypatch.setattr(asked._client, "get", missing)
    assert await asked.load_seconds(SQL) is None


async def test_an_engine_tells_what_a_load_took() -> None:
    class Swapping(FakeEngine):
        async def stats(self) -> WorkerStats:
            return replace(await super().stats(), events=EVENTS)

    registry = Registry(
        [ExpertSpec(name=SQL, source="s"), ExpertSpec(name="on-top", kind="adapter", base=SQL, source="a")]
    )
    asked = EngineAsker(registry, lambda family: Swapping(family, tuple(registry)), lambda line: None)
    assert await asked.load_seconds(SQL) is None
    await asked.ask(SQL, QUESTION)
    assert await asked.load_seconds(SQL) == await asked.load_seconds("on-top") == 0.25
    await asked.close()


def test_the_latest_load_counts() -> None:
    assert (load_of(EVENTS, SQL), load_of(EVENTS, MATH), load_of(EVENTS, "eve")) == (0.25, 0.7, None)


def test_a_price_of_nothing_is_unknown() -> None:
    assert price_of(Price()) is None
    assert price_of(Price(output=1.0)) == Price(output=1.0)


def test_experts_by_name() -> None:
    assert named(["all"], ["a", "b"]) == ["a", "b"]
    assert named(["b", "a", "b"], ["a", "b"]) == ["b", "a"]
    with pytest.raises(CannotAsk, match=r"no expert is named 'smol-sq' \(2 are there\); did you mean 'smol-sql'\?"):
        named(["smol-sq"], ["smol-sql", "other"])
