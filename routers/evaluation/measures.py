"""What an evaluation counts: bootstrap intervals, calibration, and what calls to a strong expert buy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
BINS = 10
CUTS = 10
"""Parts that the prompts are cut into by the strong expert's lead: 11 thresholds, as in RouteLLM's evaluation."""


def intervals(values: Floats, *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Percentile bootstrap of column means: (m, 2) lower and upper ends for values (n, m).

    A row is a prompt, and whole rows are drawn. With differences of two methods' scores on the same prompts in a column
    the bootstrap is paired (Koehn, EMNLP 2004). The same seed gives the same draws for every column.
    """
    n, rng = len(values), np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for draw in range(resamples):
        means[draw] = np.bincount(rng.integers(0, n, n), minlength=n) @ values / n
    ends: Floats = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0).T
    return ends


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far predicted scores can be believed.

    ece: expected calibration error in [0, 1]: the mean over 10 equally wide bins, by the number in each, of the
        distance between mean prediction and mean score (Naeini et al., AAAI 2015).
    brier: mean squared distance between prediction and score.
    bins: (mean prediction, mean score, number) of each bin that has any.
    """

    ece: float
    brier: float
    bins: tuple[tuple[float, float, int], ...]


def calibration(predicted: Floats, scores: Floats) -> Calibration:
    """predicted, scores: arrays of one shape, in [0, 1]; pairs whose score is nan do not count."""
    known = ~np.isnan(scores)
    p, s = predicted[known], scores[known]
    place = np.minimum((p * BINS).astype(np.intp), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    used = counts > 0
    mean_p = np.bincount(place, p, BINS)[used] / counts[used]
    mean_s = np.bincount(place, s, BINS)[used] / counts[used]
    return Calibration(
        ece=float(np.average(np.abs(mean_p - mean_s), weights=counts[used])),
        brier=float(np.mean((p - s) ** 2)),
        bins=tuple(zip(mean_p.tolist(), mean_s.tolist(), counts[used].tolist(), strict=True)),
    )


@dataclass(frozen=True, slots=True)
class Trade:
    """What a router gets out of calls to the strong expert (RouteLLM, arXiv 2406.18665, section 4.1).

    strong_share: (11,) share of prompts that go to the strong expert, rising from 0 to 1; quality: the mean score then.
    apgr: average performance gap recovered: the area between `quality` and the weak expert's score, as a share of that
        between strong and weak. 0.5 is random, 1 the strong expert's quality with next to no calls of it.
    cpt: 50 and 80 -> share of calls to the strong expert that recovers so many per cent of the gap.
    """

    strong_share: tuple[float, ...]
    quality: tuple[float, ...]
    apgr: float
    cpt: dict[int, float]


def trade(lead: Floats, strong: Floats, weak: Floats, recovered: Sequence[int] = (50, 80)) -> Trade | None:
    """lead: (n,) how much better the strong expert is expected to be; strong, weak: (n,) the scores of both.

    As in RouteLLM's `evals/evaluate.py`: thresholds at the deciles of `lead`, prompts at the threshold or above it go
    to the strong expert (at the highest one none), area by the trapezoid rule, share of calls by interpolation.
    None if the strong expert is not better on these prompts: then there is no gap to recover.
    """
    low, high = float(weak.mean()), float(strong.mean())
    if high <= low:
        return None
    thresholds = np.quantile(lead, np.linspace(0, 1, CUTS + 1))
    chosen = [lead >= threshold for threshold in thresholds[:-1]] + [np.zeros(len(lead), np.bool_)]
    points = sorted((float(up.mean()), float(np.where(up, strong, weak).mean())) for up in chosen)
    share, quality = np.array(points).T
    area = np.trapezoid(quality - low, share) / ((high - low) * (share[-1] - share[0]))
    return Trade(
        strong_share=tuple(share.tolist()),
        quality=tuple(quality.tolist()),
        apgr=float(area),
        cpt={per_cent: float(np.interp(low + per_cent / 100 * (high - low), quality, share)) for per_cent in recovered},
    )
