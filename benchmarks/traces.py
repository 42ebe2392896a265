"""Traces: which request comes when, for which expert, and how long it is. Equal arguments give equal traces."""

import asyncio
import csv
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count, islice
from pathlib import Path

TIME, PROMPT, OUTPUT = "TIMESTAMP", "ContextTokens", "GeneratedTokens"
"""Columns of the Azure LLM inference traces of 2023 (Azure/AzurePublicDataset)."""


@dataclass(frozen=True, slots=True)
class Job:
    """A request of a trace. at: seconds since the trace began; prompt_tokens: with the chat template's own."""

    at: float
    expert: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Least and most tokens of prompts and of outputs, both inclusive. ValueError unless 1 <= least <= most."""

    prompt: tuple[int, int]
    output: tuple[int, int]

    def __post_init__(self) -> None:
        for what, (least, most) in (("prompt", self.prompt), ("output", self.output)):
            if not 1 <= least <= most:
                raise ValueError(f"{what} lengths are {least}..{most} tokens; 1 <= least <= most is needed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job. Seconds are those since its arrival; tokens: of the answer.

    wait: seconds to the first token, None if there was none; failure: why there is no whole answer, else None.
    """

    job: Job
    wait: float | None
    seconds: float
    tokens: int
    failure: str | None = None


async def play(jobs: Sequence[Job], serve: Callable[[int, Job, float], Awaitable[Outcome]]) -> list[Outcome]:
    """Calls `serve(number, job, arrival)` for each job at its time, however many others are under way.

    number: the place of the job in `jobs` and of its outcome in the result; jobs due at once go in this order.
    arrival: when the job was due, on the clock of time.monotonic(): what delays this loop counts as waiting too.
    """
    began = time.monotonic()

    async def one(number: int, job: Job) -> Outcome:
        arrival = began + job.at
        await asyncio.sleep(arrival - time.monotonic())
        return await serve(number, job, arrival)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number, job)) for number, job in enumerate(jobs)]
    return [task.result() for task in tasks]


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures over the outcomes of a trace.

    wait_s: seconds to the first token of the requests that had one, 50th and 99th percentile; tokens_per_s: tokens from
    the first arrival to the last end; goodput: requests per second whose first token came within the SLO and whose
    answer is whole; attained: their share of all requests; failed: requests without a whole answer.
    """

    wait_s_p50: float
    wait_s_p99: float
    tokens_per_s: float
    goodput: float
    attained: float
    failed: int


def summarize(outcomes: Sequence[Outcome], slo: float) -> Summary:
    """`slo`: seconds to the first token. Raises ValueError if no request had one."""
    waits = sorted(outcome.wait for outcome in outcomes if outcome.wait is not None)
    if not waits:
        raise ValueError(f"none of {len(outcomes)} requests was answered, there is nothing to sum up")
    began = min(outcome.job.at for outcome in outcomes)
    seconds = max(outcome.job.at + outcome.seconds for outcome in outcomes) - began
    good = sum(o.failure is None and o.wait is not None and o.wait <= slo for o in outcomes)
    return Summary(
        wait_s_p50=percentile(waits, 50),
        wait_s_p99=percentile(waits, 99),
        tokens_per_s=sum(outcome.tokens for outcome in outcomes) / seconds,
        goodput=good / seconds,
        attained=good / len(outcomes),
        failed=sum(outcome.failure is not None for outcome in outcomes),
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """The least of the values that `share` per cent of them do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share / 100 * len(ascending)) - 1)]


def zipf(n: int, experts: Sequence[str], rate: float, exponent: float, seed: int, lengths: Lengths) -> list[Job]:
    """`n` Poisson arrivals of `rate` per second, lengths uniform within `lengths`.

    The k-th expert is asked in proportion to 1 / k^exponent, independently of all else. Raises ValueError if `rate` is
    not positive, and as `_draws` does.
    """
    if rate <= 0:
        raise ValueError(f"the rate is {rate} requests per second; it must be positive")
    names = _draws(experts, exponent, seed)
    dice = random.Random(f"arrivals {seed}")
    jobs, at = [], 0.0
    for expert in islice(names, n):
        at += dice.expovariate(rate)
        jobs.append(Job(at, expert, dice.randint(*lengths.prompt), dice.randint(*lengths.output)))
    return jobs


def azure(
    path: Path,
    n: int,
    experts: Sequence[str],
    exponent: float,
    seed: int,
    time_scale: float,
    token_scale: float,
    lengths: Lengths,
) -> list[Job]:
    """The first `n` requests of an Azure LLM inference trace, the first of them at 0.

    Arrival times are multiplied by `time_scale`, lengths by `token_scale`, and what then lies outside of `lengths` is
    put on its border. The trace names no expert: the draw is that of `zipf`. Raises OSError if `path` cannot be read,
    ValueError if it is not such a trace or too short, if a scale is not positive, and as `_draws` does.
    """
    if time_scale <= 0 or token_scale <= 0:
        raise ValueError(f"the scales are {time_scale} (time) and {token_scale} (tokens); they must be positive")
    names = _draws(experts, exponent, seed)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = {TIME, PROMPT, OUTPUT} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path} is no Azure LLM trace: it has no column {', '.join(sorted(missing))}")
        taken = list(islice(rows, n))
    if len(taken) < n:
        raise ValueError(f"{path} holds {len(taken)} requests, {n} are wanted")
    times = [datetime.fromisoformat(row[TIME]) for row in taken]
    return [
        Job(
            (time - times[0]).total_seconds() * time_scale,
            expert,
            _within(int(row[PROMPT]) * token_scale, lengths.prompt),
            _within(int(row[OUTPUT]) * token_scale, lengths.output),
        )
        for time, row, expert in zip(times, taken, names, strict=False)  # the draws have no end
    ]


def _draws(experts: Sequence[str], exponent: float, seed: int) -> Iterator[str]:
    """Experts without end, the k-th in proportion to 1 / k^exponent. ValueError without experts or below exponent 0."""
    if not experts or exponent < 0:
        raise ValueError(f"{len(experts)} experts and exponent {exponent}; at least one and at least 0 are needed")
    dice = random.Random(f"experts {seed}")
    weights = [k**-exponent for k in range(1, len(experts) + 1)]
    return (dice.choices(experts, weights)[0] for _ in count())


def _within(tokens: float, limits: tuple[int, int]) -> int:
    least, most = limits
    return min(max(round(tokens), least), most)
