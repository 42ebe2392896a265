"""The starter pool, live: does routing to specialists pay?

    python -m benchmarks.starter [--json] [--questions N] [--home DIR | --url URL]

Asks every expert every held-out question through the running service, and the service itself with model "auto".
"""

import argparse
import asyncio
import random
from collections.abc import Sequence

import openai

from benchmarks.live import reached, which_service
from benchmarks.report import emit, table
from experts.domains import NAMES, domain, general
from experts.domains.base import Question
from experts.starter import GENERALIST, specialist

SEED = "held-out"
CONCURRENCY = 48


async def ask(
    client: openai.AsyncOpenAI, model: str, questions: Sequence[tuple[str, Question]]
) -> tuple[list[bool], list[str]]:
    """(right?, expert that answered) for each (domain, question)."""
    gate = asyncio.Semaphore(CONCURRENCY)

    async def one(name: str, question: Question) -> tuple[bool, str]:
        async with gate:
            answer = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question.prompt}],
                temperature=0,
                max_tokens=domain(name).max_tokens,
            )
        return domain(name).score(question, answer.choices[0].message.content or ""), answer.model

    results = await asyncio.gather(*(one(name, question) for name, question in questions))
    return [right for right, _ in results], [expert for _, expert in results]


async def general_share(client: openai.AsyncOpenAI, count: int) -> float:
    """Share of general chat that goes to the generalist, in per cent."""
    prompts = general.held_out_prompts(random.Random(SEED), count)
    chosen = []
    for prompt in prompts:
        route = await client.post("/route", body={"prompt": prompt}, cast_to=dict)
        chosen.append(route["experts"][0])
    return percent([expert == GENERALIST for expert in chosen])


def held_out(name: str, count: int) -> list[Question]:
    """A sample of the domain's held-out questions: hand-written and generated ones as they come."""
    everything = domain(name).held_out(random.Random(SEED), max(60, count))
    return random.Random(SEED).sample(everything, count)


def percent(flags: Sequence[bool]) -> float:
    return round(100 * sum(flags) / len(flags), 1)


async def measure(url: str, key: str, count: int) -> dict[str, object]:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, timeout=900, max_retries=0)
    mixture = [(name, question) for name in NAMES for question in held_out(name, count)]
    by_expert: dict[str, list[bool]] = {}
    for expert in (GENERALIST, *map(specialist, NAMES)):
        by_expert[expert], answered_by = await ask(client, expert, mixture)
        assert set(answered_by) == {expert}, f"asked {expert}, answered by {set(answered_by)}"
        print(f"{expert}: {percent(by_expert[expert])} % of the mixture", flush=True)
    routed, chosen = await ask(client, "auto", mixture)

    def inside(flags: Sequence[bool], name: str) -> float:
        return percent([flag for flag, (own, _) in zip(flags, mixture, strict=True) if own == name])

    specialists = {name: inside(by_expert[specialist(name)], name) for name in NAMES}
    generalist = {name: inside(by_expert[GENERALIST], name) for name in NAMES}
    reached = [expert == specialist(name) for expert, (name, _) in zip(chosen, mixture, strict=True)]
    oracle = [by_expert[specialist(name)][i] for i, (name, _) in enumerate(mixture)]
    rows = [(name, generalist[name], specialists[name], inside(routed, name), inside(reached, name)) for name in NAMES]
    print("\n" + table(("domain, right answers in %", "generalist", "specialist", "routed", "to specialist"), rows))
    best = max(by_expert, key=lambda expert: sum(by_expert[expert]))
    figures: dict[str, object] = {
        "generalist_in_domain": generalist,
        "specialist_in_domain": specialists,
        "routed": percent(routed),
        "best_single": percent(by_expert[best]),
        "category_oracle": percent(oracle),
        "to_specialist": percent(reached),
        "general_to_generalist": await general_share(client, 120),
    }
    print(f"\nmixture of {len(mixture)}: routed {figures['routed']} %, category oracle {figures['category_oracle']} %")
    print(f"best single expert ({best}): {figures['best_single']} %")
    print(f"general chat to the generalist: {figures['general_to_generalist']} %")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--questions", type=int, default=40, help="held-out questions a domain (default 40)")
    which_service(parser)
    arguments = parser.parse_args()
    with reached(arguments) as (url, key):
        figures = asyncio.run(measure(url, key, arguments.questions))
    emit({"questions_per_domain": arguments.questions, "temperature": 0, "seed": SEED}, figures, arguments.json)


if __name__ == "__main__":
    main()
