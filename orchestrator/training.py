"""`coe experts train`: trains the starter pool's specialists anew and measures them for the router's profile."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from experts import starter
from experts.domains import NAMES, domain
from experts.domains.base import Question
from experts.train import TrainSettings, train_delta
from orchestrator.serve import Reporter
from workers.base import ChatCall, Delta, Engine, Failure, Sampling

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
    profile = asyncio.run(_measure(home, reporter))
    starter.PROFILE.write_text(json.dumps(profile, indent=1, sort_keys=True) + "\n")


async def _measure(home: Path, reporter: Reporter) -> dict[str, dict[str, tuple[float, int]]]:
    """Domain -> expert -> (share of right answers, questions), for every expert in every domain."""
    from workers.vllm_engine import VllmEngine, VllmSettings

    pool = starter.starter_experts(home)
    engine = VllmEngine(starter.FAMILY, pool, VllmSettings(max_model_len=2048, max_num_seqs=64))
    await engine.start()
    try:
        profile: dict[str, dict[str, tuple[float, int]]] = {}
        for done, name in enumerate(NAMES):
            reporter.progress(name, done, len(NAMES))
            questions = domain(name).train(random.Random(f"{name}/validation"), QUESTIONS)
            profile[name] = {}
            for spec in pool:
                answers = await ask_all(engine, spec.name, questions, domain(name).max_tokens)
                right = sum(domain(name).score(q, a) for q, a in zip(questions, answers, strict=True))
                profile[name][spec.name] = (round(right / len(questions), 4), len(questions))
        reporter.progress("", len(NAMES), len(NAMES))
        return profile
    finally:
        await engine.close()


async def ask_all(engine: Engine, expert: str, questions: Sequence[Question], max_tokens: int) -> list[str]:
    """The expert's answers, in the order of the questions. Raises RuntimeError if one fails."""

    async def ask(number: int, question: Question) -> str:
        text = ""
        messages = ({"role": "user", "content": question.prompt},)
        call = ChatCall(f"{expert}-{number}", expert, messages, Sampling(temperature=0, max_tokens=max_tokens))
        async with aclosing(engine.generate(call)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    text += event.text
                elif isinstance(event, Failure):
                    raise RuntimeError(f"{expert} gave no answer: {event.message}")
        return text

    return await asyncio.gather(*(ask(number, question) for number, question in enumerate(questions)))
