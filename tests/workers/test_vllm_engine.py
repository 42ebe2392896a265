"""Real vLLM on the starter checkpoints: several experts, one engine."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from experts import starter
from experts.spec import ExpertSpec
from tests.workers.real import (
    all_blocks_come_back,
    answer,
    chat,
    collect,
    pool,
    prompts,
    transformers_answers,
    until_up,
    worker_processes,
)
from workers import checkpoints
from workers.base import ChatCall, Delta, Failure, Finish, Roster
from workers.vllm_engine import ImageSettings, VllmEngine, VllmSettings
from workers.worker import Worker

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

DOMAINS = ("sql", "dates", "cron")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    """One engine with the generalist and three specialists; one member has no weights, one is of another shape and one
    has a tokenizer that cannot be read."""
    specs = [pool()[starter.GENERALIST], *(pool()[starter.specialist(name)] for name in DOMAINS)]
    gone = ExpertSpec(name="gone", source=str(tmp_path_factory.mktemp("gone")), family=starter.FAMILY)
    stranger = ExpertSpec(
        name="stranger", source=str(other_shape(tmp_path_factory.mktemp("stranger"))), family=starter.FAMILY
    )
    garbled = ExpertSpec(
        name="garbled", source=str(shutil.copytree(specs[1].source, gone.source + "-2")), family=starter.FAMILY
    )
    tokenizer = Path(garbled.source) / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text()[:1000])
    engine = VllmEngine(starter.FAMILY, [gone, *specs, stranger, garbled], VllmSettings(max_model_len=1024))
    await engine.start()
    yield engine
    await engine.close()


def other_shape(folder: Path) -> Path:
    """A whole checkpoint of the same architecture with half the width."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    source = pool()[starter.GENERALIST].source
    config = AutoConfig.from_pretrained(source)
    config.hidden_size, config.intermediate_size = 288, 768
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 9, 3, 32
    config.num_hidden_layers = 30
    model: Any = AutoModelForCausalLM
    model.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(engine: VllmEngine) -> dict[str, dict[str, str]]:
    """Expert -> prompt -> the answer of that checkpoint alone."""
    return {
        starter.specialist(name): dict(
            zip(
                prompts(name, 4),
                await asyncio.to_thread(transformers_answers, pool()[starter.specialist(name)], prompts(name, 4)),
                strict=True,
            )
        )
        for name in DOMAINS
    }


async def test_interleaved_experts_answer_as_each_does_alone(
    engine: VllmEngine, alone: dict[str, dict[str, str]]
) -> None:
    wanted = [(expert, prompt, text) for expert, answers in alone.items() for prompt, text in answers.items()]
    random.Random(0).shuffle(wanted)
    calls = [chat(expert, prompt, number) for number, (expert, prompt, _) in enumerate(wanted)]
    before = (await engine.stats()).swaps
    got = await asyncio.gather(*(answer(engine, call) for call in calls))
    assert got == [text for _, _, text in wanted]
    told = await engine.stats()
    assert told.swaps >= before + len(DOMAINS) - 1
    assert told.busy_seconds > 0
    assert told.room_bytes["device"] > 0
    assert all(told.image_bytes[starter.specialist(name)] > 100 << 20 for name in DOMAINS)


async def test_a_prompt_of_two_experts_shares_no_cache(engine: VllmEngine) -> None:
    long = "Please remember this list of words: " + " ".join(f"word{n}" for n in range(200))
    cached = []
    for number, expert in enumerate(("smol-sql", "smol-cron", "smol-sql")):
        _, last = await collect(engine, chat(expert, long, f"cache{number}", max_tokens=2))
        assert isinstance(last, Finish)
        cached.append(last.usage.cached_tokens)
    assert cached[:2] == [0, 0]
    assert cached[2] > 0


async def test_each_expert_renders_with_its_own_template(engine: VllmEngine) -> None:
    sizes = {}
    for expert in (starter.GENERALIST, "smol-sql"):
        _, last = await collect(engine, chat(expert, "hello", "template", max_tokens=1))
        assert isinstance(last, Finish)
        sizes[expert] = last.usage.prompt_tokens
    assert sizes[starter.GENERALIST] > sizes["smol-sql"]  # only the generalist's adds a system message


async def test_an_expert_without_weights_and_one_of_another_shape_fail_alone(engine: VllmEngine) -> None:
    tiers = (await engine.stats()).tiers
    assert "config.json is missing" in tiers["gone"]
    assert tiers["stranger"].startswith("failed: ")
    assert {tiers[starter.specialist(name)] for name in DOMAINS} == {"device"}
    assert tiers["garbled"].startswith("failed: ")
    for expert in ("gone", "stranger", "garbled"):
        _, last = await collect(engine, chat(expert, "hello"))
        assert isinstance(last, Failure)
        assert last.code == "expert_unavailable"
    assert await answer(engine, chat(starter.GENERALIST, "What is the capital of France?", "still"))


async def test_requests_under_way_go_on_after_a_sleep(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA, but for the memory: on the CPU vLLM freezes the requests, and frees nothing."""
    calls = [chat(name, f"Tell a story about {name}.", "asleep", max_tokens=120) for name in ("smol-sql", "smol-cron")]
    alone = [await answer(engine, call) for call in calls]
    monkeypatch.setattr(engine, "_sleeps", True)
    tasks = [asyncio.create_task(answer(engine, call)) for call in calls]
    async with asyncio.timeout(60):
        while (await engine.stats()).running == 0:
            await asyncio.sleep(0.01)
    assert engine.keeps_requests
    assert await engine.sleep() == "host"
    late = asyncio.create_task(answer(engine, chat("smol-dates", "hello", "late")))
    done, _ = await asyncio.wait([*tasks, late], timeout=2.0)
    assert not done
    await engine.wake()
    assert await asyncio.gather(*tasks) == alone
    assert await late
    await all_blocks_come_back(engine)


async def test_closing_the_stream_aborts_in_the_engine(engine: VllmEngine) -> None:
    call = chat(starter.GENERALIST, "Tell me a very long story about a river.", "left", max_tokens=900)
    async with aclosing(engine.generate(call)) as events:
        first = await anext(events)
    assert isinstance(first, Delta)
    assert (await engine.stats()).running == 0
    await all_blocks_come_back(engine)


async def test_requests_beyond_a_batch_are_told_as_waiting(engine: VllmEngine) -> None:
    calls = [chat(starter.GENERALIST, f"Tell a story about {n}.", f"batch{n}", max_tokens=60) for n in range(24)]
    tasks = [asyncio.create_task(collect(engine, call)) for call in calls]
    async with asyncio.timeout(60):
        while (stats := await engine.stats()).running == 0:
            await asyncio.sleep(0.01)
    assert stats.running <= 16  # max_num_seqs
    assert stats.running + stats.waiting == 24
    await asyncio.gather(*tasks)
    assert (await engine.stats()).waiting == 0


async def test_limits_of_one_request(engine: VllmEngine) -> None:
    _, last = await collect(engine, chat(starter.GENERALIST, "Count from one to fifty in words.", max_tokens=5))
    assert isinstance(last, Finish)
    assert (last.reason, last.usage.completion_tokens) == ("length", 5)
    stopped, last = await collect(
        engine, chat(starter.GENERALIST, "What is the capital of France?", max_tokens=30, stop=(" Par",))
    )
    assert isinstance(last, Finish)
    assert last.reason == "stop"
    assert stopped == "The capital of France is"

    _, last = await collect(engine, chat("smol-sql", "word " * 2000))
    assert isinstance(last, Failure)
    assert last.code == "prompt_too_long"
    assert "1024" in last.message
    _, last = await collect(engine, chat("smol-sql", "hello", max_tokens=100_000))
    assert isinstance(last, Failure)
    assert last.code == "prompt_too_long"
    _, last = await collect(engine, ChatCall("late", "smol-sql", ({"role": "user", "content": "hi"},), deadline=1.0))
    assert isinstance(last, Failure)
    assert last.code == "deadline"


async def test_a_seed_repeats_a_sampled_answer(engine: VllmEngine) -> None:
    sampled = [
        await answer(engine, chat(starter.GENERALIST, "Invent a name for a boat.", n, temperature=1.5, seed=seed))
        for n, seed in enumerate((11, 11, 12))
    ]
    assert sampled[0] == sampled[1] != sampled[2]


async def test_a_pool_full_of_paused_requests_never_stops_the_others(alone: dict[str, dict[str, str]]) -> None:
    """KV cache for hardly more than one long request, and a swap after nearly every step: everything still finishes,
    with the right words."""
    from workers.swap_policy import SwapSettings

    settings = VllmSettings(
        max_model_len=384,
        max_num_seqs=8,
        swap=SwapSettings(overhead=0.99),
        engine_args={"num_gpu_blocks_override": 14, "block_size": 32},
    )
    engine = VllmEngine(starter.FAMILY, [pool()[expert] for expert in alone], settings)
    await engine.start()
    try:
        wanted = [(expert, prompt, text) for expert, answers in alone.items() for prompt, text in answers.items()]
        calls = [chat(expert, prompt, number) for number, (expert, prompt, _) in enumerate(wanted)]
        long = [chat(expert, "Repeat: " + "lorem ipsum " * 20, f"long-{expert}", max_tokens=150) for expert in alone]
        leaver = asyncio.create_task(collect(engine, chat("smol-sql", "Repeat: " + "a b c " * 40, "leaver")))
        others = asyncio.gather(*(answer(engine, call) for call in (*long, *calls)))
        await asyncio.sleep(0.5)
        leaver.cancel()
        got = await others
        assert got[len(long) :] == [text for _, _, text in wanted]
        await all_blocks_come_back(engine)
    finally:
        await engine.close()


async def test_images_are_pinned_as_long_as_another_one_fits_beside_them() -> None:
    from workers.swap_policy import SwapSettings

    def pinned(images: float, *names: str) -> frozenset[str]:
        size = checkpoints.weight_bytes(pool()["smol-sql"].source)
        settings = VllmSettings(
            swap=SwapSettings(pinned=frozenset(names)), images=ImageSettings(device=int(images * size))
        )
        engine = VllmEngine(starter.FAMILY, [pool()["smol-sql"], pool()["smol-cron"], pool()["smol-dates"]], settings)
        members = engine._members
        members.device_bytes = int(images * size)
        members.usable()
        return members.pinned(names)

    assert pinned(1.5, "smol-sql") == frozenset()
    assert pinned(2.0, "smol-sql") == {"smol-sql"}
    assert pinned(2.5, "smol-sql", "smol-cron") == {"smol-cron"}
    assert pinned(3.0, "smol-sql", "smol-cron", "no-such") == {"smol-sql", "smol-cron"}


async def test_a_killed_engine_is_told_and_comes_back() -> None:
    spec = pool()["smol-cron"]
    others = worker_processes()
    worker = Worker(
        starter.FAMILY,
        Roster((spec,)),
        lambda roster: VllmEngine(starter.FAMILY, roster.experts, VllmSettings(max_model_len=512)),
    )
    worker.launch()
    try:
        question = prompts("cron", 1)[0]
        before = await until_up(worker, chat(spec.name, question, "before"))
        running = asyncio.create_task(collect(worker, chat(spec.name, "Tell a story.", "killed", max_tokens=400)))
        await asyncio.sleep(0.3)
        [victim] = worker_processes() - others
        os.kill(victim, signal.SIGKILL)
        _, last = await running
        assert isinstance(last, Failure)
        assert last.code == "engine_died"
        assert await until_up(worker, chat(spec.name, question, "after")) == before
        assert (await worker.stats()).restarts == 1
    finally:
        await worker.close()
