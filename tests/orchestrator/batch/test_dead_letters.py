"""What goes down under a line, and whether the line is to blame: it is tried until that is known, and then given up."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aggregators.registry import make
from aggregators.settings import Settings
from orchestrator.batch.drain import company
from orchestrator.embedded_redis import EmbeddedRedis
from orchestrator.ensembles import Ensemble
from orchestrator.store import Store
from tests.orchestrator.batch import jsonl, runner_process
from tests.orchestrator.batch.conftest import create, ended, errors, output, run, running, until
from tests.orchestrator.batch.test_kills import front, own_redis
from tests.orchestrator.parts import GENERALIST, LIMITS, MATH, SQL, Service
from tests.orchestrator.test_metrics import samples
from workers.base import ChatCall
from workers.fake_engine import FakeEngine, echo

__all__ = ["front", "own_redis"]


class Mortal:
    """Makes an engine die of a word, and start again a little later."""

    def __init__(self, engine: FakeEngine, word: str) -> None:
        self.engine, self.word, self.deaths = engine, word, 0
        engine.answer = self.answer
        self._starts = set[asyncio.Task[None]]()

    def answer(self, call: ChatCall) -> str:
        if self.word in call.messages[-1]["content"]:
            self.die()
        return echo(call)

    def die(self) -> None:
        self.deaths += 1
        self.engine.die()
        task = asyncio.get_running_loop().create_task(self._start())
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    async def _start(self) -> None:
        await asyncio.sleep(0.02)
        await self.engine.start()


async def test_a_line_that_ends_its_engine_is_given_up_and_harms_no_other(service: Service) -> None:
    mortal = Mortal(service.engine, "poison")
    lines = [jsonl.chat(f"id-{n}", f"sql {n}") for n in range(20)]
    lines[3] = jsonl.chat("bad", "sql poison")
    with capture_logs() as logged:
        batch = await run(service, jsonl.file(lines))
    assert len(await output(service, batch)) == 19
    [row] = await errors(service, batch)
    assert (row["custom_id"], row["response"]["status_code"]) == ("bad", 500)
    error = row["response"]["body"]["error"]
    assert error["code"] == "fatal_line"
    assert (
        "the engine of family 'small' went down; that was so 3 times while it ran this line alone" in error["message"]
    )
    [told] = [event for event in logged if event["event"] == "a line of a batch was given up"]
    assert (told["what"], told["times"], told["line"], told["expert"]) == ("engine", 3, 3, SQL)
    found = samples(service.metrics.render({}))
    assert found["coe_batch_dead_letters_total", "engine"] == 1
    assert mortal.deaths <= 10  # each costs all others a start


async def test_lines_that_were_near_when_engines_died_are_all_answered(service: Service) -> None:
    chance, mortal = random.Random(3), Mortal(service.engine, "nobody says this")
    service.engine.token_delay = 0.005
    batch = await create(service, jsonl.file([jsonl.chat(f"id-{n}", f"sql {n}") for n in range(150)]))
    async with running(service):
        for _ in range(25):
            await asyncio.sleep(chance.uniform(0.01, 0.1))
            await until(lambda: _is_up(service.engine))
            mortal.die()
        done = await ended(service, batch.id)
    assert [row["custom_id"] for row in await output(service, done)] == [f"id-{n}" for n in range(150)]
    assert await errors(service, done) == []


async def _is_up(engine: FakeEngine) -> bool:
    return engine.is_alive()


async def test_an_engine_that_is_long_in_starting_costs_no_line(store: Store, tmp_path: Path) -> None:
    service = await Service.start(store, replace(LIMITS, timeout_s=0.2), batch=tmp_path)
    await service.engine.close()
    batch = await create(service, jsonl.file([jsonl.chat(f"id-{n}", f"sql {n}") for n in range(5)]))
    async with running(service):
        await until(lambda: _asked(service.engine, 40))  # many times the tries of each line
        await service.engine.start()
        done = await ended(service, batch.id)
    assert len(await output(service, done)) == 5
    await service.stop()


async def _asked(engine: FakeEngine, times: int) -> bool:
    return engine.failed >= times


async def test_a_draft_that_is_given_up_leaves_the_line_to_the_others(store: Store, tmp_path: Path) -> None:
    ensemble = Ensemble(
        "ensemble/two", 2, make("judge", Settings(expert=GENERALIST)), experts=(SQL, MATH), expert=GENERALIST
    )
    service = await Service.start(store, batch=tmp_path, ensembles=[ensemble])
    service.engine.fail_start(MATH, "no weights")
    batch = await run(service, jsonl.file([jsonl.chat(f"id-{n}", f"hello {n}", "ensemble/two") for n in range(3)]))
    rows = await output(service, batch)
    assert batch.status == "completed"
    assert [row["response"]["body"]["coe"]["used"] for row in rows] == [[SQL]] * 3
    assert await errors(service, batch) == []
    await service.stop()


@pytest.mark.timeout(300)
async def test_a_file_that_ends_whoever_plans_it_fails_and_says_why(
    front: Service, own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    fatal = await create(front, jsonl.file([jsonl.chat("a", f"sql {runner_process.UNROUTABLE}")]))
    good = await create(front, jsonl.file([jsonl.chat("a", "sql 1")]))
    runner = runner_process.start(own_redis.url, tmp_path / "home", 0.0)

    async def is_over() -> bool:
        nonlocal runner
        if not runner.is_alive():
            runner.join()
            runner = runner_process.start(own_redis.url, tmp_path / "home", 0.0)
        return (await front.openai.batches.retrieve(fatal.id)).status == "failed"

    try:
        await until(is_over, within=200)
        assert (await ended(front, good.id)).status == "completed"
    finally:
        runner.kill()
        runner.join()
    failed = await front.openai.batches.retrieve(fatal.id)
    assert failed.errors is not None
    [why] = failed.errors.data or []
    assert "times while it did 'plan' for this batch" in (why.message or "")


def test_a_line_has_ever_less_company_until_it_is_alone() -> None:
    for room in (1, 4, 16, 256):
        most = [company(room, hits) for hits in range(6)]
        assert most[0] == room
        assert most[-1] == 1
        assert all(after < before or after == 1 for before, after in pairwise(most))


async def test_what_batches_do_is_counted(service: Service) -> None:
    before = await create(service, jsonl.file([jsonl.chat("a", "sql 1"), jsonl.chat("b", "word " * 60, SQL), "bad"]))
    service.engine.token_delay = 0.05
    async with running(service):

        async def is_told() -> bool:
            found = samples(service.metrics.render({}))
            states = Counter({key[1]: value for key, value in found.items() if key[0] == "coe_batch_jobs"})
            return sum(states.values()) == 1 and found["coe_batch_blocks",] == 1

        await until(is_told)
        await ended(service, before.id)
    found = samples(service.metrics.render({}))
    assert found["coe_batch_lines_total", "answer"] == 1
    assert found["coe_batch_lines_total", "error"] == 1  # too long a prompt
    assert found["coe_batch_lines_total", "refused"] == 1
    assert found["coe_batch_jobs_ended_total", "completed"] == 1
    assert found["coe_batch_planning_seconds_count",] == 1
