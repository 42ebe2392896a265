"""What a stored record tells of prompt and answers: nothing, unless `records.content` is true."""

import json
from typing import Any

import pytest

from aggregators.registry import build
from orchestrator.events import CallMade
from orchestrator.records import Kept, wordless
from orchestrator.store import Store
from tests.orchestrator.parts import GENERALIST, MATH, SQL, Service
from workers.base import ChatCall

PROMPT = "Who spins straw? Ask Rumpelstiltskin"
WORDS = ("rumpelstiltskin", "straw", "snowwhite", "cinderella")
SAID = {GENERALIST: "The answer is Cinderella.", SQL: "The answer is Snowwhite.", MATH: "The answer is Snowwhite."}
QUOTED = "the chat template refuses 'Rumpelstiltskin'"


async def recorded(store: Store, aggregator: str, answers: Any, *, content: bool = False) -> dict[str, Any]:
    """The record in the store of a request that three experts answered."""
    service = await Service.start(store, aggregators=build(), records=Kept(content=content))
    try:
        service.engine.answer = lambda call: answers(service, call)
        body = {
            "model": "auto",
            "messages": [{"role": "user", "content": PROMPT}],
            "coe": {"k": 3, "aggregator": aggregator},
        }
        answer = await service.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        await service.pipeline.drain()
        record = await store.decision(answer.json()["coe"]["request_id"])
        assert record is not None
        return record
    finally:
        await service.stop()


def said(service: Service, call: ChatCall) -> str:
    return SAID[call.expert]


def essays(service: Service, call: ChatCall) -> str:
    """Nothing to count, so the cascade asks a judge: it fails with a message that quotes."""
    essay = f"{call.expert} tells of Snowwhite and of the straw at length, in more words than any short answer has."
    if len(service.engine.calls) == 3:
        service.engine.heal()
        service.engine.fail_next("invalid_request", QUOTED)
    return essay


@pytest.mark.parametrize(("aggregator", "answers"), [("vote", said), ("cascade", said), ("cascade", essays)])
async def test_no_word_of_prompt_or_answers_is_stored(store: Store, aggregator: str, answers: Any) -> None:
    record = await recorded(store, aggregator, answers)
    assert record["aggregator"] == aggregator
    stored = json.dumps(record).lower()
    assert [word for word in WORDS if word in stored] == []


async def test_votes_are_kept_as_numbers_the_heaviest_first(store: Store) -> None:
    record = await recorded(store, "vote", said)
    votes = record["votes"]
    assert list(votes) == ["answer 1", "answer 2"][: len(votes)]
    assert list(votes.values()) == sorted(votes.values(), reverse=True)


async def test_a_judge_that_failed_is_noted_with_the_kind_of_its_failure(store: Store) -> None:
    record = await recorded(store, "cascade", essays)
    [judge] = [call for call in record["calls"] if call["role"] == "judge"]
    assert judge["error"] == "invalid_request"
    assert "failed (invalid_request)" in record["note"]


async def test_with_content_all_is_kept(store: Store) -> None:
    record = await recorded(store, "vote", said, content=True)
    assert "snowwhite" in record["votes"]
    assert record["prompt"] == PROMPT
    record = await recorded(store, "cascade", essays, content=True)
    assert QUOTED in record["note"]


def test_of_what_is_refused_the_kind_is_left_and_of_what_is_broken_all() -> None:
    quoting, broken = f"invalid_request: {QUOTED}", "engine_died: the engine of sql went down"
    calls = tuple(CallMade(SQL, "draft", 1.0, None, error=error) for error in (quoting, broken, None))
    found = wordless(
        {"failed": {SQL: quoting, MATH: broken}, "calls": calls, "note": f"it failed ({quoting}); {broken}"}
    )
    assert found["failed"] == {SQL: "invalid_request", MATH: broken}
    assert [call.error for call in found["calls"]] == ["invalid_request", broken, None]
    assert found["note"] == f"it failed (invalid_request); {broken}"
