"""How fast a route is decided, with the static encoder and with MiniLM, on one core; and what the fast one costs.

    python -m benchmarks.route_speed [--json] [--home DIR] [--prompts N] [--data DIR]

Decisions at batch 1 beside the encoder alone on the same prompts, in the same run; no vector is cached. The largest
router has 1,000 experts and 10,000 skills, drawn at random. With --data the routers are fitted on each labelled set
with both encoders and judged on its held-out part.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import emit, table
from benchmarks.routed import ROUTERS, SEED, Case, both_encoders, cases, home, starter_case
from routers.base import Router
from routers.encoders.base import Encoder
from routers.encoders.minilm import MiniLMEncoder
from routers.evaluation.measures import intervals
from routers.labelled.data import Labelled
from routers.skill.model import FittedSkills, Skills
from routers.skill.profile import Profiles, Shrinkage
from routers.skill.recruit import Weighting
from routers.skill.router import SkillRouter
from routers.skill.vocabulary import Vocabulary

WARM_UP = 20
BATCH = 256
THREADS = 16
EXPERTS, SKILLS = 1_000, 10_000
LARGE = f"skill, {EXPERTS} experts, {SKILLS} skills"


@contextmanager
def one_core() -> Iterator[None]:
    """This process and its threads keep to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def milliseconds(calls: Sequence[Callable[[str], object]], prompts: Sequence[str]) -> list[tuple[float, float, float]]:
    """(p50, p99, p50 of processor time) of each call; the calls take turns on the same prompts, one prompt at a time.

    On a machine that others use as well the processor time says what the call costs, the time on the wall what it took.
    """
    for prompt in prompts[:WARM_UP]:
        for call in calls:
            call(prompt)
    times = np.zeros((2, len(calls), len(prompts)))
    for place, prompt in enumerate(prompts):
        for which, call in enumerate(calls):
            began, busy = time.perf_counter(), time.process_time()
            call(prompt)
            times[:, which, place] = time.perf_counter() - began, time.process_time() - busy
    wall, cpu = 1e3 * times
    p50, p99 = np.quantile(wall, [0.5, 0.99], axis=1)
    return list(zip(p50.tolist(), p99.tolist(), np.median(cpu, axis=1).tolist(), strict=True))


def per_second(call: Callable[[], object], items: int) -> float:
    began = time.perf_counter()
    call()
    return items / (time.perf_counter() - began)


def together(router: Router, prompts: Sequence[str], experts: Sequence[str]) -> float:
    """Decisions a second when many threads ask for one each."""
    with ThreadPoolExecutor(THREADS) as pool:
        return per_second(lambda: list(pool.map(lambda prompt: router.route(prompt, experts), prompts)), len(prompts))


def measure(router: Router, encoder: Encoder, prompts: Sequence[str], experts: Sequence[str]) -> dict[str, float]:
    with one_core():
        alone, decided = milliseconds([lambda p: encoder.encode([p]), lambda p: router.route(p, experts)], prompts)
        batched = per_second(lambda: [router.route_many(prompts[i : i + BATCH], experts) for i in
                                      range(0, len(prompts), BATCH)], len(prompts))  # fmt: skip
        before = encoder.passes if isinstance(encoder, MiniLMEncoder) else 0
        threads = together(router, prompts, experts)
    figures = {
        "encode_p50_ms": alone[0],
        "decision_p50_ms": decided[0],
        "decision_p99_ms": decided[1],
        "decision_cpu_p50_ms": decided[2],
        "batched_per_s": batched,
        "threads_per_s": threads,
    }
    if isinstance(encoder, MiniLMEncoder):
        figures["prompts_per_pass"] = len(prompts) / (encoder.passes - before)
    return figures


def large(encoder: Encoder, experts: int = EXPERTS, skills: int = SKILLS) -> SkillRouter:
    """A skill router of as many experts and skills at random: what it decides means nothing, how long it takes does."""
    rng = np.random.default_rng(SEED)
    vectors = rng.standard_normal((skills, encoder.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    profiles = Profiles(
        experts=tuple(f"expert-{i}" for i in range(experts)),
        level=rng.random(experts),
        field=rng.normal(0, 0.1, skills),
        profile=rng.normal(0, 0.1, (skills, experts)),
        items=np.ones((skills, experts)),
        total=np.full(experts, 100.0),
        shrinkage=Shrinkage(1.0, 1.0, 0.0),
    )
    vocabulary = Vocabulary(tuple(f"skill-{i}" for i in range(skills)), vectors, (skills,), -1.0, 5, 0.1)
    return SkillRouter(
        FittedSkills(
            encoder=encoder.name,
            source="encoder",
            skills=Skills(vocabulary),
            profiles=profiles,
            weighting=Weighting(0.0, 2.0),
            slope=1.0,
            trimmed=(),
        ),
        encoder,
    )


def chosen_scores(router: Router, held_out: Labelled) -> NDArray[np.float64]:
    """(n,): the measured score of the expert that each prompt goes to; nan = not measured."""
    columns = {expert: place for place, expert in enumerate(held_out.experts)}
    routes = router.route_many(held_out.prompts, held_out.experts)
    return held_out.scores[np.arange(len(routes)), [columns[route.experts[0]] for route in routes]]


def quality(case: Case, encoders: Mapping[str, Encoder]) -> dict[str, Any]:
    """Mean score of the chosen expert with each router and encoder, in per cent, and what the static encoder loses."""
    figures: dict[str, Any] = {}
    for name, router in ROUTERS.items():
        scores = {label: chosen_scores(router.fit_labelled(case.train, encoder, seed=SEED), case.test)
                  for label, encoder in encoders.items()}  # fmt: skip
        lost = scores["minilm"] - scores["static"]
        known = lost[~np.isnan(lost)]
        low, high = intervals(known[:, None])[0]
        figures[name] = {label: 100 * float(np.nanmean(score)) for label, score in scores.items()}
        figures[name] |= {"lost": 100 * float(known.mean()), "interval": [100 * float(low), 100 * float(high)]}
    return figures


def speeds(case: Case, encoders: Mapping[str, Encoder], count: int) -> dict[str, dict[str, float]]:
    """ "router, encoder" -> figures, and the table of them."""
    found: dict[str, dict[str, float]] = {}
    prompts = case.test.prompts[:count]
    for label, encoder in encoders.items():
        for name, router in ROUTERS.items():
            fitted = router.fit_labelled(case.train, encoder, seed=SEED)
            found[f"{name}, {label}"] = measure(fitted, encoder, prompts, case.train.experts)
        largest = large(encoder)
        found[f"{LARGE}, {label}"] = measure(largest, encoder, prompts, largest.experts)
    header = (
        "",
        "encode p50 ms",
        "p50 ms",
        "p99 ms",
        "cpu p50 ms",
        "batched/s",
        f"{THREADS} threads/s",
        "prompts a pass",
    )
    rows = [(name, *(f"{value:.2f}" if value < 100 else f"{value:.0f}" for value in row.values()))
            for name, row in found.items()]  # fmt: skip
    print(table(header, [row + ("",) * (len(header) - len(row)) for row in rows]))
    return {name: {key: round(value, 3) for key, value in row.items()} for name, row in found.items()}


def qualities(data: Path, encoders: Mapping[str, Encoder]) -> dict[str, Any]:
    """Set -> figures, and the table of them."""
    found: dict[str, Any] = {}
    rows = []
    for case in cases(data):
        found[case.name] = quality(case, encoders)
        for name, row in found[case.name].items():
            low, high = row["interval"]
            rows.append((f"{case.name}, {name}", row["minilm"], row["static"], row["lost"], f"{low:.1f} .. {high:.1f}"))
    print(table(("held-out score in %", "minilm", "static", "lost", "95 % interval"), rows))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--home", type=Path, help="folder of the static encoder (default: COE_HOME or ~/.coe)")
    parser.add_argument("--prompts", type=int, default=360, help="prompts of a measurement, at most 360 (default 360)")
    parser.add_argument("--data", type=Path, help="folder with labelled sets, for the quality of both encoders")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads that it has made already would use other cores
    encoders = both_encoders(home(arguments.home))
    case = starter_case()
    figures: dict[str, Any] = {"speed": speeds(case, encoders, arguments.prompts)}
    if arguments.data:
        figures["quality"] = qualities(arguments.data, encoders)
    words = [len(prompt.split()) for prompt in case.test.prompts[: arguments.prompts]]
    settings = {
        "prompts": len(words),
        "words_p50": int(np.median(words)),
        "fitted_on": len(case.train.ids),
        "cores": 1,
        "batch": BATCH,
        "threads": THREADS,
    }
    emit(settings, figures, arguments.json)


if __name__ == "__main__":
    main()
