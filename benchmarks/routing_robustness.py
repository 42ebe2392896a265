"""Does a route stay when the prompt is written otherwise? The ways are those of `routers.evaluation.perturb`.

    python -m benchmarks.routing_robustness [--json] [--home DIR] [--prompts N] [--data DIR]

For each perturbation: the share of the changed prompts that keep the set of their experts, for one expert and for
three, beside the share that chance would keep, and what the experts of the changed prompts score instead. Prompts go
through `routers.ask` first, as in the service; "bare" is the share without it. Without --data the prompts are the
starter pool's.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import emit, table
from benchmarks.routed import ROUTERS, SEED, Case, both_encoders, cases, home, starter_case
from routers.ask import ask
from routers.encoders.base import Encoder
from routers.evaluation.perturb import PERTURBATIONS, perturbed
from routers.evaluation.robustness import kept

SEVERAL = 3


def as_served(text: str) -> str:
    """What the service routes on when the text is a user's message."""
    return ask([{"role": "user", "content": text}])


def robustness(case: Case, encoders: Mapping[str, Encoder], count: int) -> dict[str, Any]:
    """ "router, encoder" -> perturbation -> figures, and the table of them."""
    places = np.random.default_rng(SEED).permutation(len(case.test.ids))[:count]
    test = case.test.rows(np.sort(places))
    figures: dict[str, Any] = {}
    for label, encoder in encoders.items():
        for name, router in ROUTERS.items():
            fitted = router.fit_labelled(case.train, encoder, seed=SEED)
            found = figures[f"{name}, {label}"] = {}
            for perturbation in PERTURBATIONS:
                after = perturbed(test.prompts, perturbation, SEED)
                one, three, bare = (
                    kept(fitted, test.prompts, after, test.experts, k, read=read, scores=test.scores)
                    for k, read in ((1, as_served), (SEVERAL, as_served), (1, str))
                )
                found[perturbation] = asdict(one) | {"same_3": three.same, "by_chance_3": three.by_chance}
                found[perturbation] |= {"bare": bare.same, "bare_score": bare.score}
    return figures


def show(name: str, figures: Mapping[str, Any]) -> None:
    """A table for each router and encoder, in per cent."""
    header = ("changed", "kept", "by chance", "kept of 3", "by chance", "bare", "score before", "after", "bare")
    keys = ("same", "by_chance", "same_3", "by_chance_3", "bare", "score_before", "score", "bare_score")
    for router, rows in figures.items():
        cells = [(way, row["changed"], *(100 * row[key] for key in keys)) for way, row in rows.items()]
        print("\n" + table((f"{name}: {router}", *header), cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--home", type=Path, help="folder of the static encoder (default: COE_HOME or ~/.coe)")
    parser.add_argument("--prompts", type=int, default=300, help="held-out prompts of each set (default 300)")
    parser.add_argument("--data", type=Path, help="folder with labelled sets")
    arguments = parser.parse_args()
    encoders = both_encoders(home(arguments.home), cache=1 << 16)
    figures = {}
    for case in cases(arguments.data) if arguments.data else [starter_case()]:
        figures[case.name] = robustness(case, encoders, arguments.prompts)
        show(case.name, figures[case.name])
    emit({"prompts": arguments.prompts, "seed": SEED}, figures, arguments.json)


if __name__ == "__main__":
    main()
