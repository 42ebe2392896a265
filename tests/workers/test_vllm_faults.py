"""What goes wrong with an expert's weights, or with the engine amid a swap: told, alone, and nothing is lost."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from experts import starter
from experts.spec import ExpertSpec
from tests.workers.real import all_blocks_come_back, answer, chat, collect, pool, until_up, worker_processes
from workers import checkpoints, vllm_internals
from workers.base import Failure, Finish, Roster
from workers.vllm_engine import ImageSettings, NoExpertLoads, VllmEngine, VllmSettings
from workers.worker import Worker

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="module")]

IMAGE = checkpoints.weight_bytes(pool()[starter.GENERALIST].source, "float32")
QUESTION = "What is the capital of France?"


def copy_of(spec: ExpertSpec, folder: Path) -> ExpertSpec:
    """The same expert in a folder of its own; its weights are links."""
    shutil.copytree(spec.source, folder, copy_function=os.link)
    return spec.model_copy(update={"name": f"copied-{spec.name}", "source": str(folder)})


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["in turn", "ahead"])
async def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VllmEngine]:
    """Room for one image and a bit, so that every turn needs a load; image files are written. Steps are scheduled in
    turn with their outputs, or ahead of them."""
    folder = tmp_path_factory.mktemp("faults")
    specs = [pool()[starter.GENERALIST], pool()["smol-sql"], copy_of(pool()["smol-cron"], folder / "cron")]
    images = ImageSettings(device=int(1.3 * IMAGE), folder=folder / "images")
    settings = VllmSettings(max_model_len=512, images=images, asynchronous=request.param == "ahead")
    engine = VllmEngine(starter.FAMILY, specs, settings)
    await engine.start()
    yield engine
    await engine.close()


async def test_experts_that_never_fit_together_answer_in_turn(engine: VllmEngine) -> None:
    names = (starter.GENERALIST, "smol-sql", "copied-smol-cron")
    alone = [await answer(engine, chat(name, QUESTION, "alone")) for name in names]
    assert len(set(alone)) == len(names)
    assert await asyncio.gather(*(answer(engine, chat(name, QUESTION, "mixed")) for name in names)) == alone
    stats = await engine.stats()
    assert stats.swap_hits == 0
    assert sum(stats.loads.values()) >= 4


async def test_a_checkpoint_that_changed_fails_alone(engine: VllmEngine) -> None:
    await answer(engine, chat("smol-sql", QUESTION, "before"))  # another image is on the device now
    config = Path(engine._members.experts["copied-smol-cron"].source) / "config.json"
    text = config.read_text()
    config.unlink()  # a link to the pool's own file
    config.write_text(text + "\n")
    waiting = [asyncio.create_task(collect(engine, chat("copied-smol-cron", QUESTION, n))) for n in range(3)]
    others = [asyncio.create_task(answer(engine, chat("smol-sql", QUESTION, f"other-{n}"))) for n in range(3)]
    for text, last in await asyncio.gather(*waiting):
        assert text == ""
        assert isinstance(last, Failure)
        assert last.code == "expert_unavailable"
        assert "changed on disk" in last.message
    assert len(set(await asyncio.gather(*others))) == 1
    assert "changed on disk" in (await engine.stats()).tiers["copied-smol-cron"]
    assert await answer(engine, chat(starter.GENERALIST, QUESTION, "after"))


async def test_an_image_that_was_spoilt_in_memory_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies, and steps that are scheduled ahead: the spoilt image is found amid the steps that should compute it, and
    what those left behind (blocks of a prefix that nothing computed) is not used when the image has been read anew."""
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # for `spoil`, a function sent to the worker
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    def spoil(worker: Any) -> None:
        spoilt, other = (worker._store._images[name].built for name in ("smol-sql", "smol-general"))
        name = next(name for name, digest in spoilt.known.items() if digest != other.known[name])
        spoilt.tensors[name].add_(1.0)

    specs = [pool()[starter.GENERALIST], pool()["smol-sql"]]
    settings = VllmSettings(max_model_len=512, images=ImageSettings(copy=True), asynchronous=True)
    engine = VllmEngine(starter.FAMILY, specs, settings)
    await engine.start()
    try:
        long = "Remember: " + " ".join(f"word{n}" for n in range(60))
        alone = {spec.name: await answer(engine, chat(spec.name, long, "alone")) for spec in reversed(specs)}
        assert len(set(alone.values())) == 2
        await all_blocks_come_back(engine)
        llm: Any = engine._llm
        await llm.collective_rpc(spoil)
        asked = [asyncio.create_task(collect(engine, chat("smol-sql", long, n))) for n in range(3)]
        others = [asyncio.create_task(answer(engine, chat(starter.GENERALIST, long, f"o{n}"))) for n in range(3)]
        for text, last in await asyncio.gather(*asked):
            assert text == ""
            assert isinstance(last, Failure)
            assert last.code == "expert_unavailable"
            assert "did not reach the device whole" in last.message
        assert await asyncio.gather(*others) == [alone[starter.GENERALIST]] * 3
        _, last = await collect(engine, chat("smol-sql", long, "at once"))
        assert isinstance(last, Failure)  # it is not read again for each request that comes
        await asyncio.sleep(vllm_internals.RETRY)
        text, last = await collect(engine, chat("smol-sql", long, "later"))
        assert isinstance(last, Finish)
        assert (text, last.usage.cached_tokens) == (alone["smol-sql"], 0)
        await all_blocks_come_back(engine)
    finally:
        await engine.close()


async def test_no_engine_is_started_for_experts_larger_than_their_memory() -> None:
    settings = VllmSettings(images=ImageSettings(device=IMAGE // 2))
    engine = VllmEngine(starter.FAMILY, [pool()["smol-sql"]], settings)
    with pytest.raises(NoExpertLoads, match=r"take 0\.50 GiB, the device has room for images of 0\.25 GiB"):
        await engine.start()


async def test_an_engine_killed_in_the_middle_of_a_load_tells_and_comes_back() -> None:
    specs = [pool()[starter.GENERALIST], pool()["smol-sql"]]
    settings = VllmSettings(max_model_len=512, images=ImageSettings(device=int(1.3 * IMAGE)))
    others = worker_processes()
    worker = Worker(
        starter.FAMILY,
        Roster(tuple(specs)),
        lambda roster: VllmEngine(starter.FAMILY, roster.experts, settings),
    )
    worker.launch()
    try:
        await until_up(worker, chat(starter.GENERALIST, QUESTION, "before"))
        caught = asyncio.create_task(collect(worker, chat("smol-sql", QUESTION, "caught")))
        await asyncio.sleep(0.3)
        [victim] = worker_processes() - others
        os.kill(victim, signal.SIGKILL)
        _, last = await caught
        assert isinstance(last, Failure)
        assert last.code == "engine_died"
        assert await until_up(worker, chat("smol-sql", QUESTION, "after"))
        assert (await worker.stats()).restarts == 1
    finally:
        await worker.close()
