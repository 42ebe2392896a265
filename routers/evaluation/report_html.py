"""An evaluation as one HTML file: no scripts, nothing loaded from elsewhere. docs/routing.md says how to read it."""

from collections.abc import Sequence
from html import escape

import numpy as np

from routers.evaluation.decisions import scored
from routers.evaluation.evaluate import Evaluation, categories
from routers.evaluation.plots import Series, dots, matrix, plot
from routers.evaluation.report import CLAIMED, NAMES, percent, points, verdict, warning

COLOURS = {
    "random": "#8c959f",
    "best single": "#57606a",
    "two-level": "#1f6feb",
    "skill": "#bf8700",
    "both together": "#0a7f8c",
    "default": "#cf222e",
    "category oracle": "#8250df",
    "prompt oracle": "#2da44e",
    "vote of 3": "#d4548e",
    "vote of 5": "#9a3412",
}
MOST_CATEGORIES = 40
"""Rows of a plot. The largest categories are shown, and how many are not is said."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #1f2328; }
table { border-collapse: collapse; } th, td { padding: .2rem .8rem .2rem 0; text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 1px solid #888; }
svg { max-width: 100%; height: auto; overflow: visible; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.legend span { margin-right: 1.2rem; white-space: nowrap; }
.warning { border-left: 4px solid #cf222e; padding-left: 1rem; }
"""


def page(evaluation: Evaluation, title: str) -> str:
    """The whole file. title: what was evaluated, as text."""
    data = evaluation.data
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{len(data):,} prompts, {len(data.experts)} experts, {escape(evaluation.how)}. Best single expert: "
        f"{escape(evaluation.best_single)}, the best on the fitted prompts.</p>",
        *([f'<p class="warning">{escape(warning(evaluation))}</p>'] if evaluation.seen else []),
        _summary(evaluation),
        *_claims(evaluation),
        _section("Gap to the oracle", _gap(evaluation)),
        _section("Quality against cost", _cost(evaluation)),
        _section("Categories", _categories(evaluation)),
        _section("Calibration", _calibration(evaluation)),
        _section("Confusion", _confusion(evaluation)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(heading: str, content: str) -> str:
    return f"<h2>{heading}</h2>\n{content}"


def _shown(evaluation: Evaluation) -> list[str]:
    return [name for name in NAMES if name in evaluation.methods]


def _summary(evaluation: Evaluation) -> str:
    header = "<tr><th></th><th>score %</th><th>gain</th><th>95 % interval</th><th>mean cost</th></tr>"
    rows = []
    for name in _shown(evaluation):
        cells = [NAMES[name], f"{percent(evaluation.mean(name))}", "", "", ""]
        if name != "best_single":
            low, high = (points(end) for end in evaluation.intervals[name])
            cells[2:4] = [f"{points(evaluation.gain(name)):+}", f"{low:+} to {high:+}"]
        if name in evaluation.costs:
            cells[4] = f"{evaluation.costs[name].mean():#.4g}"
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<table><thead>{header}</thead><tbody>{''.join(rows)}</tbody></table>"


def _claims(evaluation: Evaluation) -> list[str]:
    told = [verdict(evaluation, name) for name in CLAIMED if name in evaluation.methods]
    return ["<ul>", *(f"<li>{escape(sentence)}.</li>" for sentence in told), "</ul>"]


def _gap(evaluation: Evaluation) -> str:
    names = _shown(evaluation)
    single = evaluation.mean("best_single")
    spans = {
        NAMES[name]: (100 * (single + evaluation.intervals[name][0]), 100 * (single + evaluation.intervals[name][1]))
        for name in names
        if name != "best_single"
    }
    rows = {NAMES[name]: {"mean": 100 * evaluation.mean(name)} for name in names}
    gap = evaluation.gain("prompt_oracle")
    closed = evaluation.gain("default") / gap if gap > 0 else 0.0
    return (
        f"<p>The default closes {percent(closed)} % of the gap between best single expert and prompt oracle. Bars are "
        "95 % intervals of the lead over the best single expert.</p>"
        + dots(rows, {"mean": COLOURS["default"]}, "score, %", spans)
    )


def _cost(evaluation: Evaluation) -> str:
    data = evaluation.data
    if evaluation.costs:
        return _by_price(evaluation)
    if evaluation.trades:
        assert evaluation.pair is not None
        series = [
            Series(NAMES[name], COLOURS[NAMES[name]], _percents(zip(t.strong_share, t.quality, strict=True)), line=True)
            for name, t in evaluation.trades.items()
        ]
        strong, weak = evaluation.pair
        ends = [(0.0, float(data.scores[:, data.experts.index(weak)].mean()))]
        ends.append((1.0, float(data.scores[:, data.experts.index(strong)].mean())))
        series.append(Series("at random", COLOURS["random"], _percents(ends), line=True))
        return plot(series, f"calls to {strong}, %", "score, %")
    calls = {"best_single": 1, "default": 1, "vote_3": 3, "vote_5": 5}
    asked = [name for name in calls if name in evaluation.methods]
    series = [Series(NAMES[name], COLOURS[NAMES[name]], [(calls[name], 100 * evaluation.mean(name))]) for name in asked]
    return "<p>The file has no costs: a call is what a prompt costs here.</p>" + plot(
        series, "calls a prompt", "score, %"
    )


def _by_price(evaluation: Evaluation) -> str:
    data = evaluation.data
    assert data.costs is not None
    series = []
    if evaluation.frontier:
        line = [(cost, 100 * score) for cost, score in evaluation.frontier]
        series.append(Series("default at rising prices", "#f0a3a8", line, line=True))
    both = [(i, data.costs[:, i]) for i in range(len(data.experts))]
    known = [(i, float(np.nanmean(costs))) for i, costs in both if not np.isnan(costs).all()]
    means = data.means()
    series.append(
        Series(
            "expert",
            "#afb8c1",
            [(cost, 100 * means[i]) for i, cost in known],
            labels=[data.experts[i] for i, _ in known],
        )
    )
    for name in _shown(evaluation):
        if name in evaluation.costs:
            at = (float(evaluation.costs[name].mean()), 100 * evaluation.mean(name))
            series.append(Series(NAMES[name], COLOURS[NAMES[name]], [at]))
    return plot(series, "mean cost of a prompt, in the file's unit", "score, %")


def _percents(points: "zip[tuple[float, float]] | list[tuple[float, float]]") -> list[tuple[float, float]]:
    return [(100 * x, 100 * y) for x, y in points]


def _categories(evaluation: Evaluation) -> str:
    found = categories(evaluation)
    if not found:
        return "<p>The file has no categories.</p>"
    largest = sorted(found, key=lambda category: -len(found[category]))[:MOST_CATEGORIES]
    names = ("best_single", "default", "category_oracle", "prompt_oracle")
    methods = [(NAMES[name], evaluation.methods[name]) for name in names if name in evaluation.methods]
    rows = {
        f"{category} ({len(found[category])})": {name: 100 * float(s[found[category]].mean()) for name, s in methods}
        for category in largest
    }
    return _left_out(len(found)) + dots(rows, {name: COLOURS[name] for name, _ in methods}, "score, %")


def _left_out(count: int) -> str:
    left = count - MOST_CATEGORIES
    return f"<p>The {MOST_CATEGORIES} largest; {left} smaller ones are not drawn.</p>" if left > 0 else ""


def _calibration(evaluation: Evaluation) -> str:
    series = [
        Series(NAMES[name], COLOURS[NAMES[name]], [(p, s) for p, s, _ in found.bins], line=True)
        for name, found in evaluation.calibrations.items()
        if name != "default"
    ]
    errors = "; ".join(
        f"{NAMES[name]}: error {100 * found.ece:.1f} points, Brier score {found.brier:.3f}"
        for name, found in evaluation.calibrations.items()
        if name != "default"
    )
    return f"<p>{errors}. On the dashed line predictions come true.</p>" + plot(
        series, "predicted score", "score", diagonal=True, height=420
    )


def _confusion(evaluation: Evaluation) -> str:
    """Categories, true against routed to; without categories the chosen expert against the score that it got."""
    data = evaluation.data
    routed = evaluation.decided["two_level"].categories
    if data.categories is None or not set(routed) & set(data.categories):
        return _experts(evaluation)
    found = categories(evaluation)
    rows = sorted(sorted(found, key=lambda category: -len(found[category]))[:MOST_CATEGORIES])
    columns = [*rows, *sorted({str(name) for name in routed} - set(rows))][: MOST_CATEGORIES + 1]
    shares = [[sum(routed[i] == column for i in found[row]) / len(found[row]) for column in columns] for row in rows]
    right = sum(own == to for own, to in zip(data.categories, routed, strict=True)) / len(data)
    return (
        f"<p>The two-level router sends {percent(right)} % of the prompts to their own category.</p>"
        + _left_out(len(found))
        + matrix(rows, columns, shares, "Rows: the prompt's category. Columns: where it was sent, in % of the row.")
    )


def _experts(evaluation: Evaluation) -> str:
    data, chosen = evaluation.data, evaluation.decided["default"].chosen
    best = np.where(data.measured, data.scores, -np.inf)
    rows: list[str] = []
    shares: list[Sequence[float]] = []
    for column, expert in enumerate(data.experts):
        at = chosen == column
        if at.any():
            rows.append(f"{expert} ({at.sum()})")
            reached = best[at] == best[at].max(axis=1, keepdims=True)
            shares.append(reached.mean(axis=0).tolist())
    lost = float((best.max(axis=1) - scored(data, chosen)).mean())
    return f"<p>The chosen expert scores {percent(lost)} points less than the best one of each prompt.</p>" + matrix(
        rows, data.experts, shares, "Rows: the chosen expert. Columns: how often each was (one of) the best, in %."
    )
