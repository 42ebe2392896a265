"""Experts that come, go and change in one real engine that runs, and what they say: the same as they say alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from experts import starter
from experts.spec import ExpertSpec
from experts.train import SPECIALIST_TEMPLATE
from tests.workers.real import answer, chat, collect, pool, prompts, transformers_answers, worker_processes
from workers import checkpoints
from workers.base import Delta, Failure, Finish, Roster
from workers.vllm_engine import ImageSettings, VllmEngine, VllmSettings
from workers.worker import Worker

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

SQL, DATES, CRON = "smol-sql", "smol-dates", "smol-cron"
CHANGING = "changing"


def changing(to: str) -> ExpertSpec:
    """One name, the weights of a specialist."""
    return pool()[to].model_copy(update={"name": CHANGING})


def image_files(folder: Path, expert: str) -> list[Path]:
    return list(folder.glob(f"{expert}-*.safetensors"))


def link_all(source: str, folder: Path) -> None:
    for file in Path(source).iterdir():
        (folder / file.name).symlink_to(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def alone() -> dict[str, list[str]]:
    """Specialist -> what it says to questions of its own domain, by itself."""
    names = (SQL, DATES, CRON)
    return {name: transformers_answers(pool()[name], prompts(name.removeprefix("smol-"), 3)) for name in names}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(folder: Path, alone: dict[str, list[str]]) -> AsyncIterator[VllmEngine]:
    """After `alone`, which an engine beside it slows down much."""
    specs = [pool()[starter.GENERALIST], changing(SQL)]
    engine = VllmEngine(starter.FAMILY, specs, VllmSettings(max_model_len=1024, images=ImageSettings(folder=folder)))
    await engine.start()
    yield engine
    await engine.close()


async def test_an_expert_that_is_added_answers_as_it_does_alone_and_no_process_is_started(
    engine: VllmEngine, alone: dict[str, list[str]]
) -> None:
    before = worker_processes()
    long = asyncio.create_task(collect(engine, chat(starter.GENERALIST, "Tell a story.", "long", max_tokens=200)))
    await asyncio.sleep(0.2)
    await engine.adopt([pool()[starter.GENERALIST], changing(SQL), pool()[DATES]])
    assert (await engine.stats()).tiers.keys() == {starter.GENERALIST, CHANGING, DATES}
    asked = [chat(DATES, prompt, number) for number, prompt in enumerate(prompts("dates", 3))]
    assert await asyncio.gather(*(answer(engine, call) for call in asked)) == alone[DATES]
    _, last = await long
    assert isinstance(last, Finish)
    assert worker_processes() == before
    stats = await engine.stats()
    assert set(stats.tiers.values()) == {"device"}
    assert stats.image_bytes.keys() == stats.tiers.keys()


async def test_calls_go_on_with_the_weights_that_they_began_with_while_others_take_their_place(
    engine: VllmEngine, alone: dict[str, list[str]]
) -> None:
    questions = prompts("sql", 3)
    calls = [chat(CHANGING, prompt, f"old{n}") for n, prompt in enumerate(questions)]
    old = [asyncio.create_task(collect(engine, call)) for call in calls]
    await asyncio.sleep(0.3)
    await engine.adopt([pool()[starter.GENERALIST], changing(CRON), pool()[DATES]])
    asked = [chat(CHANGING, prompt, f"new{n}") for n, prompt in enumerate(prompts("cron", 3))]
    new = await asyncio.gather(*(answer(engine, call) for call in asked))
    assert [text for text, _ in await asyncio.gather(*old)] == alone[SQL]
    assert new == alone[CRON]
    # What was asked of the former weights is asked of these: nothing of it is taken for known.
    text, last = await collect(engine, chat(CHANGING, questions[0], "again"))
    assert isinstance(last, Finish)
    assert last.usage.cached_tokens == 0
    assert text != alone[SQL][0]


async def test_a_checkpoint_that_cannot_be_read_fails_alone_and_serves_once_it_is_mended(
    engine: VllmEngine, alone: dict[str, list[str]], tmp_path: Path
) -> None:
    broken = ExpertSpec(name="broken", source=str(tmp_path), family=starter.FAMILY)
    rest = [pool()[starter.GENERALIST], changing(CRON), pool()[DATES]]
    await engine.adopt([*rest, broken])
    assert (await engine.stats()).tiers["broken"] == f"failed: {tmp_path / 'config.json'} is missing"
    assert await answer(engine, chat(DATES, prompts("dates", 1)[0])) == alone[DATES][0]
    link_all(pool()[SQL].source, tmp_path)
    await engine.adopt([*rest, broken])
    assert await answer(engine, chat("broken", prompts("sql", 1)[0])) == alone[SQL][0]
    await engine.adopt(rest)


async def test_an_expert_that_is_removed_ends_its_calls_and_leaves_every_tier(
    engine: VllmEngine, alone: dict[str, list[str]], folder: Path
) -> None:
    """It is the one that the engine was started with."""
    assert image_files(folder, starter.GENERALIST)
    before = (await engine.stats()).tier_bytes["device"]
    text = ""
    async with aclosing(engine.generate(chat(starter.GENERALIST, "Tell a story.", "last", max_tokens=60))) as events:
        async for event in events:
            if isinstance(event, Delta):
                if not text:
                    await engine.adopt([changing(CRON), pool()[DATES]])
                    _, refused = await collect(engine, chat(starter.GENERALIST, "Hello.", "late"))
                    assert isinstance(refused, Failure)
                    assert refused.code == "expert_unavailable"
                text += event.text
        assert isinstance(event, Finish)
    assert text
    async with asyncio.timeout(30):
        while (await engine.stats()).tier_bytes["device"] >= before:
            await asyncio.sleep(0.05)
    assert not image_files(folder, starter.GENERALIST)
    assert (await engine.stats()).image_bytes.keys() == {CHANGING, DATES}
    assert await answer(engine, chat(DATES, prompts("dates", 1)[0], "after")) == alone[DATES][0]
    assert await answer(engine, chat(CHANGING, prompts("cron", 1)[0], "after")) == alone[CRON][0]


async def test_what_is_brought_ahead_is_the_image_of_now_and_none_from_before_stays(
    alone: dict[str, list[str]],
) -> None:
    first = (pool()[starter.GENERALIST], pool()[SQL], changing(CRON))
    size = checkpoints.weight_bytes(first[0].source, "float32")
    settings = VllmSettings(max_model_len=512, images=ImageSettings(device=int(2.5 * size)))
    engine = VllmEngine(starter.FAMILY, first, settings)
    worker = Worker(starter.FAMILY, Roster(first, version="first"), lambda _: engine)
    worker.launch()

    async def until(roster: str) -> None:
        async with asyncio.timeout(300):
            while (told := await worker.stats()).roster != roster or told.tiers[CHANGING] != "device":
                await asyncio.sleep(0.1)

    try:
        worker.live([CHANGING])
        await until("first")
        worker.adopt(Roster((*first[:2], changing(DATES)), version="second"))
        await until("second")
        assert engine._serving is not None
        assert engine._serving._catalogue.keys() == {starter.GENERALIST, SQL, f"{CHANGING}@1"}
        assert (await worker.stats()).image_bytes.keys() == {starter.GENERALIST, SQL, CHANGING}
        assert await answer(engine, chat(CHANGING, prompts("dates", 1)[0])) == alone[DATES][0]
    finally:
        await worker.close()


async def test_adapters_come_and_change_as_long_as_the_engine_has_room(
    alone: dict[str, list[str]], tmp_path: Path
) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(SPECIALIST_TEMPLATE)

    def adapter(name: str, of: str) -> ExpertSpec:
        return ExpertSpec(
            name=name, kind="adapter", base=starter.GENERALIST, source=str(starter.DELTAS / of),
            family=starter.FAMILY, chat_template=str(template),
        )  # fmt: skip

    base = pool()[starter.GENERALIST]
    engine = VllmEngine(starter.FAMILY, [base, adapter("one", "sql")], VllmSettings(max_model_len=512))
    await engine.start()
    try:
        said = await answer(engine, chat(base.name, "What is the capital of France?", "before"))
        questions = {name: prompts(name, 3) for name in ("sql", "cron", "dates")}
        old = [asyncio.create_task(collect(engine, chat("one", p, f"old{n}"))) for n, p in enumerate(questions["sql"])]
        await asyncio.sleep(0.3)
        await engine.adopt([base, adapter("one", "cron"), adapter("two", "dates"), adapter("three", "sql")])
        assert [text for text, _ in await asyncio.gather(*old)] == alone[SQL]
        for name, of in (("one", "cron"), ("two", "dates")):
            calls = [chat(name, prompt, number) for number, prompt in enumerate(questions[of])]
            assert await asyncio.gather(*(answer(engine, call) for call in calls)) == alone[f"smol-{of}"]
        stats = await engine.stats()
        assert "for 2 adapters of a rank up to" in stats.tiers["three"]
        assert 0 < stats.image_bytes["two"] < stats.image_bytes[base.name] / 10
        # Their base computes as ever beside them: the slot that stays empty adds nothing.
        calls = [chat(name, "What is the capital of France?", "beside") for name in (base.name, "one", "two")]
        assert (await asyncio.gather(*(answer(engine, call) for call in calls)))[0] == said
        for version in ("dates", "sql", "cron", "dates"):
            await engine.adopt([base, adapter("one", version), adapter("two", "dates")])
            call = chat("one", questions[version][0], f"as {version}")
            assert await answer(engine, call) == alone[f"smol-{version}"][0]
    finally:
        await engine.close()
