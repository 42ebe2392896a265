"""Random traffic over several experts with hardly any memory: every answer is the one that its expert gives alone."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from experts import starter
from experts.domains import general
from tests.workers.real import TOKENS, all_blocks_come_back, answer, chat, chat_of, pool, prompts
from workers import checkpoints
from workers.base import ChatCall
from workers.swap_policy import SwapSettings
from workers.vllm_engine import ImageSettings, VllmEngine, VllmSettings

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

EXPERTS = (starter.GENERALIST, "smol-sql", "smol-dates", "smol-cron")
LONG = "Summarise: " + " ".join(f"item{n} is {n * n};" for n in range(40))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["loads", "pauses"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[VllmEngine]:
    """Room for some 700 tokens, prompts in pieces of 64. "loads": room for two of four images, steps in turn with their
    outputs; "pauses": room for all, turns of at most a second, steps scheduled ahead of their outputs."""
    loads = request.param == "loads"
    specs = [pool()[name] for name in EXPERTS]
    settings = VllmSettings(
        max_model_len=512,
        max_num_seqs=4,
        swap=SwapSettings(max_wait=20.0 if loads else 1.0),
        images=ImageSettings(device=int((2.5 if loads else 5) * checkpoints.weight_bytes(specs[0].source))),
        asynchronous=not loads,
        engine_args={"num_gpu_blocks_override": 22, "block_size": 32, "max_num_batched_tokens": 64},
    )
    engine = VllmEngine(starter.FAMILY, specs, settings)
    await engine.start()
    yield engine
    await engine.close()


@dataclass(frozen=True)
class Arrival:
    """A request of the trace. leaves: after so many pieces of its answer its caller goes away; None: stays."""

    after: float
    call: ChatCall
    leaves: int | None


def traffic(seed: int, count: int) -> list[Arrival]:
    draw = random.Random(seed)
    questions = [LONG, *general.held_out_prompts(random.Random(1), 2)]
    asked = {name: [*questions, *prompts(name.removeprefix("smol-"), 2)] for name in EXPERTS[1:]}
    asked[EXPERTS[0]] = questions
    arrivals = []
    for number in range(count):
        expert = draw.choice(EXPERTS)
        call = replace(
            chat(expert, draw.choice(asked[expert]), number, max_tokens=draw.choice((1, 3, 12, TOKENS))),
            priority=draw.choice((0, 0, 0, -1, 5)),
            caller=draw.choice("abc"),
        )
        arrivals.append(Arrival(draw.random() * 0.1, call, draw.randrange(4) if draw.random() < 0.2 else None))
    return arrivals


async def leave(engine: VllmEngine, call: ChatCall, pieces: int) -> None:
    async with aclosing(engine.generate(call)) as events:
        async for _ in events:
            if pieces == 0:
                return
            pieces -= 1


async def test_random_traffic_is_answered_as_by_each_expert_alone(engine: VllmEngine) -> None:
    arrivals = traffic(seed=7, count=48)
    alone: dict[Any, str] = {}
    for arrival in arrivals:
        call = arrival.call
        key = (call.expert, call.messages[0]["content"], call.sampling.max_tokens)
        if arrival.leaves is None and key not in alone:
            alone[key] = await answer(engine, replace(call, request_id=f"alone-{len(alone)}"))
    before = await engine.stats()

    async def play() -> list[tuple[ChatCall, asyncio.Task[Any]]]:
        tasks = []
        for arrival in arrivals:
            await asyncio.sleep(arrival.after)
            run = (
                answer(engine, arrival.call) if arrival.leaves is None else leave(engine, arrival.call, arrival.leaves)
            )
            tasks.append((arrival.call, asyncio.create_task(run)))
        return tasks

    async with asyncio.timeout(240):
        for call, task in await play():
            if (text := await task) is not None:
                assert text == alone[call.expert, call.messages[0]["content"], call.sampling.max_tokens]
    after = await engine.stats()
    assert after.swaps > before.swaps
    if engine._settings.images.device < 3 * checkpoints.weight_bytes(pool()[EXPERTS[0]].source):  # type: ignore[operator]
        assert sum(after.loads.values()) > sum(before.loads.values())
    else:
        assert after.request_seconds["paused"] > 0
    assert (after.running, after.waiting) == (0, 0)
    await all_blocks_come_back(engine)


async def test_structured_outputs_keep_their_grammar_among_other_experts(engine: VllmEngine) -> None:
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    from workers.steps import CALLER_KEY, EXPERT_KEY, IMAGE_KEY

    assert engine._llm is not None
    llm = engine._llm

    async def one(expert: str, number: str) -> tuple[int, ...]:
        params = SamplingParams(
            temperature=0.0,
            max_tokens=24,
            structured_outputs=StructuredOutputsParams(regex=r"(red|green|blue), [0-9]{3}"),
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={EXPERT_KEY: expert, IMAGE_KEY: expert, CALLER_KEY: ""},
        )
        prompt = chat_of(engine, expert).render(
            ChatCall("", expert, ({"role": "user", "content": "A colour and a number, please."},))
        )
        stream = llm.generate(tokens_input(prompt, cache_salt=expert), params, f"regex-{expert}-{number}")
        return tuple([output async for output in stream][-1].outputs[0].token_ids)

    alone = [await one(expert, "alone") for expert in EXPERTS]
    others = [asyncio.create_task(answer(engine, chat(expert, "Tell a story.", "beside"))) for expert in EXPERTS]
    assert await asyncio.gather(*(one(expert, "mixed") for expert in EXPERTS)) == alone
    await asyncio.gather(*others)
    for expert, tokens in zip(EXPERTS, alone, strict=True):
        text = chat_of(engine, expert).tokenizer.decode(tokens, skip_special_tokens=True)
        assert text.split(", ")[0] in ("red", "green", "blue")
        assert text.split(", ")[1].isdecimal()
    await all_blocks_come_back(engine)
