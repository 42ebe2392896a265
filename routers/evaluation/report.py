"""An evaluation as one JSON object, and as lines for a terminal. docs/routing.md says how to read it.

Scores are in per cent with one decimal, gains and their intervals in points (of per cent) with two.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from routers.evaluation.decisions import VOTES
from routers.evaluation.evaluate import ROUTED, Evaluation, categories

NAMES = {
    "random": "random",
    "best_single": "best single",
    "two_level": "two-level",
    "skill": "skill",
    "both": "both together",
    "default": "default",
    "category_oracle": "category oracle",
    "prompt_oracle": "prompt oracle",
    **{f"vote_{k}": f"vote of {k}" for k in VOTES},
}
"""Method -> what people call it, in the order in which methods are shown."""

CLAIMED = (*ROUTED, *(f"vote_{k}" for k in VOTES))
"""Methods for which a gain is claimed or refused. The oracles cannot be had, random is not wanted."""


def percent(share: float) -> float:
    return round(100 * share, 1) + 0.0  # never -0.0


def points(share: float) -> float:
    return round(100 * share, 2) + 0.0


def verdict(evaluation: Evaluation, method: str) -> str:
    """One sentence on the method's gain over the best single expert. No gain is claimed if it may be none."""
    expert, name = evaluation.best_single, NAMES[method]
    low, high = (points(end) for end in evaluation.intervals[method])
    if method == "default" and set(evaluation.defaults) == {"best_single"}:
        return f"default is the best single expert: no gain over {expert} is shown"
    gain, interval = points(evaluation.gain(method)), f"95 % interval {low} to {high}"
    if evaluation.intervals[method][0] > 0:
        return f"{name} gains {gain} points over {expert} ({interval})"
    if evaluation.intervals[method][1] < 0:
        return f"{name} loses {-gain} points against {expert} ({interval})"
    return f"{name}: no gain over {expert} is shown ({gain} points, {interval})"


def as_object(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as `coe router eval --json` prints it; None where there is no such figure."""
    data = evaluation.data
    means = {name: percent(evaluation.mean(name)) for name in evaluation.methods}
    experts = dict(zip(data.experts, map(percent, data.means().tolist()), strict=True))
    hindsight = max(experts, key=lambda expert: experts[expert])
    return {
        "n": len(data),
        "how": evaluation.how,
        "unit": "percent",
        **{name: means.get(name) for name in NAMES if not name.startswith("vote")},
        "vote": {str(k): means.get(f"vote_{k}") for k in VOTES},
        "gain": _nested(evaluation, lambda name: points(evaluation.gain(name))),
        "interval": _nested(evaluation, lambda name: [points(end) for end in evaluation.intervals[name]]),
        "verdict": {name: verdict(evaluation, name) for name in CLAIMED if name in evaluation.methods},
        "best_single_expert": evaluation.best_single,
        "best_in_hindsight": {"expert": hindsight, "score": experts[hindsight]},
        "default_model": Counter(evaluation.defaults).most_common(1)[0][0],
        "seen_in_fit": evaluation.seen,
        "experts": experts,
        "votes": {name: {str(k): _voted(evaluation, name, k) for k in VOTES} for name in ("best_single", *ROUTED[:-1])},
        "calibration": {
            name: {"ece": round(found.ece, 4), "brier": round(found.brier, 4)}
            for name, found in evaluation.calibrations.items()
        },
        "categories": {
            category: {"n": len(at)} | {name: percent(float(scores[at].mean())) for name, scores in _single(evaluation)}
            for category, at in categories(evaluation).items()
        },
        "cost": {name: float(cost.mean()) for name, cost in evaluation.costs.items()} or None,
        "pair": _pair(evaluation),
    }


def _single(evaluation: Evaluation) -> list[tuple[str, Any]]:
    return [(name, evaluation.methods[name]) for name in NAMES if name in evaluation.methods]


def _nested(evaluation: Evaluation, of: Callable[[str], Any]) -> dict[str, Any]:
    """Method -> figure, the votes in an object of their own; without best_single, which is what is compared with."""
    names = [name for name in NAMES if name != "best_single"]
    plain = {name: of(name) if name in evaluation.methods else None for name in names if not name.startswith("vote")}
    return plain | {"vote": {str(k): of(f"vote_{k}") if f"vote_{k}" in evaluation.methods else None for k in VOTES}}


def _voted(evaluation: Evaluation, model: str, k: int) -> float | None:
    voted = evaluation.decided[model].voted
    return percent(float(evaluation.data.scores[range(len(evaluation.data)), voted[k]].mean())) if k in voted else None


def _pair(evaluation: Evaluation) -> dict[str, Any] | None:
    if evaluation.pair is None:
        return None
    strong, weak = evaluation.pair
    return {
        "strong": strong,
        "weak": weak,
        **{
            name: {"apgr": round(found.apgr, 4)}
            | {f"cpt_{recovered}": percent(share) for recovered, share in found.cpt.items()}
            for name, found in evaluation.trades.items()
        },
    }


def lines(evaluation: Evaluation) -> list[str]:
    """The evaluation for a terminal."""
    data = evaluation.data
    costs = {name: f"{cost.mean():#.4g}" for name, cost in evaluation.costs.items()}
    rows = [["", "score %", "gain", "95 % interval", *(["cost"] if costs else [])]]
    for name in NAMES:
        if name not in evaluation.methods:
            continue
        row = [NAMES[name], f"{percent(evaluation.mean(name))}", "", ""]
        if name != "best_single":
            low, high = evaluation.intervals[name]
            row[2:] = [f"{points(evaluation.gain(name)):+.2f}", f"{points(low):+.2f} to {points(high):+.2f}"]
        rows.append([*row, *([costs.get(name, "unknown")] if costs else [])])
    counted = Counter(evaluation.defaults)
    default = ", ".join(
        NAMES[name] + (f" ({number} of {len(evaluation.defaults)} folds)" if len(counted) > 1 else "")
        for name, number in counted.most_common()
    )
    out = [
        f"{len(data):,} prompts, {len(data.experts)} experts, {evaluation.how}",
        "",
        *aligned(rows),
        "",
        f"best single: {evaluation.best_single}, the best on the fitted prompts",
        f"default: {default}, chosen by cross-validation on the fitted prompts",
        *(verdict(evaluation, name) for name in CLAIMED if name in evaluation.methods),
        *(
            f"calibration of {NAMES[name]}: error {100 * found.ece:.1f} points, Brier score {found.brier:.3f}"
            for name, found in evaluation.calibrations.items()
            if name != "default"
        ),
    ]
    if evaluation.pair is not None:
        strong, weak = evaluation.pair
        out.append(f"strong: {strong}, weak: {weak}")
        out += [
            f"{NAMES[name]}: APGR {found.apgr:.3f}, "
            + ", ".join(f"CPT({share}) {percent(calls)} %" for share, calls in found.cpt.items())
            for name, found in evaluation.trades.items()
        ]
        if not evaluation.trades:
            out.append(f"{strong} is not better than {weak} on these prompts: there is no gap to recover")
    if evaluation.seen:
        out.append(warning(evaluation))
    return out


def warning(evaluation: Evaluation) -> str:
    """What is to be said if the router was fitted on some of these prompts."""
    return (
        f"{evaluation.seen:,} of the {len(evaluation.data):,} prompts are among those that the router was fitted on: "
        "the figures flatter it"
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
