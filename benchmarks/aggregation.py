"""Do votes of several experts pay, and how many calls do they take? Stored answers of labelled sets, replayed.

    python -m benchmarks.aggregation --data DIR [--json] [--picture FILE] [--vectors DIR]

For every set `*.labelled.parquet` with the columns `answer` and `gold`, a router is fitted on the splits but `test` and
judged there; a set without `test` is judged on `val`. The router and the number of calls are chosen by cross-validation
on the fitted prompts. `benchmarks.aggregation_live` asks a running service.
"""

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aggregators.answers import extract
from benchmarks.aggregation_replay import ALWAYS, SEATS, Replay, replay
from benchmarks.report import emit, table
from benchmarks.routed import SEED, cases, embedded
from routers.encoders.minilm import MiniLMEncoder
from routers.evaluation.decisions import Floats
from routers.evaluation.plots import Series, plot
from routers.fitted import fit_labelled

HEADER = ("method", "score %", "calls", "waves", "gain", "95 % interval")
COLOURS = ("#1f6feb", "#c2410c", "#15803d", "#7c3aed", "#b45309", "#0e7490")
SINGLE = "#555555"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of *.labelled.parquet files")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--picture", type=Path, help="write an SVG of score against calls to this file")
    parser.add_argument("--vectors", type=Path, help="folder that keeps the prompts' vectors between runs")
    arguments = parser.parse_args()
    encoder = MiniLMEncoder(threads=os.cpu_count() or 1)
    sets: dict[str, dict[str, Any]] = {}
    replays = []
    for case in cases(arguments.data):
        if case.test.answers is None or case.test.gold is None or len(case.test.experts) < SEATS:
            print(f"{case.name} is left out: it takes the answers of {SEATS} experts, and the right ones")
            continue
        vectors = embedded(case, encoder, arguments.vectors)
        began = time.perf_counter()
        router = fit_labelled(case.train, vectors, seed=SEED, normalise=extract)
        seconds = time.perf_counter() - began
        found = replay(router, case)
        replays.append(found)
        sets[case.name] = figures(found) | {
            "fitted": len(case.train),
            "judged": len(case.test),
            "experts": len(case.test.experts),
            "router": router.facts.several,
            "fit_seconds": round(seconds, 1),
        }
        print(
            f"\n{case.name}: {len(case.train):,} prompts to fit, {len(case.test):,} to judge, {len(case.test.experts)} "
            f"experts; votes by the router {router.facts.several}; fitted in {seconds:.0f} s"
        )
        print(told(found), flush=True)
    if not sets:
        raise SystemExit(f"no set in {arguments.data} has the columns answer and gold")
    if arguments.picture:
        arguments.picture.write_text(picture(replays))
        print(f"wrote {arguments.picture}")
    # One set is all that most folders have: then its figures stand at the top too.
    whole = {"sets": sets} | (next(iter(sets.values())) if len(sets) == 1 else {})
    emit({"data": str(arguments.data), "encoder": encoder.name, "seed": SEED}, whole, arguments.json)


def figures(found: Replay) -> dict[str, Any]:
    """Scores in per cent; gains and intervals in points, over the best single expert by the fitted prompts."""
    single, five = found.methods["best_single"].scores, found.methods[f"vote_{SEATS}"].scores
    dynamic, router = found.methods["dynamic"], found.methods["router_top_1"].scores
    scores = {key: percent(method.scores.mean()) for key, method in found.methods.items()}
    leads = {key: found.lead(key, single) for key in found.methods if key != "best_single"}
    return {
        "best_single": scores["best_single"],
        "vote_3": scores["vote_3"],
        "vote_5": scores["vote_5"],
        "dynamic_accuracy": scores["dynamic"],
        "dynamic_mean_calls": round(float(dynamic.calls.mean()), 3),
        "dynamic_mean_waves": round(float(dynamic.waves.mean()), 3),
        "patience": found.patience,
        "scores": scores,
        "calls": {key: round(float(method.calls.mean()), 3) for key, method in found.methods.items()},
        "gains": {key: round(gain, 2) for key, (gain, _, _) in leads.items()},
        "intervals": {key: [round(low, 2), round(high, 2)] for key, (_, low, high) in leads.items()},
        "best_single_in_hindsight": percent(found.hindsight.mean()),
        "over_hindsight": {
            key: [round(end, 2) for end in found.lead(key, found.hindsight)] for key in ("vote_3", "vote_5", "dynamic")
        },
        "over_router": {
            key: [round(end, 2) for end in found.lead(key, router)] for key in ("vote_3", "vote_5", "dynamic")
        },
        "over_equal_votes": {
            f"vote_{k}": [round(end, 2) for end in found.lead(f"vote_{k}", found.methods[f"plain_{k}"].scores)]
            for k in ALWAYS
        },
        "dynamic_over_vote_5": [round(end, 2) for end in found.lead("dynamic", five)],
        "self_consistency": None,
        "curves": {
            str(k): [[round(calls, 3), percent(score)] for calls, score in curve] for k, curve in found.curves.items()
        },
    }


def told(found: Replay) -> str:
    """The table of a set, and what it does not show."""
    single, five = found.methods["best_single"].scores, found.methods[f"vote_{SEATS}"].scores
    rows: list[Sequence[object]] = []
    for key, method in found.methods.items():
        gain, low, high = found.lead(key, single)
        compared = ("", "") if key == "best_single" else (f"{gain:+.2f}", f"{low:+.2f} to {high:+.2f}")
        waves = f"{method.waves.mean():.2f}"
        rows.append((method.name, percent(method.scores.mean()), f"{method.calls.mean():.2f}", waves, *compared))
    learned = ", ".join(
        f"vote_{k} {_with_interval(found.lead(f'vote_{k}', found.methods[f'plain_{k}'].scores))}" for k in ALWAYS
    )
    others = {
        f"best single expert in hindsight, {percent(found.hindsight.mean()):.1f} %": found.hindsight,
        "router's first choice": found.methods["router_top_1"].scores,
    }
    return "\n".join(
        [
            table(HEADER, rows),
            *(f"over the {name}: {_leads(found, scores)}" for name, scores in others.items()),
            f"over equal votes of the category's best: {learned}",
            f"dynamic against the vote of {SEATS}: {_with_interval(found.lead('dynamic', five))}",
            "self-consistency at equal calls: not known, for one answer of each expert is stored",
        ]
    )


def _leads(found: Replay, over: Floats) -> str:
    return ", ".join(f"{key} {_with_interval(found.lead(key, over))}" for key in ("vote_3", "vote_5", "dynamic"))


def _with_interval(lead: tuple[float, float, float]) -> str:
    return f"{lead[0]:+.2f} ({lead[1]:+.2f} to {lead[2]:+.2f})"


def picture(replays: Sequence[Replay]) -> str:
    """Score against mean calls, a file that stands alone: what each number of seats gets by falling patience."""
    series = []
    for found in replays:
        own = "" if len(replays) == 1 else f"{found.name}: "
        for colour, (k, curve) in zip(COLOURS, found.curves.items(), strict=False):
            points = [(calls, 100 * score) for calls, score in curve]
            series.append(Series(f"{own}{k} seats", colour, points, line=True))
        chosen = found.methods["dynamic"]
        marked: Mapping[str, tuple[float, float]] = {
            "best single": (1.0, 100 * found.methods["best_single"].scores.mean()),
            "router": (1.0, 100 * found.methods["router_top_1"].scores.mean()),
            "all 3": (3.0, 100 * found.methods["vote_3"].scores.mean()),
            "all 5": (5.0, 100 * found.methods["vote_5"].scores.mean()),
            f"patience {found.patience:g}": (float(chosen.calls.mean()), 100 * float(chosen.scores.mean())),
        }
        labels = [f"{own}{name}" for name in marked]
        series.append(Series(f"{own}chosen", SINGLE, list(marked.values()), labels=labels))
    svg, _, _ = plot(series, "mean calls", "right answers, %").partition("</svg>")
    opened = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" '
    names = "".join(
        f'<text x="560" y="{200 + 18 * place}" fill="{own.colour}">{own.name}</text>'
        for place, own in enumerate(series)
        if own.line
    )
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    head, _, body = svg.partition(">")
    return head.replace("<svg ", opened, 1) + ">" + ground + body + names + "</svg>\n"


def percent(share: float) -> float:
    return round(100 * float(share), 2)


if __name__ == "__main__":
    main()
