"""Chats as users have them: who answers, what is told of it, whole and as a stream, by the official `openai` client."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.store import Store
from tests.orchestrator.chat_parts import CHAT, USER, chunks_of, frames, text
from tests.orchestrator.parts import GENERALIST, LIMITS, MATH, REGISTRY, SQL, Service, Unheard

# One expert


async def test_a_routed_answer_says_who_answered_and_why(service: Service) -> None:
    raw = await service.openai.chat.completions.with_raw_response.create(model="auto", messages=[USER])
    answer = raw.parse()
    assert answer.choices[0].message.content == "sql heard: some sql please"
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", SQL)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 5, 8)
    assert answer.model_extra is not None
    coe = answer.model_extra["coe"]
    request_id = coe.pop("request_id")
    assert coe == {
        "expert": SQL,
        "experts": [SQL],
        "category": service.router.category,
        "probabilities": {"a": 0.75, "b": 0.25},
        "margin": 0.5,
        "reason": "the word stands there — naïve",
        "router": "keyword",
        "aggregator": "single",
        "used": [SQL],
        "failed": {},
        "usage_by_expert": {SQL: answer.usage.model_dump(exclude_unset=True)},
        "calls": [
            {
                "expert": SQL,
                "role": "answer",
                "usage": answer.usage.model_dump(exclude_unset=True),
                "seconds": coe["calls"][0]["seconds"],
                "cost": None,
                "error": None,
                "phases": coe["calls"][0]["phases"],
            }
        ],
        "note": "",
    }
    assert {name: value for name, value in raw.headers.items() if name.startswith("x-")} == {
        "x-content-type-options": "nosniff",
        "x-request-id": request_id,
        "x-coe-request-id": request_id,
        "x-coe-expert": SQL,
        "x-coe-category": "categorie x-evil: 1",
        "x-coe-reason": "the word stands there ? naive",
        "x-coe-router": "keyword",
    }
    await service.pipeline.drain()
    assert await service.store.decision(request_id)


async def test_a_named_expert_answers(service: Service) -> None:
    answer = await service.openai.chat.completions.create(model=MATH, messages=[USER], max_tokens=2)
    assert answer.choices[0].message.content == "math heard:"
    assert answer.choices[0].finish_reason == "length"
    assert answer.model_extra is not None
    assert answer.model_extra["coe"]["router"] == "named"


async def test_the_whole_conversation_reaches_the_expert(service: Service) -> None:
    first = await service.openai.chat.completions.create(model="auto", messages=[USER])
    history: Any = [{"role": "developer", "content": "be brief"}, USER, first.choices[0].message, USER]
    await service.openai.chat.completions.create(model="auto", messages=history, stop="heard", seed=7)
    call = service.engine.calls[-1]
    assert [message["role"] for message in call.messages] == ["system", "user", "assistant", "user"]
    assert call.messages[2] == {"role": "assistant", "content": "sql heard: some sql please"}
    assert (call.sampling.stop, call.sampling.seed) == (("heard",), 7)


async def test_priority_and_caller_reach_the_worker(service: Service) -> None:
    other, info = await service.keys.create("other")
    await service.http.post("/v1/chat/completions", json={**CHAT, "priority": -3})
    await service.http.post("/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {other}"})
    first, second = service.engine.calls
    assert (first.priority, second.priority) == (-3, 0)
    assert (first.caller, second.caller) == ((await service.keys.verify(service.key)).id, info.id)
    assert first.caller != second.caller


# A stream


async def test_a_streamed_answer_has_the_route_in_its_first_chunk(service: Service) -> None:
    raw = await service.openai.chat.completions.with_raw_response.create(
        model="auto", messages=[USER], stream=True, stream_options={"include_usage": True}
    )
    chunks = await chunks_of(raw.parse())
    first, last, usage = chunks[0], chunks[-2], chunks[-1]
    assert text(chunks) == "sql heard: some sql please"
    assert {chunk.model for chunk in chunks} == {SQL}
    assert len({chunk.id for chunk in chunks}) == 1
    assert first.choices[0].delta.role == "assistant"
    assert first.model_extra is not None
    assert last.model_extra is not None
    assert first.model_extra["coe"]["reason"] == "the word stands there — naïve"
    assert (first.model_extra["coe"]["expert"], first.model_extra["coe"]["used"]) == (SQL, [])
    assert (last.choices[0].finish_reason, last.model_extra["coe"]["used"]) == ("stop", [SQL])
    assert (usage.choices, usage.usage and usage.usage.total_tokens) == ([], 8)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len([name for name in raw.headers if name.startswith("x-coe-")]) == 5
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"


async def test_usage_is_streamed_only_when_asked_for(service: Service) -> None:
    chunks = await chunks_of(await service.openai.chat.completions.create(model=SQL, messages=[USER], stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)


async def test_the_openai_client_does_not_mind_signs_of_life(store: Store) -> None:
    service = await Service.start(store, replace(LIMITS, keep_alive_s=0.001))
    service.engine.token_delay = 0.02
    chunks = await chunks_of(await service.openai.chat.completions.create(model=SQL, messages=[USER], stream=True))
    assert text(chunks) == "sql heard: some sql please"
    await service.stop()


# Several experts


@pytest.mark.parametrize("streamed", [False, True])
async def test_several_experts_give_one_answer_that_names_them(service: Service, streamed: bool) -> None:
    service.work_with(Unheard(service.engines, REGISTRY))
    service.engine.fail_start(GENERALIST, "no weights")
    body = {**CHAT, "coe": {"k": 3, "aggregator": "joined", "explain": True}, "stream": streamed}
    response = await service.http.post("/v1/chat/completions", json=body)
    answer = frames(response.text)[-2] if streamed else response.json()
    assert answer["model"] == "auto"
    coe = answer["coe"]
    assert (coe["expert"], coe["experts"], coe["aggregator"]) == (None, [SQL, GENERALIST, MATH], "joined")
    assert coe["used"] == [SQL, MATH]
    assert coe["failed"] == {GENERALIST: "expert_unavailable: expert 'generalist': no weights"}
    assert set(coe["usage_by_expert"]) == {SQL, MATH}
    assert coe["explain"]["weights"] == dict.fromkeys([SQL, GENERALIST, MATH], 1 / 3)
    assert coe["explain"]["candidates"] == list(REGISTRY.names)
    assert coe["explain"]["votes"] == {"all": 1.0}
    assert [draft["expert"] for draft in coe["explain"]["drafts"]] == [SQL, GENERALIST, MATH]
    drafts = [draft["text"] for draft in coe["explain"]["drafts"]]
    assert drafts == [
        f"{SQL} heard: {CHAT['messages'][0]['content']}",
        "",
        f"{MATH} heard: {CHAT['messages'][0]['content']}",
    ]
    assert response.headers["x-coe-expert"] == "sql,generalist,math"
    if not streamed:
        assert answer["usage"]["total_tokens"] == 16


async def test_the_winner_of_several_is_the_model(service: Service) -> None:
    response = await service.http.post("/v1/chat/completions", json={**CHAT, "coe": {"k": 3, "aggregator": "first"}})
    answer = response.json()
    assert answer["model"] == answer["coe"]["expert"] == response.headers["x-coe-expert"]
    assert answer["model"] in (SQL, GENERALIST, MATH)
