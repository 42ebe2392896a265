"""`coe experts train`: trains the starter pool's specialists anew and measures them for the router's profile."""

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from experts import starter
from experts.domains import NAMES, domain
from experts.registry import Registry
from experts.train import TrainSettings, train_delta
from orchestrator.profile.ask import EngineAsker
from orchestrator.profile.questions import ProfileQuestion
from orchestrator.profile.run import Outcome, run
from orchestrator.profile.scoring import DOMAIN, method
from orchestrator.reporter import Reporter

QUESTIONS = 40
"""Validation questions a domain: drawn like the training ones with another seed, never from the held-out ones."""


def train_pool(domains: Sequence[str] | None, home: Path, deltas: Path | None, reporter: Reporter) -> None:
    """Trains `domains` (None = all) and writes their deltas and the profile of the whole pool to `deltas`.

    Raises KeyError for a domain that there is not, StarterUnavailable without the generalist's weights.
    """
    chosen = [domain(name) for name in domains or NAMES]
    target = deltas or starter.DELTAS
    reporter.say("preparing the generalist")
    starter.build_one(home, starter.GENERALIST)
    for each in chosen:
        reporter.say(f"training {starter.specialist(each.name)}")
        out = target / each.name
        out.mkdir(parents=True, exist_ok=True)
        train_delta(
            home / "models" / starter.GENERALIST,
            each,
            out,
            TrainSettings(),
            lambda step, steps, loss: reporter.progress(f"loss {loss:.3f}", step, steps),
        )
    if target == starter.DELTAS:
        measure_pool(home, reporter)


def measure_pool(home: Path, reporter: Reporter) -> None:
    """Asks every expert of the pool validation questions of every domain; writes the profile that the router is
    fitted on."""
    reporter.say("building the checkpoints")
    starter.build(home, reporter.progress)
    reporter.say("measuring the pool")
    with TemporaryDirectory() as folder:
        outcome = asyncio.run(_measure(home, Path(folder), reporter))
    if outcome.missing:
        raise RuntimeError("; ".join(f"{name}: {why}" for name, why in outcome.missing.items()))
    starter.PROFILE.write_text(json.dumps(outcome.profile.quality(), indent=1, sort_keys=True) + "\n")


async def _measure(home: Path, folder: Path, reporter: Reporter) -> Outcome:
    from workers.vllm_engine import VllmEngine, VllmSettings

    pool = Registry(starter.starter_experts(home))
    settings = VllmSettings(max_model_len=2048, max_num_seqs=64)
    asker = EngineAsker(pool, lambda family: VllmEngine(family, tuple(pool), settings), reporter.say)
    try:
        return await run(asker, pool.names, validation_questions(), folder, reporter.progress, concurrent=64)
    finally:
        await asker.close()


def validation_questions() -> list[ProfileQuestion]:
    """QUESTIONS of every domain."""
    return [
        ProfileQuestion(
            f"{name}-{number}",
            question.prompt,
            method(DOMAIN + name),
            (question.answer,),
            category=name,
            max_tokens=domain(name).max_tokens,
            check=question.check,
        )
        for name in NAMES
        for number, question in enumerate(domain(name).train(random.Random(f"{name}/validation"), QUESTIONS))
    ]
