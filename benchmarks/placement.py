"""Which expert lives on which worker: how good the greedy placement is, how fast, and what it saves.

python -m benchmarks.placement [--data FOLDER] [--json] [--seed N]

Three parts. (1) Random small instances: cost of the greedy placement over that of the integer program. (2) Pools of up
to 1,000 experts on 64 workers, popularity by Zipf's law: load of the fullest worker over the mean, and how often two
experts of one request meet on a worker, beside the same copies placed at random and in turn. (3) An hour of requests in
windows of two minutes, in which the popular experts change at half time: the balance before, in the three windows until
it is sure, and later, and what re-planning loads. With --data, arrivals and lengths are those of the Azure trace of
conversations (traces/), and a fourth part places the nine experts of MMLU-Pro (routing/), where each prompt goes to the
three best of its category.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import emit, table
from benchmarks.traces import Job, Lengths, azure, percentile, zipf
from orchestrator.placement import exact, greedy
from orchestrator.placement.copies import copies
from orchestrator.placement.model import (
    Bools,
    CoSelection,
    Demand,
    Placement,
    Problem,
    Worker,
    cost,
    make_problem,
    terms,
)
from orchestrator.placement.place import place
from orchestrator.placement.replan import Bounds, Change, loads, replan

GB = 10**9
SMALL = 200
"""Instances of part 1."""
DRAWS = 20
"""Random placements, of which the mean is told."""
WINDOW_S, WINDOWS, SHIFT, SURE = 120.0, 29, 14, 3
"""Seconds of a window, windows of the trace, the one at whose begin the popular experts change, and windows until
re-planning takes it for true."""
LINK_GB_S = 2.0
"""At which images are loaded: from a local disk."""


def workers(number: int, *, nodes: int, speed: float = 1000.0, device: float = 70 * GB) -> list[Worker]:
    return [Worker(f"w{k}", f"n{k % nodes}", ("f",), speed, device) for k in range(number)]


def small_problem(dice: random.Random) -> Problem:
    """2 to 8 experts on 1 to 4 workers; half of them with experts that live somewhere already."""
    count, names = dice.randint(1, 4), [f"e{k}" for k in range(dice.randint(2, 8))]
    there = [
        replace(own, speed=1000.0 * dice.choice((1, 1, 2)), device=dice.uniform(10, 80) * GB)
        for own in workers(count, nodes=dice.randint(1, count))
    ]
    demands = [_demand(name, dice.expovariate(1), dice.choice((3, 15, 15)) * GB) for name in names]
    for k in range(1, len(demands)):
        roots = [own.expert for own in demands[:k] if own.base is None]
        if dice.random() < 0.3:
            demands[k] = replace(demands[k], base=dice.choice(roots), bytes=0.1 * GB, load_s=0.1)
    sampled = [dice.sample(names, 2) for _ in range(dice.randint(0, 6))]
    pairs = [CoSelection(one, other, dice.random()) for one, other in sampled]
    hosts = [own.name for own in there]
    current = None
    if dice.random() < 0.5:
        current = Placement({name: tuple(dice.sample(hosts, dice.randint(0, min(2, count)))) for name in names})
    budget = dice.choice((None, 0.0, 8.0, 30.0))
    return make_problem(there, demands, copies(there, demands), pairs, current, budget)


def _demand(name: str, rate: float, size: float, tokens: float = 200.0) -> Demand:
    return Demand(name, "f", rate, tokens, size, size / GB / LINK_GB_S)


def against_the_program(seed: int) -> dict[str, float]:
    """Ratios of cost, and seconds of both."""
    dice, ratios, spent = random.Random(f"small {seed}"), list[float](), {"greedy": list[float](), "ilp": list[float]()}
    while len(ratios) < SMALL:
        problem = small_problem(dice)
        began = time.perf_counter()
        quick = greedy.solve(problem)
        between = time.perf_counter()
        best, is_best = exact.solve(problem, 60.0)
        spent["greedy"].append(between - began)
        spent["ilp"].append(time.perf_counter() - between)
        if best is None or not is_best:
            raise RuntimeError(f"the program found no best placement of {len(problem.demands)} experts")
        ratios.append(cost(problem, quick) / cost(problem, best))
    ratios.sort()
    return {
        "instances": len(ratios),
        "optimal": sum(ratio < 1.0001 for ratio in ratios) / len(ratios),
        "ratio_mean": statistics.fmean(ratios),
        "ratio_p95": percentile(ratios, 95),
        "ratio_worst": ratios[-1],
        "greedy_s": statistics.median(spent["greedy"]),
        "ilp_s": statistics.median(spent["ilp"]),
        "ilp_s_worst": max(spent["ilp"]),
    }


def pool(experts: int, there: Sequence[Worker], exponent: float, seed: int) -> tuple[list[Demand], list[CoSelection]]:
    """Popularity by Zipf, 60 % of the workers' speed asked for; a third are adapters of one of the others. Each expert
    answers some requests together with three others, so often as the rarer one of the two is asked."""
    dice = random.Random(f"pool {seed}")
    shares = [(k + 1) ** -exponent for k in range(experts)]
    total = 0.6 * sum(own.speed for own in there) / 200.0 / sum(shares)
    names = [f"e{k:04}" for k in range(experts)]
    dice.shuffle(names)
    demands = [_demand(name, share * total, 15 * GB) for name, share in zip(names, shares, strict=True)]
    roots = [own.expert for own in demands if dice.random() < 2 / 3] or names[:1]
    demands = [
        own
        if own.expert in roots or not roots
        else replace(own, base=dice.choice(roots), bytes=0.1 * GB, load_s=0.1 / LINK_GB_S)
        for own in demands
    ]
    rates = {own.expert: own.rate for own in demands}
    pairs = [
        CoSelection(name, other, min(rates[name], rates[other]))
        for name in names
        for other in dice.sample(names, min(3, experts))
        if other != name
    ]
    return sorted(demands, key=lambda own: own.expert), pairs


def at_random(problem: Problem, dice: random.Random) -> Bools:
    """Every copy on any worker that does not have it yet."""
    x = np.zeros_like(problem.held)
    for e, number in enumerate(problem.copies):
        x[e, dice.sample(np.flatnonzero(problem.allowed[e]).tolist(), int(number))] = True
    return x


def in_turn(problem: Problem) -> Bools:
    """One worker after the other, in the order of the experts' names."""
    x, following = np.zeros_like(problem.held), 0
    for e, number in enumerate(problem.copies):
        for _ in range(int(number)):
            x[e, following % x.shape[1]] = True
            following += 1
    return x


def compare(
    problem: Problem, seed: int, solvers: dict[str, Callable[[Problem], Bools | None]]
) -> dict[str, dict[str, float]]:
    """Strategy -> balance (fullest over mean), apart (share of meetings), copies (of bytes), cost, seconds."""
    found: dict[str, dict[str, float]] = {}

    def told(x: Bools) -> dict[str, float]:
        own = terms(problem, x)
        return {"balance": own.balance, "meet": own.apart, "more_bytes": own.copies, "cost": cost(problem, x)}

    for name, solve in solvers.items():
        began = time.perf_counter()
        x = solve(problem)
        seconds = time.perf_counter() - began
        if x is not None:
            found[name] = told(x) | {"seconds": seconds}
    dice = random.Random(f"random {seed}")
    drawn = [told(at_random(problem, dice)) for _ in range(DRAWS)]
    found["random"] = {key: statistics.fmean(own[key] for own in drawn) for key in drawn[0]} | {"seconds": 0.0}
    found["in turn"] = told(in_turn(problem)) | {"seconds": 0.0}
    return found


def through_the_hour(jobs: Sequence[Job], there: Sequence[Worker], experts: int) -> dict[str, dict[str, float]]:
    """Strategy -> the balance of windows that were not known when it placed, and what it loaded."""
    windows = demands_of(jobs, experts)
    first = _mean_of(windows[:SURE])
    once = place(there, first)
    problem = make_problem(there, first, copies(there, first))
    drawn = at_random(problem, random.Random("hour"))
    fixed = {"random": problem.placement(drawn), "in turn": problem.placement(in_turn(problem)), "placed once": once}
    found = {name: _told(there, windows, [placement] * len(windows)) for name, placement in fixed.items()}
    used, changes = [once] * SURE, list[Change]()
    for k in range(SURE, len(windows)):
        change = replan(used[-1], there, windows[k - SURE : k], bounds=Bounds(windows=SURE))
        changes += [change] if change else []
        used.append(change.placement if change else used[-1])
    seconds = {"load_s": sum(change.seconds for change in changes), "changes": len(changes)}
    found["re-planned"] = _told(there, windows, used) | seconds
    fresh = [place(there, window) for window in windows]
    moved = [loads(before, after, windows[0]) for before, after in pairwise(fresh)]
    seconds = {"load_s": sum(load.seconds for own in moved for load in own), "changes": sum(map(bool, moved))}
    found["each as if known"] = _told(there, windows, fresh) | seconds
    return found


def demands_of(jobs: Sequence[Job], experts: int) -> list[list[Demand]]:
    """Of each window of WINDOW_S."""
    windows = []
    for k in range(WINDOWS):
        own = [job for job in jobs if k * WINDOW_S <= job.at < (k + 1) * WINDOW_S]
        of = {f"e{e:04}": [job.output_tokens for job in own if job.expert == f"e{e:04}"] for e in range(experts)}
        windows.append(
            [
                _demand(name, len(tokens) / WINDOW_S, 15 * GB, statistics.fmean(tokens) if tokens else 1.0)
                for name, tokens in of.items()
            ]
        )
    return windows


def _mean_of(windows: Sequence[Sequence[Demand]]) -> list[Demand]:
    return [replace(same[0], rate=statistics.fmean(own.load for own in same), tokens=1.0) for same in zip(*windows)]  # noqa: B905


def _told(there: Sequence[Worker], windows: Sequence[Sequence[Demand]], used: Sequence[Placement]) -> dict[str, float]:
    balances = []
    for window, placement in zip(windows, used, strict=True):
        problem = make_problem(there, window, {own.expert: 1 for own in window})
        balances.append(terms(problem, problem.matrix(placement)).balance)
    parts = {"before": (SURE, SHIFT), "unsure": (SHIFT, SHIFT + SURE), "later": (SHIFT + SURE, WINDOWS)}
    means = {name: statistics.fmean(balances[begin:end]) for name, (begin, end) in parts.items()}
    return means | {"load_s": 0.0, "changes": 0}


def hour(data: Path | None, experts: int, seed: int) -> list[Job]:
    """Requests for experts whose popularity is Zipf's, of exponent 1; at half time the last become the first."""
    names, lengths = [f"e{k:04}" for k in range(experts)], Lengths((1, 8000), (1, 1000))
    if data is None:
        jobs = zipf(19_000, names, 19_000 / (WINDOWS * WINDOW_S), 1.0, seed, Lengths((1, 8000), (1, 420)))
    else:
        jobs = azure(data / "traces" / "azure_llm_2023_conv.csv", 19_366, names, 1.0, seed, 1.0, 1.0, lengths)
    turned = {name: names[-1 - k] for k, name in enumerate(names)}
    return [job if job.at < SHIFT * WINDOW_S else replace(job, expert=turned[job.expert]) for job in jobs]


def of_mmlu_pro(data: Path, there: Sequence[Worker]) -> Problem:
    """Each prompt goes to the three experts that are best in its category; one request per second."""
    import duckdb

    rows = duckdb.execute(
        "select category, expert, avg(score), count(*) from read_parquet($1) group by all order by all",
        [str(data / "routing" / "mmlupro_13b.labelled.parquet")],
    ).fetchall()
    scores: dict[str, list[tuple[float, str, int]]] = {}
    for category, expert, score, count in rows:
        scores.setdefault(category, []).append((score, expert, count))
    total = sum(own[0][2] for own in scores.values())
    rates, together = dict.fromkeys(sorted({row[1] for row in rows}), 0.0), dict[tuple[str, str], float]()
    for own in scores.values():
        best = sorted(name for _, name, _ in sorted(own, reverse=True)[:3])
        share = own[0][2] / total
        for k, name in enumerate(best):
            rates[name] += share
            for other in best[k + 1 :]:
                together[name, other] = together.get((name, other), 0.0) + share
    demands = [_demand(name, rate, 15 * GB) for name, rate in rates.items()]
    pairs = [CoSelection(one, other, rate) for (one, other), rate in together.items()]
    return make_problem(there, demands, copies(there, demands), pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with traces/ and routing/")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figures: dict[str, Any] = {"small": against_the_program(options.seed)}
    print("(1) greedy against the integer program")
    print("\n".join(f"  {name}: {value:.4g}" for name, value in figures["small"].items()))

    columns = ("balance", "meet", "more_bytes", "cost", "seconds")
    for experts, count, exponent in ((100, 8, 1.0), (1000, 64, 1.0), (1000, 64, 0.6)):
        there = workers(count, nodes=max(2, count // 4), device=15 * GB * experts / count * 1.3)
        demands, pairs = pool(experts, there, exponent, options.seed)
        problem = make_problem(there, demands, copies(there, demands), pairs)
        found = compare(problem, options.seed, {"greedy": greedy.solve})
        _print(
            f"(2) {experts} experts on {count} workers, Zipf {exponent}, {problem.copies.sum()} copies", found, columns
        )
        figures[f"{experts} on {count}, Zipf {exponent}"] = found

    there = workers(8, nodes=4, speed=250.0)
    figures["hour"] = through_the_hour(hour(options.data, 64, options.seed), there, 64)
    _print("(3) an hour, 64 experts on 8 workers", figures["hour"], ("before", "unsure", "later", "load_s", "changes"))
    if options.data is not None:
        problem = of_mmlu_pro(options.data, workers(4, nodes=2))
        solvers: dict[str, Callable[[Problem], Bools | None]] = {
            "program": lambda own: exact.solve(own, 60.0)[0],
            "greedy": greedy.solve,
        }
        figures["mmlu_pro"] = compare(problem, options.seed, solvers)
        _print(f"(4) MMLU-Pro: {len(problem.demands)} experts on 4 workers", figures["mmlu_pro"], columns)
    settings = {"seed": options.seed, "data": "Azure conversations" if options.data else "Poisson", "draws": DRAWS}
    emit(settings, figures, options.json)


def _print(title: str, found: dict[str, dict[str, float]], columns: Sequence[str]) -> None:
    rows = [[name, *(f"{own[column]:.3f}" for column in columns)] for name, own in found.items()]
    print(f"\n{title}\n{table(['', *columns], rows)}")


if __name__ == "__main__":
    main()
