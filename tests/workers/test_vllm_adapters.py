"""Adapters (LoRA) beside checkpoints in one real engine: they compute with the image of their base, without a swap."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from experts import starter
from experts.spec import ExpertSpec
from experts.train import SPECIALIST_TEMPLATE
from tests.workers.real import answer, chat, collect, pool, prompts, transformers_answers
from workers.base import Failure
from workers.vllm_engine import VllmEngine, VllmSettings

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

ADAPTED = ("sql", "cron")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    """The generalist with two adapters on it, one specialist of its own weights, and an adapter that is broken."""
    folder = tmp_path_factory.mktemp("adapters")
    template = folder / "template.jinja"
    template.write_text(SPECIALIST_TEMPLATE)

    def adapter(name: str, source: Path) -> ExpertSpec:
        return ExpertSpec(
            name=name, kind="adapter", base=starter.GENERALIST, source=str(source), chat_template=str(template)
        )

    broken = folder / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text('{"r": 4}')
    (broken / "adapter_model.safetensors").write_bytes(b"nothing")
    specs = [
        pool()[starter.GENERALIST],
        pool()["smol-dates"],
        *(adapter(f"lora-{name}", starter.DELTAS / name) for name in ADAPTED),
        adapter("lora-broken", broken),
    ]
    family = specs[0].family_name
    specs = [spec if spec.kind == "checkpoint" else spec.model_copy(update={"family": family}) for spec in specs]
    engine = VllmEngine(family, specs, VllmSettings(max_model_len=512))
    await engine.start()
    yield engine
    await engine.close()


async def test_an_adapter_answers_as_the_merged_checkpoint_does(engine: VllmEngine) -> None:
    for name in ADAPTED:
        asked = prompts(name, 4)
        merged = await asyncio.to_thread(transformers_answers, pool()[f"smol-{name}"], asked)
        calls = [chat(f"lora-{name}", prompt, number) for number, prompt in enumerate(asked)]
        assert await asyncio.gather(*(answer(engine, call) for call in calls)) == merged


async def test_adapters_and_their_base_share_steps_without_a_swap(engine: VllmEngine) -> None:
    names = (starter.GENERALIST, *(f"lora-{name}" for name in ADAPTED))
    alone = {name: await answer(engine, chat(name, "What is the capital of France?", "alone")) for name in names}
    assert len(set(alone.values())) == len(names)
    before = (await engine.stats()).swaps
    calls = [chat(name, "What is the capital of France?", number) for number in range(4) for name in names]
    assert await asyncio.gather(*(answer(engine, call) for call in calls)) == [alone[c.expert] for c in calls]
    assert (await engine.stats()).swaps == before


async def test_an_adapter_and_an_expert_of_other_weights_take_turns(engine: VllmEngine) -> None:
    names = ("lora-sql", "smol-dates")
    alone = [await answer(engine, chat(name, "Tell me about tomorrow.", "alone")) for name in names]
    before = (await engine.stats()).swaps
    mixed = await asyncio.gather(*(answer(engine, chat(name, "Tell me about tomorrow.", "mixed")) for name in names))
    assert mixed == alone
    assert (await engine.stats()).swaps > before


async def test_a_broken_adapter_fails_alone(engine: VllmEngine) -> None:
    tiers = (await engine.stats()).tiers
    assert "is not a safetensors file" in tiers["lora-broken"]
    assert {tiers[f"lora-{name}"] for name in ADAPTED} == {"device"}
    _, last = await collect(engine, chat("lora-broken", "hello"))
    assert isinstance(last, Failure)
    assert last.code == "expert_unavailable"
