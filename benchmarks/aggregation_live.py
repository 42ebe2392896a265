"""Aggregators live on the starter pool: what each gets right, by domain, and what it costs.

    python -m benchmarks.aggregation_live [--json] [--questions N] [--minutes M] [--home DIR | --url URL]

Every held-out question is put to the best single expert of its domain, to the router alone, to the router's three
experts with every aggregator, and, for as many calls, to the best expert three times at temperature 0.8 with a vote on
what it said (self-consistency). All ways get the same questions; when the time is up no further question is begun.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai

from aggregators.answers import extract
from aggregators.ballot import Ballot
from aggregators.registry import NAMES as AGGREGATORS
from benchmarks.live import reached, which_service
from benchmarks.report import emit, table
from benchmarks.routed import SEED
from benchmarks.starter import held_out
from experts.domains import NAMES, domain
from experts.domains.base import Question
from experts.starter import GENERALIST, PROFILE, specialist
from routers.evaluation.measures import intervals

K = 3
TEMPERATURE = 0.8
SINGLE, AUTO, CONSISTENCY = "best single expert", "router alone", f"self-consistency of {K}"
HEADER = ("way", "right %", "calls", "tokens", "s p50", "s p95", "lead", "95 % interval")


@dataclass(frozen=True, slots=True)
class Answer:
    """One way's answer to a question. tokens: of all its calls, prompts included. note: how the service says that it
    came about. error: why there is none."""

    right: bool
    calls: int
    tokens: int
    seconds: float
    note: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the answers of all ways, by name."""

    domain: str
    answers: dict[str, Answer]


@dataclass(frozen=True, slots=True)
class Said:
    """What a way said, and at which price; note: see `Answer`."""

    text: str
    calls: int
    tokens: int
    note: str = ""


Way = Callable[[str, Question], Awaitable[Said]]
"""(domain, question) -> what is said. Raises openai.APIError."""


def ways(client: openai.AsyncOpenAI) -> dict[str, Way]:
    """All that are compared, the best single expert first."""
    profile = json.loads(PROFILE.read_text())
    best = {name: max(row, key=lambda expert: row[expert][0]) for name, row in profile.items()}

    async def said(model: str, name: str, question: Question, **options: Any) -> Said:
        answer = await client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question.prompt}],
            max_tokens=domain(name).max_tokens,
            **{"temperature": 0, **options},
        )
        coe = (answer.model_extra or {})["coe"]
        tokens = answer.usage.total_tokens if answer.usage else 0
        return Said(answer.choices[0].message.content or "", len(coe["calls"]), tokens, coe["note"])

    async def consistency(name: str, question: Question) -> Said:
        samples = await asyncio.gather(
            *(said(best[name], name, question, temperature=TEMPERATURE, seed=seed) for seed in range(K))
        )
        found = Ballot([1 / K] * K, {rank: extract(sample.text) for rank, sample in enumerate(samples)})
        text = samples[found.winner or 0].text
        return Said(text, sum(sample.calls for sample in samples), sum(sample.tokens for sample in samples))

    def together(aggregator: str) -> Way:
        options = {"coe": {"k": K, "aggregator": aggregator}}
        return lambda name, question: said("auto", name, question, extra_body=options)

    return {
        SINGLE: lambda name, question: said(best[name], name, question),
        AUTO: lambda name, question: said("auto", name, question),
        **{f"{name} of {K}": together(name) for name in AGGREGATORS},
        CONSISTENCY: consistency,
    }


async def ask(ways: Mapping[str, Way], name: str, question: Question) -> Asked:
    """One way after the other, so that none waits for another."""
    answers = {}
    for way, answer in ways.items():
        began = time.perf_counter()
        try:
            said = await answer(name, question)
        except openai.APIError as error:
            answers[way] = Answer(False, 0, 0, time.perf_counter() - began, error=error.message)
        else:
            seconds, right = time.perf_counter() - began, domain(name).score(question, said.text)
            answers[way] = Answer(right, said.calls, said.tokens, seconds, _nameless(said.note))
    return Asked(name, answers)


def _nameless(note: str) -> str:
    """So that notes which tell the same of other experts are counted together."""
    for expert in (GENERALIST, *map(specialist, NAMES)):
        note = note.replace(expert, "X")
    return re.sub(r": [\d.]+ of 10", "", note)


async def measure(url: str, key: str, questions: int, minutes: float, at_a_time: int) -> list[Asked]:
    """The questions of all domains in turn, a few at a time, as long as there is time to begin one."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, timeout=900, max_retries=0)
    by_domain = [[(name, question) for question in held_out(name, questions)] for name in NAMES]
    waiting = iter([one for row in zip(*by_domain, strict=True) for one in row])
    all_ways, end = ways(client), time.monotonic() + 60 * minutes
    found: list[Asked] = []

    async def one_after_the_other() -> None:
        for name, question in waiting:
            if time.monotonic() > end:
                return
            found.append(await ask(all_ways, name, question))
            print(f"{len(found)} questions", end="\r", flush=True)

    await asyncio.gather(*(one_after_the_other() for _ in range(at_a_time)))
    return found


def figures(found: Sequence[Asked]) -> dict[str, Any]:
    """By way: shares in per cent, means, seconds; leads over the best single expert in points."""
    names = list(found[0].answers)
    right = np.array([[asked.answers[way].right for way in names] for asked in found], np.float64)
    leads = 100 * (right - right[:, [names.index(SINGLE)]])
    ends = intervals(leads, seed=SEED)
    by_way = {}
    for column, way in enumerate(names):
        answers = [asked.answers[way] for asked in found]
        p50, p95 = np.quantile([answer.seconds for answer in answers], [0.5, 0.95])
        by_way[way] = {
            "right": percent(right[:, column]),
            "calls": round(float(np.mean([answer.calls for answer in answers])), 2),
            "tokens": round(float(np.mean([answer.tokens for answer in answers])), 1),
            "seconds_p50": round(float(p50), 2),
            "seconds_p95": round(float(p95), 2),
            "lead": round(float(leads[:, column].mean()), 1),
            "interval": [round(float(end), 1) for end in ends[column]],
            "notes": dict(Counter(answer.note for answer in answers if answer.note).most_common()),
            "errors": sorted({answer.error for answer in answers if answer.error}),
            "by_domain": {
                name: percent([right[row, column] for row, asked in enumerate(found) if asked.domain == name])
                for name in NAMES
                if any(asked.domain == name for asked in found)
            },
        }
    return {"questions": len(found), "ways": by_way}


def told(made: dict[str, Any]) -> str:
    """Two tables: all domains together, and what is right in each."""
    rows: list[Sequence[object]] = []
    for way, own in made["ways"].items():
        low, high = own["interval"]
        compared = ("", "") if way == SINGLE else (f"{own['lead']:+.1f}", f"{low:+.1f} to {high:+.1f}")
        seconds = (f"{own['seconds_p50']:.2f}", f"{own['seconds_p95']:.2f}")
        rows.append((way, own["right"], f"{own['calls']:.2f}", f"{own['tokens']:.0f}", *seconds, *compared))
    domains = list(made["ways"][SINGLE]["by_domain"])
    inside = [(way, *(own["by_domain"][name] for name in domains)) for way, own in made["ways"].items()]
    notes = [f"{way}: {n} times {note}" for way, own in made["ways"].items() for note, n in own["notes"].items()]
    errors = [f"{way}: {error}" for way, own in made["ways"].items() for error in own["errors"]]
    return "\n\n".join(
        [table(HEADER, rows), table(("right answers in %", *domains), inside), "\n".join(notes), *errors]
    )


def percent(values: Any) -> float:
    return round(100 * float(np.mean(values)), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--questions", type=int, default=8, help="held-out questions a domain (default 8)")
    parser.add_argument("--minutes", type=float, default=6, help="after which no question is begun (default 6)")
    parser.add_argument("--at-a-time", type=int, default=4, help="questions at a time (default 4)")
    which_service(parser)
    arguments = parser.parse_args()
    with reached(arguments) as (url, key):
        found = asyncio.run(measure(url, key, arguments.questions, arguments.minutes, arguments.at_a_time))
    made = figures(found)
    print(f"{made['questions']} questions of {len(NAMES)} domains, {arguments.at_a_time} at a time\n\n{told(made)}")
    settings = {"seats": K, "temperature": 0, "consistency_temperature": TEMPERATURE, "at_a_time": arguments.at_a_time}
    emit(settings, made, arguments.json)


if __name__ == "__main__":
    main()
